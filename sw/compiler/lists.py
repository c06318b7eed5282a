"""Where lists of rows lie in the memory of the experts' queues, and which it still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessera.sw.compiler.operations import RegionAccess

QUEUES = "queues"
"""Region of the whole memory, whose rows are its entries: lists and queues of all layers share it."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A list at its first entry, for the tasks whose frames load it; None for all."""

    rows: tuple[int, ...]
    access: RegionAccess
    tasks: tuple[int, ...] | None

    def serves(self, tasks: tuple[int, ...] | None) -> bool:
        """Whether all of these tasks load it."""
        return self.tasks is None or (tasks is not None and set(tasks) <= set(self.tasks))


class Lists:
    """Gives each list the next free entries, round and round.

    Parameters
    ----------
    entries:
        Entries of the memory.

    Attributes
    ----------
    longest:
        Rows of a list at most: half of the entries, so that one can be loaded while another is in use.
    """

    def __init__(self, entries: int) -> None:
        self._entries, self.longest = entries, entries // 2
        self._next = 0
        self._held: list[_Held] = []

    def find(self, rows: Sequence[int], tasks: tuple[int, ...] | None) -> RegionAccess | None:
        """Entries that hold a list already, in every frame of these tasks."""
        return next((one.access for one in self._held if one.rows == tuple(rows) and one.serves(tasks)), None)

    def place(self, rows: Sequence[int], tasks: tuple[int, ...] | None) -> RegionAccess:
        """Entries for a list that frames of these tasks load."""
        assert len(rows) <= self.longest, "a longer list is loaded in parts"
        first = self._next if self._next + len(rows) <= self._entries else 0
        self._next = first + len(rows)
        access = RegionAccess(region=QUEUES, first=first, rows=len(rows))
        self.overwrite(access)
        self._held.append(_Held(rows=tuple(rows), access=access, tasks=tasks))
        return access

    def overwrite(self, access: RegionAccess) -> None:
        """Something else is written to some entries."""
        self._held = [one for one in self._held if not one.access.overlaps(access)]
