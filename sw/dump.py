"""All intermediate tensors of a run in one file, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sw.files import file_aside
from sw.outcome import RunResult
from sw.prepare import Prepared


def dump_tensors(prepared: Prepared, result: RunResult, path: Path) -> None:
    """Write every golden tensor of the first picture's frames, and what the machine put out, to one .npz file.

    Names are ``<task>/<tensor>``; the machine's output is ``<task>/machine``. Where a frame is bit-exact the golden
    tensors are the machine's.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, outcome in result.tasks().items():
        for key, value in prepared.integer.run(result.pictures[0].image, name).items():
            arrays |= _flatten(f"{name}/{key}", value)
        arrays[f"{name}/machine"] = prepared.program.outputs[outcome.result.task].read(outcome.result.traces.output)
    with file_aside(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _flatten(name: str, value: Any) -> dict[str, np.ndarray]:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if hasattr(value, "__dataclass_fields__"):
        value = vars(value)
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _flatten(f"{name}.{key}", part).items()}
    if isinstance(value, list):
        return {k: v for number, part in enumerate(value) for k, v in _flatten(f"{name}.{number}", part).items()}
    return {name: np.asarray(value)}
