"""From the numbers of a head to what people look at: class maps, depth maps, and how far two of them are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from golden import metrics
from golden.config import ModelConfig
from golden.model import cells_to_map
from golden.scenes import Scene


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One task's result from the float model and from the machine.

    Members: ``kind`` as in ``TaskConfig``; ``reference`` and ``machine`` at cell resolution: classes, or metres;
    None for features. ``relative_l2`` and ``cosine`` compare the raw outputs. ``scores`` are this picture's numbers.
    """

    kind: str
    reference: np.ndarray | None
    machine: np.ndarray | None
    relative_l2: float
    cosine: float
    scores: dict[str, float]


def interpret(values: np.ndarray, model: ModelConfig, task: int) -> np.ndarray | None:
    """Classes (cells down, cells across), or metres, from a head's real values (patches, outputs)."""
    kind = model.tasks[task].kind
    if kind == "features":
        return None
    cells = cells_to_map(torch.from_numpy(np.ascontiguousarray(values))[None], model, task)[0].numpy()
    return cells.argmax(axis=0) if kind == "segmentation" else metrics.output_to_depth(cells[0])


def compare(
    model: ModelConfig, task: int, reference: np.ndarray, machine: np.ndarray, scene: Scene | None
) -> Prediction:
    """Put the float model's and the machine's real outputs (rows, channels) side by side.

    With ``scene``, both are also scored against its exact labels or depth.
    """
    kind = model.tasks[task].kind
    norms = float(np.linalg.norm(reference)), float(np.linalg.norm(machine))
    maps = interpret(reference, model, task), interpret(machine, model, task)
    scores: dict[str, float] = {}
    if maps[0] is None or maps[1] is None:
        pass
    elif kind == "segmentation":
        scores["class_agreement"] = float(np.equal(maps[0], maps[1]).mean())
    else:
        scores["depth_difference_m"] = float(np.sqrt(np.square(maps[0].astype(float) - maps[1]).mean()))
    if scene is not None:
        scores |= _against_truth(kind, maps, scene)
    return Prediction(
        kind=kind,
        reference=maps[0],
        machine=maps[1],
        relative_l2=float(np.linalg.norm(machine - reference)) / norms[0] if norms[0] else 0.0,
        cosine=float((machine * reference).sum()) / (norms[0] * norms[1]) if all(norms) else 0.0,
        scores=scores,
    )


def _against_truth(kind: str, maps: tuple[Any, Any], scene: Scene) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, cells in zip(("float", "machine"), maps, strict=True):
        score = metrics.Scores()
        if kind == "segmentation" and cells.max() < len(score.confusion):
            score.add_segmentation(cells, scene.label)
            found[f"{name}_mean_iou"] = score.mean_iou
        elif kind == "depth":
            score.add_depth(cells, scene.depth)
            found[f"{name}_depth_rmse_m"] = score.depth_rmse
    return found
