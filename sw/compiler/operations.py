"""Operations: what becomes a command, with the pieces of memory that it reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tessera.hw.isa import EVERYTHING, Follow, Unit

NOTHING = Unit(0)
"""No unit: a command after nothing starts as soon as its own unit is free."""
Place = Literal["scratchpad", "residual", "score", "queue", "function", "memory"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A piece of an on-chip memory, or of the rows that wait in external memory.

    Parameters
    ----------
    name:
        Name of the tensor in it, and of what is added to that.
    space:
        The memory. Those that have one place for one tensor need no allocation.
    words:
        Its size.
    """

    name: str
    space: Place
    words: int = 0


@dataclass(frozen=True, kw_only=True)
class RegionAccess:
    """Rows of a region that an operation reads or writes, in order.

    Parameters
    ----------
    region:
        Name of the region.
    first, rows:
        First row, and number of rows.
    """

    region: str
    first: int = 0
    rows: int = 1

    def covers(self, other: RegionAccess) -> bool:
        """Whether it reaches as far as the other's last row."""
        return self.region == other.region and self.first + self.rows >= other.first + other.rows

    def overlaps(self, other: RegionAccess) -> bool:
        """Whether both touch a row."""
        apart = self.first + self.rows <= other.first or other.first + other.rows <= self.first
        return self.region == other.region and not apart


@dataclass(frozen=True, kw_only=True)
class Order:
    """When a command runs.

    Parameters
    ----------
    after:
        Units that must be idle before the command starts.
    follow:
        Unit whose rows the command reads while that unit writes them.
    """

    after: Unit = EVERYTHING
    follow: Follow = Follow.NOTHING


@dataclass(frozen=True, kw_only=True)
class MachineOperation:
    """One command to be.

    Parameters
    ----------
    unit:
        The unit that runs it; None for END.
    emit:
        Writes the command with an :class:`~tessera.sw.compiler.emission.Emitter`, once addresses and order are known.
    reads, writes:
        What it touches.
    row_by_row:
        Whether it reads its first access row by row, so that it may follow what writes that.
    in_rows:
        Whether it writes row by row, so that others may follow it.
    settles:
        Whether the engine takes no other job before everything of this one is written.
    alone:
        Whether nothing may run beside it.
    awaits:
        Units that it waits for whatever they touch.
    tasks:
        Indices of the tasks that run it; None for all.
    """

    unit: Unit | None
    emit: Callable[[Any, Order], None]
    reads: tuple[RegionAccess, ...] = ()
    writes: tuple[RegionAccess, ...] = ()
    row_by_row: bool = False
    in_rows: bool = False
    settles: bool = False
    alone: bool = False
    awaits: Unit = NOTHING
    tasks: tuple[int, ...] | None = None

    def runs(self, task: int) -> bool:
        """Whether ``task`` runs it."""
        return self.tasks is None or task in self.tasks
