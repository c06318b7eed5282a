"""Traces of a run: every write of the accelerator into its own memories, as NumPy arrays.

``trace.cpp`` writes records of the trace ports' raw payloads; the payload layouts of ``hw.interfaces`` say what the
bits mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hw.accelerator import trace_payloads
from hw.config import AcceleratorConfig
from sim.verilog import Leaf, leaves

_HEADER = [("cycle", "<i8"), ("frame", "<i4"), ("place", "<u4")]


@dataclass(frozen=True)
class Trace:
    """One trace port: the parameter of ``machine.sv`` that holds its payload's width."""

    parameter: str


TRACES = {
    "scratchpad": Trace("SCRATCH_BITS"),
    "residual": Trace("RESIDUAL_BITS"),
    "score": Trace("SCORE_BITS"),
    "exponential": Trace("EXPONENTIAL_BITS"),
    "queue": Trace("QUEUE_BITS"),
    "query": Trace("QUERY_BITS"),
}
"""Trace ports by memory; ``trace.cpp`` names its files after them."""


@dataclass(frozen=True)
class Traces:
    """Records of one frame by memory. Each is a structured array with the fields ``cycle``, ``command``, ``expert`` and
    ``second`` (the expert loop's position) and those of the payload, arrays of lanes as sub-arrays.
    """

    records: dict[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, space: str) -> np.ndarray:
        return self.records[space]


def _field(raw: np.ndarray, leaf: Leaf) -> np.ndarray:
    """One leaf of every payload: ``raw`` is (records, 32-bit words) with a spare word at the end."""
    offsets = np.full(leaf.dims or (1,), leaf.offset)
    for axis, (count, stride) in enumerate(zip(leaf.dims, leaf.strides, strict=True)):
        shape = [1] * len(leaf.dims)
        shape[axis] = count
        offsets = offsets + (np.arange(count) * stride).reshape(shape)
    word, shift = offsets >> 5, (offsets & 31).astype(np.uint64)
    window = raw[:, word].astype(np.uint64) | raw[:, word + 1].astype(np.uint64) << np.uint64(32)
    value = (window >> shift & np.uint64((1 << leaf.width) - 1)).astype(np.int64)
    if leaf.signed:
        value -= (value >> (leaf.width - 1)) << leaf.width
    return value if leaf.dims else value[:, 0]


def _read(path: Path, layout: Any) -> np.ndarray:
    """All records of one file."""
    fields = list(leaves(layout))
    words = (layout.size + 31) // 32
    records = np.fromfile(path, np.dtype([*_HEADER, ("raw", "<u4", (words,))]))
    raw = np.pad(records["raw"], ((0, 0), (0, 1)))
    values = {
        "cycle": records["cycle"],
        "frame": records["frame"],
        "command": records["place"] & 0xFFFF,
        "expert": records["place"] >> 16 & 0x7FFF,
        "second": records["place"] >> 31,
        **{leaf.path: _field(raw, leaf) for leaf in fields},
    }
    out = np.zeros(len(records), [(name, np.int64, value.shape[1:]) for name, value in values.items()])
    for name, value in values.items():
        out[name] = value
    return out


def read_traces(folder: Path, config: AcceleratorConfig, frames: int) -> list[Traces]:
    """The traces of every frame of a run, from the files in ``folder``."""
    payloads: dict[str, Any] = trace_payloads(config)
    everything = {space: _read(folder / f"{space}.bin", payloads[space]) for space in TRACES}
    return [
        Traces({space: records[records["frame"] == frame] for space, records in everything.items()})
        for frame in range(frames)
    ]
