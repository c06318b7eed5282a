"""Tensors as the machine left them, from its traced writes alone: nothing here comes from a model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hw.config import AcceleratorConfig
from program.program import Program
from program.tensors import Tensor
from program.traces import Traces
from sw.verifier.expectation import REPEATED, raw_width, writes

_LAYOUTS = ("rows", "last", "transposed", "scores", "exponentials")


def written(tensor: Tensor, records: np.ndarray, config: AcceleratorConfig) -> np.ndarray:
    """Elements of ``tensor`` as a command's writes leave them: float64 of the tensor's shape, NaN where there was none.

    ``records`` are the command's in the tensor's space. Of several writes to a place the last one counts, but in the
    attention's double buffers, whose places hold one element after another, each counts for its own.

    Raises
    ------
    ValueError
        For a layout whose places depend on routing, or that takes two lanes a value.
    """
    if tensor.layout not in _LAYOUTS:
        raise ValueError(f"tensor '{tensor.name}' has layout '{tensor.layout}'; choose one of: {', '.join(_LAYOUTS)}")
    found = writes(tensor.space, records, config)
    cells = tensor.width // found.unit
    first = tensor.base * cells
    found = found.select((found.cell >= first) & (found.cell < first + tensor.extent * cells))
    place = tensor.locate()
    if tensor.layout in REPEATED:
        rank = found.ranks()
        found, rank = found.select(rank <= place.occurrence.max()), rank[rank <= place.occurrence.max()]
    else:
        found = found.last()
        rank = np.zeros(len(found.cell), np.int64)
    bits = raw_width(tensor.space, config)
    memory = np.full((int(place.occurrence.max()) + 1, tensor.extent * cells, found.unit), np.nan)
    memory[rank, found.cell - first] = found.data - ((found.data >> (bits - 1) << bits) if tensor.signed else 0)
    return memory.reshape(len(memory), -1, tensor.width)[place.occurrence, place.word - tensor.base, place.lane]


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


def _of_layers(program: Program, traces: Traces, task: int, space: str, part: str) -> Iterator[tuple[str, np.ndarray]]:
    """Tensor ``part`` of every layer; where several commands each write some of its rows, these one after another."""
    records = traces.records[space]
    parts: dict[str, list[np.ndarray]] = {}
    for command in program.commands:
        for tensor in command.tensors if command.runs(task) else ():
            layer, _, name = tensor.name.rpartition(".")
            if tensor.space == space and layer.startswith("layer") and name == part:
                found = written(tensor, records[records["command"] == command.index], program.config)
                parts.setdefault(layer, []).append(found)
    yield from ((layer, np.concatenate(found)) for layer, found in parts.items())
