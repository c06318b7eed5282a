"""What a command should write where: golden tensors laid out as the machine's memories see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig
from program.tensors import Location, Tensor

REPEATED = ("scores", "exponentials", "queries", "positions", "accumulated")
"""Layouts whose places are written several times in a command, each time with another element."""


def raw_width(space: str, config: AcceleratorConfig) -> int:
    """Bits of an element of a space."""
    numerics = config.numerics
    return {
        "scratchpad": numerics.activation_width,
        "exponential": numerics.activation_width,
        "residual": numerics.residual_width,
        "score": numerics.score.width,
        "query": numerics.multiplier_width,
        "memory": 32,
    }[space]


@dataclass(frozen=True)
class Writes:
    """Writes of a command to one space, in cells: the elements that are written together.

    ``cell`` numbers a cell in the space, ``data`` (n, unit) holds raw bits, ``cycle`` is -1 where unknown.
    """

    cycle: np.ndarray
    cell: np.ndarray
    data: np.ndarray

    @property
    def unit(self) -> int:
        """Elements of a cell."""
        return self.data.shape[1]

    def select(self, mask: np.ndarray) -> Writes:
        """Some of the writes."""
        return Writes(self.cycle[mask], self.cell[mask], self.data[mask])

    def ranks(self) -> np.ndarray:
        """For each write, how many went to the same cell before it."""
        order = np.argsort(self.cell, kind="stable")
        cells = self.cell[order]
        starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]]) if len(cells) else np.zeros(0, np.int64)
        counts = np.diff(np.r_[starts, len(cells)])
        ranks = np.empty(len(cells), np.int64)
        ranks[order] = np.arange(len(cells)) - np.repeat(starts, counts)
        return ranks

    def last(self) -> Writes:
        """The last write of each cell."""
        _, index = np.unique(self.cell[::-1], return_index=True)
        return self.select(np.sort(len(self.cell) - 1 - index))


def writes(space: str, records: np.ndarray, config: AcceleratorConfig) -> Writes:
    """Records of one space as writes of cells."""
    mask = (1 << raw_width(space, config)) - 1
    if space == "query":
        # Words 0 and 1 are the multipliers of the two buffers, words 2 and 3 their shifts.
        cell = np.stack([records["address"], records["address"] + 2], axis=1).astype(np.int64)
        scales = np.stack([records["multiplier"], records["shift"]], axis=1).astype(np.int64)
        return Writes(
            np.repeat(records["cycle"].astype(np.int64), 2), cell.reshape(-1), scales.reshape(-1, config.elements)
        )
    data = records["data"].astype(np.int64) & mask
    cycle = records["cycle"].astype(np.int64)
    if space == "score":
        return Writes(cycle, records["address"].astype(np.int64), data)
    if space == "exponential":
        groups = config.elements // config.exponential_lanes
        word = records["address"].astype(np.int64) * config.lanes + records["lane"]
        return Writes(cycle, word * groups + records["group"], data)
    record, column = np.nonzero(records["columns"][:, None] >> np.arange(config.columns) & 1)
    cells = data.reshape(len(records), config.columns, config.elements)[record, column]
    return Writes(cycle[record], records["address"].astype(np.int64)[record] * config.columns + column, cells)


def output_writes(region: np.ndarray, tensor: Tensor) -> Writes:
    """The part of the output region that a STORE wrote, as one write a word."""
    words = np.ascontiguousarray(region[: len(region) // (4 * tensor.lanes) * 4 * tensor.lanes]).view("<i4")
    cells = np.arange(tensor.base, tensor.base + tensor.extent)
    data = words.reshape(-1, tensor.lanes)[cells].astype(np.int64) & 0xFFFFFFFF
    return Writes(np.full(len(cells), -1), cells, data)


@dataclass(frozen=True)
class Comparison:
    """Result for one tensor.

    ``wrong`` and ``stray``: indices of writes with a wrong element, or to places that hold none. ``lane``: the first
    wrong lane of each write in ``wrong``, ``element`` what it holds. ``bad``: wrong elements; ``missing``: elements
    that were never written.
    """

    wrong: np.ndarray
    lane: np.ndarray
    element: np.ndarray
    stray: np.ndarray
    bad: np.ndarray
    missing: np.ndarray


class Expectation:
    """A golden tensor at its places.

    Parameters
    ----------
    tensor:
        Description of the places.
    golden:
        All golden tensors (for the token queues of expert layers).
    value:
        The golden tensor, or for ``positions`` and ``accumulated`` one array an expert.
    config:
        The machine.
    """

    def __init__(self, tensor: Tensor, golden: Mapping[str, Any], value: Any, config: AcceleratorConfig) -> None:
        self.tensor = tensor
        self.bits = raw_width(tensor.space, config)
        self.queues = None
        if tensor.layout in ("positions", "accumulated"):
            self.queues = [queue.tokens for queue in golden[f"{tensor.name.rpartition('.')[0]}.queues"]]
            self.values = np.concatenate(value).astype(np.int64)
            place = self._routed(self.queues)
        else:
            whole = np.asarray(value)
            first = (tensor.first_row, tensor.first_channel)
            part = tuple(slice(start, start + size) for start, size in zip(first, tensor.shape[:2], strict=True))
            self.values = whole[part].astype(np.int64)
            if self.values.shape != tensor.shape:
                raise ValueError(
                    f"golden tensor '{tensor.name}' has shape {whole.shape}; "
                    f"the program writes {tensor.shape} from row {first[0]}, channel {first[1]}"
                )
            place = tensor.locate()
        occurrences = int(place.occurrence.max(initial=0)) + 1
        size = tensor.extent * tensor.width
        padding = 0 if tensor.padding is None else tensor.padding & self._mask
        self.table = np.full((occurrences, size), padding, np.int64)
        self.element = np.full((occurrences, size), -1, np.int64)
        flat = (place.word - tensor.base) * tensor.width + place.lane
        halves = 2 if tensor.layout == "wide" else 1
        for half in range(halves):
            self.table[place.occurrence, flat + half] = self.values >> half * self.bits & self._mask
            self.element[place.occurrence, flat + half] = np.arange(self.values.size).reshape(self.values.shape)

    @property
    def _mask(self) -> int:
        return (1 << self.bits) - 1

    def _routed(self, queues: list[np.ndarray]) -> Location:
        """Places of the rows of all queues, experts ascending: by queue position, or by token."""
        tokens = np.concatenate(queues)
        position = np.concatenate([np.arange(len(queue)) for queue in queues])
        row = position if self.tensor.layout == "positions" else tokens
        expert = np.repeat(np.arange(len(queues)), [len(queue) for queue in queues])
        before = Writes(expert, row, row[:, None]).ranks()
        return self.tensor.locate_rows(row[:, None], np.arange(self.tensor.shape[1])[None], before[:, None])

    def inside(self, written: Writes) -> np.ndarray:
        """Mask of the writes that concern this tensor's words."""
        tensor, cells = self.tensor, self.tensor.width // written.unit
        low = tensor.base * cells
        mask = (written.cell >= low) & (written.cell < low + tensor.extent * cells)
        if tensor.layout == "rows":
            mask &= (written.cell - low) % (tensor.stride * cells) < tensor.row_words * cells
        return mask

    def compare(self, written: Writes) -> Comparison:
        """Check writes, all of them inside."""
        unit = written.unit
        occurrences = len(self.table)
        table, element = (array.reshape(occurrences, -1, unit) for array in (self.table, self.element))
        cell = written.cell - self.tensor.base * (self.tensor.width // unit)
        repeated = self.tensor.layout in REPEATED
        rank = written.ranks() if repeated else np.zeros(len(cell), np.int64)
        beyond = rank >= occurrences
        rank = np.where(beyond, 0, rank)
        elements = element[rank, cell]
        differs = written.data != table[rank, cell]
        if self.tensor.padding is None:
            # A tile's last queries may be none: their lanes hold anything, but only next to those of real ones.
            differs &= elements >= 0
            tiles = self.element.reshape(occurrences, -1, self.tensor.elements).max(axis=-1) >= 0
            beyond |= ~tiles[rank, cell * unit // self.tensor.elements]
        differs[beyond] = False
        wrong = np.flatnonzero(differs.any(axis=1))
        lane = differs[wrong].argmax(axis=1)
        seen = np.zeros(table.shape[:2], bool)
        seen[rank[~beyond], cell[~beyond]] = True
        unseen = element[~seen]
        bad = elements[differs]
        return Comparison(
            wrong=wrong,
            lane=lane,
            element=elements[wrong, lane],
            stray=np.flatnonzero(beyond),
            bad=np.unique(bad[bad >= 0]),
            missing=np.unique(unseen[unseen >= 0]),
        )

    def index(self, element: int) -> tuple[int, ...]:
        """Logical index of an element; (expert, position, channel) for the rows of queues."""
        index = tuple(int(i) for i in np.unravel_index(element, self.values.shape))
        if self.queues is None:
            return (index[0] + self.tensor.first_row, index[1] + self.tensor.first_channel, *index[2:])
        ends = np.cumsum([len(queue) for queue in self.queues])
        expert = int(np.searchsorted(ends, index[0], side="right"))
        return expert, index[0] - int(ends[expert]) + len(self.queues[expert]), index[1]

    def read(self, data: np.ndarray, lane: int) -> int:
        """Value that a write of ``data`` (one cell) leaves for the element at ``lane``."""
        bits, value = self.bits, int(data[lane])
        if self.tensor.layout == "wide":
            low = lane & ~1
            value, bits = int(data[low]) | int(data[low + 1]) << bits, 2 * bits
        return value - (1 << bits) if self.tensor.signed and value >> (bits - 1) else value
