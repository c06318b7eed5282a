"""Traced records as writes of cells: the elements of a memory that are written together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.program.layouts.base import WordLayout, occurrences
from tessera.program.tensors import Space, raw_width


@dataclass(frozen=True)
class Writes:
    """Writes of a command to one space.

    Parameters
    ----------
    cycle:
        Cycle of each write, -1 where it is unknown.
    cell:
        Number of the cell in the space.
    data:
        Raw bits, (writes, elements of a cell).
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
        return occurrences(self.cell)

    def last(self) -> Writes:
        """The last write of each cell; when it ought to come is not known, so it has no cycle."""
        _, index = np.unique(self.cell[::-1], return_index=True)
        found = self.select(np.sort(len(self.cell) - 1 - index))
        return Writes(np.full(len(found.cell), -1), found.cell, found.data)

    def cells(self, layout: WordLayout) -> int:
        """Cells of a word."""
        return layout.width // self.unit

    def inside(self, layout: WordLayout) -> np.ndarray:
        """Mask of the writes to words of a tensor."""
        return layout.contains(self.cell // self.cells(layout))


def writes(space: Space, records: np.ndarray, config: AcceleratorConfig) -> Writes:
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


def output_writes(region: np.ndarray, layout: WordLayout) -> Writes:
    """The part of the output region that a STORE wrote, as one write per word."""
    width = layout.width
    words = np.ascontiguousarray(region[: len(region) // (4 * width) * 4 * width]).view("<i4")
    cells = np.arange(layout.base, layout.base + layout.extent)
    data = words.reshape(-1, width)[cells].astype(np.int64) & 0xFFFFFFFF
    return Writes(np.full(len(cells), -1), cells, data)
