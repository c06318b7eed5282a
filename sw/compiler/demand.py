"""Which rows of every tensor some rows of others are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    RowSelection,
    Step,
)

Demand = dict[str, np.ndarray]
"""Rows of tensors that are needed, by the tensor's name: sorted, each once."""


def demanded(steps: Sequence[Step], targets: Mapping[str, np.ndarray]) -> Demand:
    """All rows that ``steps`` make or read for some rows of their ``targets``.

    A step makes no less than it can: whole lines of a map, whole windows of an attention.
    """
    need = {name: np.unique(rows) for name, rows in targets.items()}
    for step in reversed(steps):
        if step.name not in need:
            continue
        need[step.name] = rounded(step, need[step.name])
        for rows, some in _reads(step, need[step.name]):
            need[rows.tensor] = np.union1d(need.get(rows.tensor, some[:0]), picked(rows, some))
    return need


def picked(rows: RowSelection, some: np.ndarray) -> np.ndarray:
    """Rows of the tensor that make ``some`` of the selected rows; in their order."""
    if rows.split > 1:
        return rows.start + some // rows.split
    parts = (rows.start + some[:, None] * rows.fold + np.arange(rows.fold)).reshape(-1)
    return parts if rows.listed is None else np.asarray(rows.listed)[parts]


def first_row(step: Step) -> int:
    """The first row of a step's tensor that the step itself makes."""
    onto = step.onto if isinstance(step, (ProductStep, ExpertsStep)) else None
    return 0 if onto is None else onto.start


def own(step: Step, rows: np.ndarray) -> np.ndarray:
    """Of ``rows`` of a tensor those that the step itself makes, counted from the first that it makes."""
    onto = step.onto if isinstance(step, (ProductStep, ExpertsStep)) else None
    return rows if onto is None else rows[(rows >= onto.start) & (rows < onto.start + len(onto))] - onto.start


def rounded(step: Step, rows: np.ndarray) -> np.ndarray:
    """Rows of a step's tensor with those that come with them."""
    mine = own(step, rows)
    if not len(mine):
        return rows
    grain, every = 1, False
    match step:
        case ProductStep(taps=None):
            every = step.swapped
        case ProductStep():
            assert step.taps is not None
            grain = step.taps.made[1] * (2 if step.taps.enlarges else 1)  # both lines of a position
        case PatchStep():
            grain = step.grid[1]
        case NormStep():
            grain = step.source.split
        case AttentionStep():
            grain = step.rows // step.windows if step.windows > 1 else 1
        case ExpertsStep():
            every = True
    if every:
        return np.arange(step.rows)
    if grain == 1:
        return rows
    between = np.arange(mine[0] // grain * grain, (mine[-1] // grain + 1) * grain)
    return np.union1d(rows, between + first_row(step))


def _reads(step: Step, rows: np.ndarray) -> Iterator[tuple[RowSelection, np.ndarray]]:
    """What a step reads, with the rows of each selection that ``rows`` of its tensor need."""
    mine = own(step, rows)
    match step:
        case ProductStep():
            if step.onto is not None:
                yield RowSelection(tensor=step.onto.tensor, start=0, stop=step.rows), rows
            if step.swapped:
                yield step.source, np.arange(len(step.source))
            elif step.taps is not None:
                yield step.source, _window(step, mine)
            else:
                yield step.source, mine
        case NormStep():
            yield step.source, rows
        case AttentionStep():
            queries, keys = step.rows // step.windows, len(step.key) // step.windows
            windows = np.unique(rows // queries)
            of_keys = (windows[:, None] * keys + np.arange(keys)).reshape(-1)
            yield step.query, rows
            yield step.key, of_keys
            yield step.value, of_keys
        case ExpertsStep():
            yield RowSelection(tensor=step.onto.tensor, start=0, stop=step.rows), rows
            yield step.source, np.arange(len(step.source))


def input_lines(step: ProductStep, lines: range) -> range:
    """Lines of a map that some lines of a convolution's result read."""
    taps = step.taps
    assert taps is not None
    if taps.enlarges:
        return range(max((lines.start - 1) // 2, 0), min(lines.stop // 2 + 1, taps.size[0]))
    first = lines.start * taps.stride[0] - taps.padding[0]
    last = (lines.stop - 1) * taps.stride[0] - taps.padding[0] + taps.kernel[0]
    return range(min(max(first, 0), taps.size[0] - 1), max(min(last, taps.size[0]), 1))


def _window(step: ProductStep, mine: np.ndarray) -> np.ndarray:
    """Positions of the map that ``mine`` rows of a convolution's result read: whole lines."""
    assert step.taps is not None
    if not len(mine):
        return mine
    columns = step.taps.made[1]
    lines = input_lines(step, range(mine[0] // columns, mine[-1] // columns + 1))
    return np.arange(lines.start * step.taps.size[1], lines.stop * step.taps.size[1])
