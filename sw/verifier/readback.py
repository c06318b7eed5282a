"""Tensors as the machine left them, from its traced writes alone: nothing here comes from a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tessera.golden.config import layer_name
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
    """The machine's residual stream after every layer: its name, ``layerNN``, and float64 (tokens, D) integers.

    NaN stands where the command that completes a row wrote nothing.
    """
    yield from _of_layers(program, traces, task, "residual", "residual")


def exponentials(program: Program, traces: Traces, task: int) -> Iterator[tuple[str, np.ndarray]]:
    """What the machine's softmax gave the array in every layer: its name and float64 (heads, query, key) integers.

    Over its sum, a query's row is the attention that the machine paid. NaN stands where nothing was written.
    """
    yield from _of_layers(program, traces, task, "exponential", "exponentials")


def _of_layers(
    program: Program, traces: Traces, task: int, space: Space, part: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Tensor ``part`` of every layer; where several commands each write some of its rows, these one after another."""
    records = traces.records[space]
    parts: dict[int, list[np.ndarray]] = {}
    for command in program.commands:
        for tensor in command.tensors if command.runs(task) else ():
            if tensor.layer is not None and (tensor.space, tensor.part) == (space, part):
                found = written(tensor, records[records["command"] == command.index], program.config)
                parts.setdefault(tensor.layer, []).append(found)
    yield from ((layer_name(layer), np.concatenate(found)) for layer, found in parts.items())
