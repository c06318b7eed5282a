"""Tensors that commands write, and the rule from logical index to (word, lane)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Space = Literal["scratchpad", "residual", "score", "exponential", "query", "queue", "memory"]
Layout = Literal[
    "rows",
    "last",
    "wide",
    "transposed",
    "scores",
    "logits",
    "exponentials",
    "queries",
    "positions",
    "accumulated",
    "queue",
]


@dataclass(frozen=True)
class Location:
    """Where the elements of a tensor lie: arrays of the tensor's shape.

    ``word`` and ``lane`` address the space; ``occurrence`` counts the writes of that place within the command: the
    element is what the ``occurrence``-th of them leaves (buffers are used several times in a command).
    """

    word: np.ndarray
    lane: np.ndarray
    occurrence: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor that a command writes, and the rule from logical index to (word, lane).

    Parameters
    ----------
    name:
        Name of the golden tensor. ``first_row`` and ``first_channel`` are the golden indices of what is row 0 (for
        ``scores``, ``exponentials`` and ``queries``: head 0) and channel 0 here.
    space:
        Memory that is written.
    shape:
        Logical shape of the written part, without padding.
    layout:
        ``rows``: (row, channel), a row every ``stride`` words. ``last``: the same, written several times, the last
        write counts. ``wide``: a value in two lanes. ``transposed``: (row, channel) with rows along the lanes, a
        channel every ``stride`` words. ``scores``, ``exponentials``: (head, query, key). ``queries``: (head, query).
        ``logits``: (token, expert) in the score buffer. ``positions``: (queue entry, channel), a row every queue
        position. ``accumulated``: rows, written once for each expert of a token. ``queue``: (token, rank) entries of
        queues. For ``positions`` and ``accumulated`` routing decides the places: ``shape`` is the largest there may be.
    base, stride:
        First word and words from one row (or channel) to the next.
    lanes:
        Elements of a word: T, or P for the score buffer.
    block, block_words:
        Channels of a block that starts at a word of its own (one attention head), and the words it takes.
    elements:
        P, for the layouts that work in tiles of P queries or experts.
    room:
        Words between the two halves of a double buffer (``scores``, ``exponentials``, ``queries``).
    extent:
        Words from ``base`` on that belong to the tensor, padding included.
    padding:
        What padding lanes hold if they are written; None if it does not matter.
    signed:
        Whether lanes hold two's complement.
    """

    name: str
    space: Space
    shape: tuple[int, ...]
    layout: Layout = "rows"
    base: int = 0
    stride: int = 0
    lanes: int
    block: int = 0
    block_words: int = 0
    elements: int = 0
    room: int = 0
    first_row: int = 0
    first_channel: int = 0
    extent: int = 0
    padding: int | None = 0
    signed: bool = True

    def _channel(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Word offset and lane of channels, each block from a word of its own."""
        if self.block:
            index = index // self.block * self.block_words * self.lanes + index % self.block
        return index // self.lanes, index % self.lanes

    def locate(self) -> Location:
        """Word, lane and occurrence of every element (of its low half for ``wide``)."""
        index = np.indices(self.shape, sparse=True)
        zero = np.zeros(self.shape, np.int64)
        if self.layout in ("rows", "last"):
            return self.locate_rows(index[0], index[1])
        if self.layout == "wide":
            return self.locate_rows(index[0], 2 * index[1])
        if self.layout == "transposed":
            offset, lane = self._channel(index[1])
            channel = offset * self.lanes + lane
            word = self.base + channel * self.stride + index[0] // self.lanes
            return Location(zero + word, zero + index[0] % self.lanes, zero)
        if self.layout == "logits":
            word = index[1] // self.elements * self.shape[0] + index[0]
            return Location(zero + word, zero + index[1] % self.elements, zero)
        if self.layout in ("scores", "exponentials", "queries"):
            head, query = index[:2]
            key = index[2] if len(index) > 2 else np.int64(0)
            job = head * -(-self.shape[1] // self.elements) + query // self.elements
            word, lane = self.base + job % 2 * self.room + key, query % self.elements
            if self.layout == "exponentials":
                word = self.base + job % 2 * self.room + key // self.lanes
                lane = key % self.lanes * self.elements + lane
            return Location(zero + word, zero + lane, zero + job // 2)
        raise ValueError(f"tensor '{self.name}' with layout '{self.layout}' has no fixed place")

    def locate_rows(self, rows: np.ndarray, channels: np.ndarray, occurrence: np.ndarray | int = 0) -> Location:
        """Places of ``channels`` of token-major ``rows``; arguments broadcast."""
        offset, lane = self._channel(channels)
        word = self.base + rows * self.stride + offset
        return Location(*np.broadcast_arrays(word, lane, occurrence))

    @property
    def row_words(self) -> int:
        """Words of one of its ``rows``; the stride is larger where other tensors' rows lie between them."""
        return int(self._channel(np.array(self.shape[1] - 1))[0]) + 1

    @property
    def width(self) -> int:
        """Elements of a word as :meth:`locate` counts lanes."""
        return self.lanes * self.elements if self.layout == "exponentials" else self.lanes
