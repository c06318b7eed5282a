"""What all layouts have in common: shape, axes, and for those in words the table of what each place must hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, ClassVar

import numpy as np

Queues = Sequence[np.ndarray]
"""Tokens of each expert, in the order of its queue."""


@dataclass(frozen=True)
class Location:
    """Where the elements of a tensor lie: arrays of the tensor's shape.

    ``word`` and ``lane`` address the space. ``occurrence`` counts the writes of that place within the command: the
    element is what the ``occurrence``-th of them leaves (buffers are used several times in a command).
    """

    word: np.ndarray
    lane: np.ndarray
    occurrence: np.ndarray


@dataclass(frozen=True)
class ExpectedWords:
    """What a command must write.

    Parameters
    ----------
    values:
        Values of the elements.
    words:
        Raw bits of every lane, padding included: (occurrences, extent, width).
    element:
        Number of the element in every lane, -1 for padding; shape of ``words``.
    """

    values: np.ndarray
    words: np.ndarray
    element: np.ndarray


class Rewrites(Enum):
    """What several writes of one place within a command mean."""

    SAME = "each must leave the same element"
    LAST = "only the last one counts"
    NEXT = "each leaves another element: its occurrence"


def occurrences(places: np.ndarray) -> np.ndarray:
    """For each of ``places``, in order of time, how often it came before."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.int64)
    counts = np.diff(np.r_[starts, len(ordered)])
    found = np.empty(len(ordered), np.int64)
    found[order] = np.arange(len(ordered)) - np.repeat(starts, counts)
    return found


@dataclass(frozen=True, kw_only=True)
class Layout(ABC):
    """How the elements of a tensor lie in a memory.

    Parameters
    ----------
    shape:
        Logical shape of the written part, without padding; the largest there may be where routing decides.
    """

    tag: ClassVar[str]
    """Name of the layout in files and messages."""

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of an element's index."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {"layout": self.tag, **asdict(self)}


class WordLayout(Layout):
    """A layout in words of lanes.

    ``base`` is the tensor's first word. ``padding`` is what padding lanes hold if they are written. Where ``tile`` is
    not None, padding lanes hold anything, but only in tiles of so many elements that have an element.
    """

    rewrites: ClassVar[Rewrites] = Rewrites.SAME
    lanes_per_value: ClassVar[int] = 1

    @property
    def base(self) -> int:
        """First word."""
        return 0

    @property
    def padding(self) -> int:
        """Value of padding lanes."""
        return 0

    @property
    def signed(self) -> bool:
        """Whether values are two's complement."""
        return True

    @property
    def tile(self) -> int | None:
        """Elements of a tile whose padding lanes hold anything."""
        return None

    @property
    @abstractmethod
    def extent(self) -> int:
        """Words from ``base`` on that belong to the tensor, padding included."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Lanes of a word."""

    @abstractmethod
    def locate(self, queues: Queues = ()) -> Location:
        """Place of every element, of its low lane where it takes several.

        Raises
        ------
        ValueError
            If routing decides the places and ``queues`` are not given.
        """

    @abstractmethod
    def part(self, golden: np.ndarray) -> np.ndarray:
        """Elements of a whole golden tensor, or of the rows of all queues, that lie here."""

    @abstractmethod
    def index(self, element: int, queues: Queues = ()) -> tuple[int, ...]:
        """Index of an element in the golden tensor, by ``axes``."""

    @abstractmethod
    def token(self, index: tuple[int, ...], queues: Queues = ()) -> int | None:
        """Token that an index belongs to; None if it belongs to none."""

    def contains(self, word: np.ndarray) -> np.ndarray:
        """Mask of the words of the space that belong to the tensor."""
        return (word >= self.base) & (word < self.base + self.extent)

    def expected_words(self, values: np.ndarray, bits: int, queues: Queues = ()) -> ExpectedWords:
        """What every place must hold, in lanes of ``bits``, for the integer ``values`` of :meth:`part`."""
        values = values.astype(np.int64)
        place = self.locate(queues)
        shape = (int(place.occurrence.max(initial=0)) + 1, self.extent, self.width)
        mask = (1 << bits) - 1
        words = np.full(shape, self.padding & mask, np.int64)
        element = np.full(shape, -1, np.int64)
        for part in range(self.lanes_per_value):
            at = (place.occurrence, place.word - self.base, place.lane + part)
            words[at] = values >> part * bits & mask
            element[at] = np.arange(values.size).reshape(values.shape)
        return ExpectedWords(values, words, element)

    def read_back(self, words: np.ndarray, bits: int, queues: Queues = ()) -> np.ndarray:
        """Values from ``words`` (occurrences, extent, width) of raw bits, -1 where nothing was written.

        Float64; NaN where a lane of the value was not written.
        """
        place = self.locate(queues)
        at = (place.occurrence, place.word - self.base)
        lanes = np.stack([words[(*at, place.lane + part)] for part in range(self.lanes_per_value)], axis=-1)
        return np.where((lanes >= 0).all(axis=-1), self.value(lanes, bits), np.nan)

    def value(self, lanes: np.ndarray, bits: int) -> np.ndarray:
        """Values from the raw bits of their lanes, which are the last axis, the lowest first."""
        raw, bits = (lanes << bits * np.arange(self.lanes_per_value)).sum(axis=-1), bits * self.lanes_per_value
        return raw - ((raw >> (bits - 1) & 1) << bits) if self.signed else raw

    def read(self, cell: np.ndarray, lane: int, bits: int) -> int:
        """Value whose lanes, ``lane`` among them, a write of ``cell`` leaves."""
        low = lane // self.lanes_per_value * self.lanes_per_value
        return int(self.value(cell[low : low + self.lanes_per_value], bits))


class FixedLayout(WordLayout):
    """A layout whose places do not depend on routing."""

    @property
    def first(self) -> tuple[int, int]:
        """Golden indices of the first element, on the two first axes."""
        return (0, 0)

    def part(self, golden: np.ndarray) -> np.ndarray:
        """Elements of a whole golden tensor that lie here."""
        return golden[tuple(slice(at, at + size) for at, size in zip(self.first, self.shape[:2], strict=True))]

    def index(self, element: int, queues: Queues = ()) -> tuple[int, ...]:
        """Index of an element in the golden tensor, by ``axes``."""
        index = tuple(int(i) for i in np.unravel_index(element, self.shape))
        return (index[0] + self.first[0], index[1] + self.first[1], *index[2:])
