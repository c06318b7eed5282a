"""All intermediate tensors of a run in one file, for other programs (docs/formats.md, "Dumped tensors")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tessera.common.files import file_aside
from tessera.sw.results.outcome import RunResult
from tessera.sw.run.prepare import Prepared
from tessera.sw.verifier.readback import residual_streams


def dump_tensors(prepared: Prepared, result: RunResult, path: Path) -> None:
    """Write the tensors of the first picture's frames to one .npz file.

    ``float/<task>/<layer>``, ``integer/<task>/<layer>`` and ``rtl/<task>/<layer>`` are the residual stream after each
    layer as real values, float32 (tokens, D). ``<task>/<tensor>`` are the integers of every golden tensor;
    ``<task>/machine`` is what the machine put out.
    """
    arrays: dict[str, np.ndarray] = {}
    image, model, integer = result.pictures[0].image, prepared.checkpoint.model, prepared.integer
    for task, outcome in result.tasks().items():
        golden, traces = integer.run(image, task), outcome.result.traces
        capture: dict[str, Any] = {}
        with torch.no_grad():
            model.run(torch.from_numpy(image[None]), [outcome.result.task], capture=capture)
        for layer, machine in residual_streams(prepared.program, traces, outcome.result.task):
            name = prepared.program.plan.last_streams[layer].name
            arrays[f"float/{task}/{layer}"] = capture[name][0].flatten(0, -2).numpy().astype(np.float32)
            for kind, values in (("integer", golden[name]), ("rtl", machine)):
                arrays[f"{kind}/{task}/{layer}"] = integer.dequantise(name, values).astype(np.float32)
        for key, value in golden.items():
            arrays |= _flatten(f"{task}/{key}", value)
        arrays[f"{task}/machine"] = prepared.program.outputs[outcome.result.task].read(traces.output)
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
