"""From the numbers of a head to what people look at: class maps, depth maps, and how far two of them are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tessera.golden import metrics
from tessera.golden.network.compute import as_map
from tessera.golden.network.network import Task
from tessera.sw.data.dataset import ClassSet
from tessera.sw.results.truth import TaskTruth


@dataclass(frozen=True, kw_only=True)
class OutputMaps:
    """One task's result from the float model and from the machine.

    Members: ``kind`` as in ``Task``; ``values``, the machine's real outputs (rows, channels); ``reference`` and
    ``machine`` at cell resolution: classes (or one of the whole picture), metres, or for features three colours in
    [0, 1] a patch. ``relative_l2`` and ``cosine`` compare the raw outputs. ``scores`` are this picture's numbers;
    ``token_errors`` (grid) the relative L2 of each patch's features; ``classes`` and ``exact`` as in
    :class:`~tessera.sw.results.truth.TaskTruth`.
    """

    kind: str
    values: np.ndarray
    reference: np.ndarray
    machine: np.ndarray
    relative_l2: float
    cosine: float
    scores: dict[str, float | None]
    token_errors: np.ndarray | None = None
    classes: ClassSet | None = None
    exact: np.ndarray | None = None


def interpret(values: np.ndarray, task: Task) -> np.ndarray:
    """Classes (cells down, cells across), or metres, from a head's real values (rows, outputs)."""
    cells = as_map(torch.from_numpy(np.ascontiguousarray(values))[None], task)[0].numpy()
    return metrics.output_to_depth(cells[0]) if task.kind == "depth" else cells.argmax(axis=0)


def feature_colours(reference: np.ndarray, machine: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Features (rows, D) of both as colours on a grid: the reference's three main directions, in its range."""
    mean = reference.mean(axis=0)
    directions = np.linalg.svd(reference - mean, full_matrices=False)[2][:3].T
    directions = np.pad(directions, ((0, 0), (0, 3 - directions.shape[1])))  # few patches have fewer directions
    places = [(values - mean) @ directions for values in (reference, machine)]
    low, high = np.quantile(places[0], [0.02, 0.98], axis=0)
    first, second = (np.clip((place - low) / np.maximum(high - low, 1e-12), 0, 1) for place in places)
    return first.reshape(*grid, -1), second.reshape(*grid, -1)


def compare(task: Task, reference: np.ndarray, machine: np.ndarray, truth: TaskTruth) -> OutputMaps:
    """Put the float model's and the machine's real outputs (rows, channels) side by side.

    Where the exact labels or depth are known, both are also scored against them.
    """
    kind = task.kind
    deviation = metrics.Deviation()
    deviation.add(machine, reference)
    scores: dict[str, float | None] = {}
    token_errors = None
    if kind == "features":
        maps = feature_colours(reference[task.prefix :], machine[task.prefix :], task.grid)
        token_errors = metrics.row_relative_l2(machine, reference)[task.prefix :].reshape(task.grid)
        scores["worst_token_relative_l2"] = float(token_errors.max())
    else:
        maps = interpret(reference, task), interpret(machine, task)
    if kind in ("segmentation", "classification"):
        scores["class_agreement"] = float(np.equal(maps[0], maps[1]).mean())
    elif kind == "depth":
        scores["depth_difference_m"] = float(np.sqrt(np.square(maps[0].astype(float) - maps[1]).mean()))
    scores |= _against_truth(kind, maps, truth)
    return OutputMaps(
        kind=kind,
        values=machine,
        reference=maps[0],
        machine=maps[1],
        relative_l2=deviation.relative_l2,
        cosine=deviation.cosine,
        scores=scores,
        token_errors=token_errors,
        classes=truth.classes,
        exact=truth.exact,
    )


def _against_truth(kind: str, maps: tuple[Any, Any], truth: TaskTruth) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, cells in zip(("float", "machine"), maps, strict=True):
        if kind == "segmentation" and truth.classes is not None:
            score = metrics.Scores(class_names=truth.classes.names)
            if truth.exact is not None:
                score.add_segmentation(cells, truth.exact)
            found[f"{name}_mean_iou"] = score.mean_iou
        elif kind == "depth":
            score = metrics.Scores()
            if truth.exact is not None:
                score.add_depth(cells, truth.exact)
            found[f"{name}_depth_rmse_m"] = score.depth_rmse
    return found
