"""Reader of the records that ``trace.cpp`` writes: arrays of ``tessera.program.traces``.

A record holds the raw payload of a trace port. The layouts of ``tessera.hw.interfaces`` define its bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.hw.trace import trace_payloads
from tessera.program.traces import record_types
from tessera.sim.verilator.verilog import Leaf, leaves

WIDTH_PARAMETERS = {
    "scratchpad": "SCRATCH_BITS",
    "residual": "RESIDUAL_BITS",
    "score": "SCORE_BITS",
    "exponential": "EXPONENTIAL_BITS",
    "queue": "QUEUE_BITS",
    "query": "QUERY_BITS",
    "stream": "STREAM_BITS",
}
"""Parameter of ``machine.sv`` with the payload's width, for each memory that has a trace port."""

_HEADER = [("cycle", "<i8"), ("frame", "<i4"), ("place", "<u4")]


def _field(raw: np.ndarray, leaf: Leaf) -> np.ndarray:
    """Return one leaf of every payload. ``raw`` is (records, 32-bit words) with a spare word at the end."""
    offsets = np.full((1,) * len(leaf.dims), leaf.offset)
    for axis, (count, stride) in enumerate(zip(leaf.dims, leaf.strides, strict=True)):
        shape = [1] * len(leaf.dims)
        shape[axis] = count
        offsets = offsets + (np.arange(count) * stride).reshape(shape)
    # A leaf may cross a word boundary, so each is cut from a window of two words; the spare word serves the last.
    word, shift = offsets >> 5, (offsets & 31).astype(np.uint64)
    window = raw[:, word].astype(np.uint64) | raw[:, word + 1].astype(np.uint64) << np.uint64(32)
    value = (window >> shift & np.uint64((1 << leaf.width) - 1)).astype(np.int64)
    return value - ((value >> (leaf.width - 1)) << leaf.width) if leaf.signed else value


def raw_records(folder: Path, config: AcceleratorConfig, space: str, frame: int) -> np.ndarray:
    """Map a trace port's records of one frame: cycle, frame, place and the payload's ``raw`` words."""
    words = (_payload(config, space).size + 31) // 32
    path = folder / f"{space}.bin"
    types = np.dtype([*_HEADER, ("raw", "<u4", (words,))])
    records = np.memmap(path, types, "r") if path.stat().st_size else np.zeros(0, types)
    return records[slice(*np.searchsorted(records["frame"], (frame, frame + 1)))]


def _payload(config: AcceleratorConfig, space: str) -> Any:
    return trace_payloads(config)[space]


def _read(folder: Path, config: AcceleratorConfig, space: str, record: np.dtype, frame: int) -> np.ndarray:
    """Return the records of one frame and one memory."""
    records = raw_records(folder, config, space, frame)
    raw = np.pad(records["raw"], ((0, 0), (0, 1)))
    out = np.zeros(len(records), record)
    out["cycle"] = records["cycle"]
    out["command"] = records["place"] & 0xFFFF
    for leaf in leaves(_payload(config, space)):
        name = leaf.path.replace("scales.", "")
        if name in (record.names or ()):
            out[name] = _field(raw, leaf)
    return out


def read_records(folder: Path, config: AcceleratorConfig, frame: int) -> dict[str, np.ndarray]:
    """Read every write of one frame from ``folder``, by memory as in ``tessera.program.traces.record_types``."""
    return {space: _read(folder, config, space, record, frame) for space, record in record_types(config).items()}
