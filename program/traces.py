"""Traces of a run: every write that the machine makes, one structured array for each memory.

The simulator's testbench and the emulator produce them, the verifier reads them. Records are in order of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.program.tensors import Space

SPACES: tuple[Space, ...] = ("scratchpad", "residual", "score", "exponential", "query", "queue")


def record_types(config: AcceleratorConfig) -> dict[str, np.dtype]:
    """Record type of each space; ``data`` may be sign-extended or not: only the format's low bits count.

    ``scratchpad``, ``residual``: a write of the columns in the mask ``columns`` (bit c: lanes c * P to c * P + P - 1).
    ``score``: P scores. ``exponential``: ``exponential_lanes`` values for elements from ``group * exponential_lanes``
    on, at bank word ``address`` and ``lane``; ``clear`` zeroes the word's other lanes. ``queue``: entry ``position`` of
    ``expert``.
    """
    time: list[Any] = [("cycle", "<u8"), ("command", "<u4")]
    write = [*time, ("address", "<u4"), ("columns", "<u4"), ("data", "<i4", (config.lanes,))]
    fields: dict[str, list[Any]] = {
        "scratchpad": write,
        "residual": write,
        "score": [*time, ("address", "<u4"), ("data", "<i4", (config.elements,))],
        "exponential": [
            *time,
            ("group", "<u4"),
            ("address", "<u4"),
            ("lane", "<u4"),
            ("clear", "<u4"),
            ("data", "<i4", (config.exponential_lanes,)),
        ],
        "query": [
            *time,
            ("address", "<u4"),
            ("multiplier", "<i4", (config.elements,)),
            ("shift", "<i4", (config.elements,)),
        ],
        "queue": [*time, ("expert", "<u4"), ("position", "<u4"), ("token", "<u4"), ("weight", "<u4")],
    }
    return {space: np.dtype(entries) for space, entries in fields.items()}


@dataclass(frozen=True)
class Traces:
    """What a run wrote.

    Parameters
    ----------
    records:
        For each space of ``SPACES`` an array of :func:`record_types`.
    output:
        Bytes of the output region after the run.
    """

    records: dict[str, np.ndarray]
    output: np.ndarray


class Recorder:
    """Collects batches of writes; every record gets its own time."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._types = record_types(config)
        self._batches: dict[str, list[np.ndarray]] = {space: [] for space in SPACES}
        self._time = 0
        self.command = 0

    def add(self, space: str, count: int, **fields: np.ndarray) -> None:
        """Record ``count`` writes of the current command; fields broadcast."""
        batch = np.zeros(count, self._types[space])
        batch["cycle"] = self._time + np.arange(count)
        batch["command"] = self.command
        for name, values in fields.items():
            batch[name] = values
        self._time += count
        self._batches[space].append(batch)

    def traces(self, output: np.ndarray) -> Traces:
        """Everything recorded."""
        records = {
            space: np.concatenate([np.zeros(0, self._types[space]), *batches])
            for space, batches in self._batches.items()
        }
        return Traces(records, output)
