"""Layouts in tiles of P elements: the gate's logits, and what attention keeps in double buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tessera.program.layouts.base import FixedLayout, Location, Queues, Rewrites


@dataclass(frozen=True, kw_only=True)
class GateLogits(FixedLayout):
    """Gate scores (token, expert) in the score buffer: tiles of P experts, all tokens of one after another.

    Parameters
    ----------
    elements:
        Elements of a tile, P.
    """

    tag: ClassVar[str] = "logits"

    elements: int

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of an element's index."""
        return "token", "expert"

    @property
    def extent(self) -> int:
        """Words of all tiles."""
        return -(-self.shape[1] // self.elements) * self.shape[0]

    @property
    def width(self) -> int:
        """Elements of a word."""
        return self.elements

    def locate(self, queues: Queues = ()) -> Location:
        """Place of every element."""
        token, expert = np.indices(self.shape, sparse=True)
        word = expert // self.elements * self.shape[0] + token
        return Location(*np.broadcast_arrays(word, expert % self.elements, np.int64(0)))

    def token(self, index: tuple[int, ...], queues: Queues = ()) -> int | None:
        """Token that an index belongs to."""
        return index[0]


@dataclass(frozen=True, kw_only=True)
class _HeadTiles(FixedLayout):
    """Tiles of P queries of one head after another, in turn in the two halves of a double buffer.

    A tensor of several windows has one axis more, in front of the others.

    Parameters
    ----------
    elements:
        Queries of a tile, P.
    first_head:
        Golden index of head 0.
    first_window:
        Golden index of window 0, if there are several.
    first_query:
        Golden index of query 0, if there are no windows.
    """

    rewrites: ClassVar[Rewrites] = Rewrites.NEXT
    names: ClassVar[tuple[str, ...]] = ("window", "head", "query", "key")
    """Names of the axes of several windows."""

    elements: int
    first_head: int = 0
    first_window: int = 0
    first_query: int = 0

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of an element's index."""
        return self.names[-len(self.shape) :]

    @property
    def first(self) -> tuple[int, int]:
        """Golden indices of the first element."""
        return (self.first_window, self.first_head) if self.axes[0] == "window" else (self.first_head, self.first_query)

    @property
    def _queries(self) -> int:
        return self.shape[self.axes.index("query")]

    @property
    def tile(self) -> int | None:
        """Elements of a tile: the last tile's padding queries hold anything."""
        return self.elements

    def token(self, index: tuple[int, ...], queues: Queues = ()) -> int | None:
        """Token of the query: those of a window follow those of the window before."""
        place = dict(zip(self.axes, index, strict=True))
        return place.get("window", 0) * self._queries + place["query"]

    def _job(self, *place: np.ndarray) -> np.ndarray:
        """Number of the tile that a query of a (window and) head is in; even ones go to the buffer's first half."""
        *window, head, query = place
        if window:
            head = window[0] * self.shape[1] + head
        return head * -(-self._queries // self.elements) + query // self.elements


@dataclass(frozen=True, kw_only=True)
class ScoreTiles(_HeadTiles):
    """Attention scores ((window,) head, query, key): a word of P queries for each key.

    Parameters
    ----------
    room:
        Words between the two halves of the buffer.
    """

    tag: ClassVar[str] = "scores"

    room: int

    @property
    def extent(self) -> int:
        """Words from the first half's first to the second half's last."""
        return self.room + self.shape[-1]

    @property
    def width(self) -> int:
        """Elements of a word."""
        return self.elements

    def locate(self, queues: Queues = ()) -> Location:
        """Place of every element."""
        *place, query, key = np.indices(self.shape, sparse=True)
        job = self._job(*place, query)
        return Location(*np.broadcast_arrays(job % 2 * self.room + key, query % self.elements, job // 2))


@dataclass(frozen=True, kw_only=True)
class ExponentialTiles(_HeadTiles):
    """Exponentials ((window,) head, query, key) in the banks: keys along the lanes of a word in each of P banks.

    Parameters
    ----------
    lanes:
        Lanes of a bank's word.
    room:
        Words between the two halves of the buffer.
    base:
        First word.
    """

    tag: ClassVar[str] = "exponentials"

    lanes: int
    room: int
    base: int = 0

    @property
    def signed(self) -> bool:
        """Whether values are two's complement."""
        return False

    @property
    def extent(self) -> int:
        """Words from the first half's first to the second half's last."""
        return self.room + -(-self.shape[-1] // self.lanes)

    @property
    def width(self) -> int:
        """Lanes of a word in all banks."""
        return self.lanes * self.elements

    def locate(self, queues: Queues = ()) -> Location:
        """Place of every element."""
        *place, query, key = np.indices(self.shape, sparse=True)
        job = self._job(*place, query)
        word = self.base + job % 2 * self.room + key // self.lanes
        return Location(*np.broadcast_arrays(word, key % self.lanes * self.elements + query % self.elements, job // 2))


@dataclass(frozen=True, kw_only=True)
class QueryScaleTiles(_HeadTiles):
    """Multipliers or shifts ((window,) head, query) of the attention's result: one word for each half of the buffer.

    Parameters
    ----------
    base:
        First word.
    """

    tag: ClassVar[str] = "queries"
    names: ClassVar[tuple[str, ...]] = ("window", "head", "query")

    base: int = 0

    @property
    def signed(self) -> bool:
        """Whether values are two's complement."""
        return False

    @property
    def extent(self) -> int:
        """Words of both halves."""
        return 2

    @property
    def width(self) -> int:
        """Elements of a word."""
        return self.elements

    def locate(self, queues: Queues = ()) -> Location:
        """Place of every element."""
        *place, query = np.indices(self.shape, sparse=True)
        job = self._job(*place, query)
        return Location(*np.broadcast_arrays(self.base + job % 2, query % self.elements, job // 2))
