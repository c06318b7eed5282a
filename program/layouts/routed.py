"""Layouts that routing decides: rows of the experts' queues, and the queues' entries."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tessera.program.layouts.base import Layout, Location, Queues, Rewrites, WordLayout, occurrences
from tessera.program.layouts.rows import channel_place, row_words


@dataclass(frozen=True, kw_only=True)
class RoutedRows(WordLayout):
    """Rows of all experts' queues, the experts ascending; ``shape`` is (most rows, channels).

    Parameters
    ----------
    lanes:
        Lanes of a word.
    stride:
        Words from one row to the next.
    base:
        First word.
    padding:
        What padding lanes hold if they are written.
    signed:
        Whether lanes hold two's complement.
    elements:
        As for :class:`~tessera.program.layouts.rows.TiledRows`, where rows are added to such; None for others.
    """

    rewrites: ClassVar[Rewrites] = Rewrites.NEXT

    lanes: int
    stride: int
    base: int = 0
    padding: int = 0
    signed: bool = True
    elements: int | None = None

    @property
    def tile(self) -> int | None:
        """Elements of a tile whose padding lanes hold anything."""
        return self.elements

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of an element's index."""
        return "expert", "position", "channel"

    @property
    def extent(self) -> int:
        """Words from the first row's first to the last row's last."""
        return (self.shape[0] - 1) * self.stride + row_words(self.shape[1], self.lanes, None)

    @property
    def width(self) -> int:
        """Lanes of a word."""
        return self.lanes

    @abstractmethod
    def rows(self, queues: Queues) -> np.ndarray:
        """Row of every queue entry."""

    def locate(self, queues: Queues = ()) -> Location:
        """Place of every element of the queues' rows: (entries of all queues, channels)."""
        if not queues:
            raise ValueError(f"places of layout '{self.tag}' depend on routing; give the experts' queues")
        row = self.rows(queues)
        offset, lane = channel_place(np.arange(self.shape[1]), self.lanes, None)
        word = self.base + row[:, None] * self.stride + offset
        return Location(*np.broadcast_arrays(word, lane, occurrences(row)[:, None]))

    def part(self, golden: np.ndarray) -> np.ndarray:
        """All of ``golden``, the rows of all queues."""
        return golden

    def index(self, element: int, queues: Queues = ()) -> tuple[int, ...]:
        """Expert, position in its queue, and channel of an element."""
        row, channel = divmod(element, self.shape[1])
        ends = np.cumsum([len(queue) for queue in queues])
        expert = int(np.searchsorted(ends, row, side="right"))
        return expert, row - int(ends[expert]) + len(queues[expert]), channel

    def token(self, index: tuple[int, ...], queues: Queues = ()) -> int | None:
        """Token that an index belongs to."""
        return int(queues[index[0]][index[1]])


class QueuePositions(RoutedRows):
    """A row at every queue position, which each expert's queue uses anew."""

    tag: ClassVar[str] = "positions"

    def rows(self, queues: Queues) -> np.ndarray:
        """Row of every queue entry: its position."""
        return np.concatenate([np.arange(len(queue)) for queue in queues])


class Accumulated(RoutedRows):
    """A row at every token, written once for each expert of the token."""

    tag: ClassVar[str] = "accumulated"

    def rows(self, queues: Queues) -> np.ndarray:
        """Row of every queue entry: its token."""
        return np.concatenate(queues)


@dataclass(frozen=True, kw_only=True)
class QueueEntries(Layout):
    """Fields of the entries (token, rank) that the gate appends to queues, in this order of time.

    Parameters
    ----------
    fields:
        Fields of an entry that belong to the tensor: ``expert``, ``position``, ``token`` or ``weight``.
    """

    tag: ClassVar[str] = "queue"

    fields: tuple[str, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of an element's index."""
        return "token", "rank"

    def expected_entries(self, experts: np.ndarray, weights: np.ndarray, queues: Queues) -> np.ndarray:
        """Fields of the entries, (entries, fields).

        Parameters
        ----------
        experts, weights:
            Chosen experts of each token, best first, and their weights: (token, rank).
        queues:
            Queues that the entries make.
        """
        chosen = experts.reshape(-1)
        tokens = np.repeat(np.arange(len(experts)), experts.shape[1])
        positions = [int(np.searchsorted(queues[expert], token)) for expert, token in zip(chosen, tokens, strict=True)]
        columns = {
            "expert": chosen,
            "position": positions,
            "token": [queues[expert][position] for expert, position in zip(chosen, positions, strict=True)],
            "weight": weights.reshape(-1),
        }
        return np.stack([np.asarray(columns[field], np.int64) for field in self.fields], axis=1)
