"""Tensors as the machine left them, from its traced writes alone: nothing here comes from a model."""

from __future__ import annotations

from collections.abc import Iterator, Set

import numpy as np

from tessera.golden.integer.steps import AttentionStep
from tessera.hw.config import AcceleratorConfig
from tessera.program.layouts.base import FixedLayout, Rewrites
from tessera.program.program import Program
from tessera.program.tensors import LAYOUTS, Space, Tensor, raw_width
from tessera.program.traces import Traces
from tessera.sw.verifier.writes import writes


def written(tensor: Tensor, records: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Elements of ``tensor`` as a command's writes leave them: float64 of the tensor's shape, NaN where there was none.

    ``records`` are the command's in the tensor's space. Of several writes to a place the last one counts. In the
    attention's double buffers, whose places hold one element after another, each counts for its own.

    Raises
    ------
    ValueError
        For a layout whose places depend on routing.
    """
    layout = tensor.layout
    if not isinstance(layout, FixedLayout):
        fixed = ", ".join(known.tag for known in LAYOUTS if issubclass(known, FixedLayout))
        raise ValueError(f"tensor '{tensor.name}' has layout '{layout.tag}'; choose one of: {fixed}")
    count = int(layout.locate().occurrence.max()) + 1
    found = writes(tensor.space, records, config)
    found = found.select(found.inside(layout))
    if layout.rewrites == Rewrites.NEXT:
        rank = found.ranks()
        found, rank = found.select(rank < count), rank[rank < count]
    else:
        found = found.last()
        rank = np.zeros(len(found.cell), np.int64)
    cells = found.cells(layout)
    words = np.full((count, layout.extent * cells, found.unit), -1, np.int64)
    words[rank, found.cell - layout.base * cells] = found.data
    return layout.read_back(words.reshape(count, layout.extent, layout.width), raw_width(tensor.space, config))


def residual_streams(program: Program, traces: Traces, task: int) -> Iterator[tuple[str, np.ndarray]]:
    """The machine's residual stream after every layer: the layer's name, and float64 (rows, channels) integers.

    NaN stands where the command that completes a row wrote nothing.
    """
    last = program.plan.last_streams
    found = _written(program, traces, task, "residual", {step.name for step in last.values()})
    yield from ((place, found[step.name]) for place, step in last.items() if step.name in found)


def exponentials(program: Program, traces: Traces, task: int) -> Iterator[tuple[str, np.ndarray]]:
    """What the machine's softmax gave the array: each attention's name and float64 (heads, query, key) integers.

    Over its sum, a query's row is the attention that the machine paid. NaN stands where nothing was written.
    """
    names = {step.inner("exponentials"): step.name for step in program.plan.of_kind(AttentionStep)}
    found = _written(program, traces, task, "exponential", set(names))
    yield from ((name, found[tensor]) for tensor, name in names.items() if tensor in found)


def _written(program: Program, traces: Traces, task: int, space: Space, names: Set[str]) -> dict[str, np.ndarray]:
    """Tensors by name; where several commands each write some rows of one, these one after another."""
    records = traces.records[space]
    parts: dict[str, list[np.ndarray]] = {}
    for command in program.commands:
        for tensor in command.tensors if command.runs(task) else ():
            if tensor.space == space and tensor.name in names:
                found = written(tensor, records[records["command"] == command.index], program.config)
                parts.setdefault(tensor.name, []).append(found)
    return {name: np.concatenate(found) for name, found in parts.items()}
