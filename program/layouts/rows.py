"""Layouts of matrices by rows, one word after another, and of one by columns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np

from tessera.program.layouts.base import FixedLayout, Location, Queues, Rewrites


class RowsOf(StrEnum):
    """What the rows of a matrix are."""

    TOKENS = "tokens"
    PATCHES = "patches"
    OUTPUTS = "outputs"


_AXES = {
    RowsOf.TOKENS: ("token", "channel"),
    RowsOf.PATCHES: ("patch", "channel"),
    RowsOf.OUTPUTS: ("output", "input"),
}


def channel_place(channel: np.ndarray, lanes: int, block: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Word offset within a row and lane of channels; each ``block`` of channels starts at a word of its own."""
    if block is None:
        return channel // lanes, channel % lanes
    words = -(-block // lanes)
    return channel // block * words + channel % block // lanes, channel % block % lanes


def row_words(channels: int, lanes: int, block: int | None) -> int:
    """Words of a row of ``channels``."""
    return int(channel_place(np.array(channels - 1), lanes, block)[0]) + 1


@dataclass(frozen=True, kw_only=True)
class Rows(FixedLayout):
    """A matrix (row, channel): a row every ``stride`` words, other tensors' words may lie between rows.

    Parameters
    ----------
    lanes:
        Lanes of a word.
    stride:
        Words from one row to the next.
    base:
        First word.
    block:
        Channels of a block that starts at a word of its own (one attention head); None if channels follow each other.
    first_row, first_channel:
        Golden indices of row 0 and channel 0.
    padding:
        What padding lanes hold if they are written.
    signed:
        Whether lanes hold two's complement.
    of:
        What the rows are.
    """

    tag: ClassVar[str] = "rows"

    lanes: int
    stride: int
    base: int = 0
    block: int | None = None
    first_row: int = 0
    first_channel: int = 0
    padding: int = 0
    signed: bool = True
    of: RowsOf = RowsOf.TOKENS

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of an element's index."""
        return _AXES[self.of]

    @property
    def first(self) -> tuple[int, int]:
        """Golden indices of the first element."""
        return self.first_row, self.first_channel

    @property
    def row_words(self) -> int:
        """Words of a row; ``stride`` is larger where other tensors' rows lie between them."""
        return row_words(self.shape[1], self.lanes, self.block)

    @property
    def extent(self) -> int:
        """Words from the first row's first to the last row's last."""
        return (self.shape[0] - 1) * self.stride + self.row_words

    @property
    def width(self) -> int:
        """Lanes of a word."""
        return self.lanes

    def contains(self, word: np.ndarray) -> np.ndarray:
        """Mask of the words of the space that belong to the tensor."""
        return super().contains(word) & ((word - self.base) % self.stride < self.row_words)

    def locate(self, queues: Queues = ()) -> Location:
        """Place of every element."""
        row, channel = np.indices(self.shape, sparse=True)
        return self.place(row, channel)

    def place(self, row: np.ndarray, channel: np.ndarray) -> Location:
        """Places of some elements; arguments broadcast."""
        offset, lane = channel_place(channel, self.lanes, self.block)
        return Location(*np.broadcast_arrays(self.base + row * self.stride + offset, lane, np.int64(0)))

    def token(self, index: tuple[int, ...], queues: Queues = ()) -> int | None:
        """Token that an index belongs to; a patch is none yet."""
        return index[0] if self.of is RowsOf.TOKENS else None


@dataclass(frozen=True, kw_only=True)
class LastRows(Rows):
    """Rows that a command writes several times, of which the last write counts.

    Parameters
    ----------
    elements:
        As for :class:`TiledRows`, where rows are added to such; None for others.
    """

    tag: ClassVar[str] = "last"
    rewrites: ClassVar[Rewrites] = Rewrites.LAST

    elements: int | None = None

    @property
    def tile(self) -> int | None:
        """Elements of a tile whose padding lanes hold anything."""
        return self.elements


@dataclass(frozen=True, kw_only=True)
class ListedRows(Rows):
    """Rows of a golden tensor in the order of a list.

    Parameters
    ----------
    listed:
        Golden index of each row; ``first_row`` does not count.
    """

    tag: ClassVar[str] = "listed"

    listed: tuple[int, ...]

    def part(self, golden: np.ndarray) -> np.ndarray:
        """Elements of a whole golden tensor that lie here."""
        return golden[list(self.listed), self.first_channel : self.first_channel + self.shape[1]]

    def index(self, element: int, queues: Queues = ()) -> tuple[int, ...]:
        """Index of an element in the golden tensor, by ``axes``."""
        row, channel = divmod(element, self.shape[1])
        return self.listed[row], channel + self.first_channel


@dataclass(frozen=True, kw_only=True)
class ApartRows(ListedRows):
    """Rows of a golden tensor between which others lie: each as far from ``base`` as it is from ``first_row``.

    Parameters
    ----------
    elements:
        As for :class:`TiledRows`, where rows are added to such; None for others.
    """

    tag: ClassVar[str] = "apart"

    elements: int | None = None

    @property
    def extent(self) -> int:
        """Words from the first that any row could have to the last row's last."""
        return (max(self.listed) - self.first_row) * self.stride + self.row_words

    @property
    def tile(self) -> int | None:
        """Elements of a tile whose padding lanes hold anything."""
        return self.elements

    def place(self, row: np.ndarray, channel: np.ndarray) -> Location:
        """Places of some elements; arguments broadcast."""
        return super().place(np.asarray(self.listed)[row] - self.first_row, channel)


@dataclass(frozen=True, kw_only=True)
class TiledRows(Rows):
    """Rows whose channels are written P at a time, as with swapped roles: the last P's padding holds anything.

    Parameters
    ----------
    elements:
        Channels that are written at a time, P.
    """

    tag: ClassVar[str] = "tiled"

    elements: int

    @property
    def tile(self) -> int | None:
        """Elements of a tile whose padding lanes hold anything."""
        return self.elements


@dataclass(frozen=True, kw_only=True)
class WideRows(FixedLayout):
    """A matrix (token, channel) whose values take two lanes each, the low half first.

    Parameters
    ----------
    lanes:
        Lanes of a word.
    stride:
        Words from one row to the next.
    base:
        First word.
    """

    tag: ClassVar[str] = "wide"
    lanes_per_value: ClassVar[int] = 2

    lanes: int
    stride: int
    base: int = 0

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of an element's index."""
        return _AXES[RowsOf.TOKENS]

    @property
    def extent(self) -> int:
        """Words of all rows."""
        return self.shape[0] * self.stride

    @property
    def width(self) -> int:
        """Lanes of a word."""
        return self.lanes

    def locate(self, queues: Queues = ()) -> Location:
        """Place of the low half of every element."""
        row, channel = np.indices(self.shape, sparse=True)
        offset, lane = channel_place(2 * channel, self.lanes, None)
        return Location(*np.broadcast_arrays(self.base + row * self.stride + offset, lane, np.int64(0)))

    def token(self, index: tuple[int, ...], queues: Queues = ()) -> int | None:
        """Token that an index belongs to."""
        return index[0]


@dataclass(frozen=True, kw_only=True)
class Transposed(FixedLayout):
    """A matrix (token, channel) with tokens along the lanes, a channel every ``stride`` words.

    The tokens of each window begin at a word.

    Parameters
    ----------
    lanes:
        Lanes of a word.
    stride:
        Words from one channel to the next.
    block:
        Channels of an attention head, whose last words have padding channels.
    base:
        First word.
    first_row, first_channel:
        Golden indices of token 0 and channel 0.
    window:
        Tokens of a window; None if all tokens are one.
    window_stride:
        Words from one window to the next.
    """

    tag: ClassVar[str] = "transposed"

    lanes: int
    stride: int
    block: int
    base: int = 0
    first_row: int = 0
    first_channel: int = 0
    window: int | None = None
    window_stride: int = 0

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of an element's index."""
        return _AXES[RowsOf.TOKENS]

    @property
    def first(self) -> tuple[int, int]:
        """Golden indices of the first element."""
        return self.first_row, self.first_channel

    @property
    def extent(self) -> int:
        """Words of all channels, with those that are padding."""
        words = row_words(self.shape[1], self.lanes, self.block) * self.lanes * self.stride
        return words + (self._windows - 1) * self.window_stride if self.window_stride > self.stride else words

    @property
    def _windows(self) -> int:
        return self.shape[0] // self.window if self.window else 1

    @property
    def width(self) -> int:
        """Lanes of a word."""
        return self.lanes

    def locate(self, queues: Queues = ()) -> Location:
        """Place of every element."""
        token, channel = np.indices(self.shape, sparse=True)
        offset, lane = channel_place(channel, self.lanes, self.block)
        window, token = np.divmod(token, self.window or self.shape[0])
        word = self.base + (offset * self.lanes + lane) * self.stride + token // self.lanes
        return Location(*np.broadcast_arrays(word + window * self.window_stride, token % self.lanes, np.int64(0)))

    def token(self, index: tuple[int, ...], queues: Queues = ()) -> int | None:
        """Token that an index belongs to."""
        return index[0]
