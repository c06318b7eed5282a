"""What a model is scored on, and which of its tasks that has truth for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.golden.config import ModelConfig
from tessera.golden.scenes.common import CLASS_NAMES
from tessera.sw.data.dataset import DEPTH, SEGMENTATION
from tessera.sw.data.datasets import (
    DATASETS,
    PROCEDURAL,
    Dataset,
    DatasetRequest,
    ProceduralScenes,
    open_dataset,
    resized,
)
from tessera.sw.data.procedural import scenes_tell
from tessera.sw.quantiser.quantise import CALIBRATION_SCENES

SCENES = 500
"""Procedural scenes to score on unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """Pictures to score on and pictures to calibrate with.

    Members: ``dataset``; ``tasks``, for each kind that it has truth for, the index of the model's task that is scored;
    ``calibration`` (B, 3, H, W) bytes, None for procedural training scenes; ``notices``, what a reader of results
    should know.
    """

    dataset: Dataset
    tasks: dict[str, int]
    calibration: NDArray[np.uint8] | None
    notices: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that are scored; empty without any."""
        told = self.dataset.classes if SEGMENTATION in self.tasks else None
        return () if told is None else tuple(told.names)

    @property
    def scored(self) -> tuple[str, ...]:
        """Kinds of the tasks that are scored."""
        return tuple(self.tasks)


def choose_data(
    model: ModelConfig,
    name: str = PROCEDURAL,
    root: Path | None = None,
    *,
    weights: str = "trained",
    scenes: int = SCENES,
    **request: Any,
) -> EvaluationData:
    """Open what ``model`` is to be scored on.

    Parameters
    ----------
    model:
        The geometry; of its tasks the first of each kind is scored that the dataset has truth for, with as many
        classes.
    name, root:
        ``procedural``, or one of :data:`tessera.sw.data.datasets.DATASETS` and its folder.
    weights:
        Where the model's weights come from. Scenes have no truth for imported ones.
    scenes:
        How many procedural scenes to open.
    request:
        ``split``, ``partial`` and ``raw_depth`` of :class:`tessera.sw.data.datasets.DatasetRequest`.

    Raises
    ------
    ValueError
        For an unknown dataset, one that is not whole (DatasetProblems), or one that the model's heads don't fit.
    """
    offered, counts = ProceduralScenes.tasks, (len(CLASS_NAMES),)  # type: tuple[str, ...], tuple[int, ...]
    if name != PROCEDURAL and name in DATASETS:
        offered, counts = DATASETS[name].tasks, DATASETS[name].classes
    tasks: dict[str, int] = {}
    notices: list[str] = []
    for index, task in enumerate(model.tasks):
        if task.kind == "features":
            notices.append(f"task '{task.name}' has no head: only its routing and features are compared with float")
        elif task.kind == "classification":
            notices.append(f"task '{task.name}' classifies whole pictures: only its logits are compared with float")
        elif task.kind not in offered:
            notices.append(f"task '{task.name}' is not scored: {name} has no {task.kind}")
        elif task.kind == SEGMENTATION and task.channels not in counts:
            known = " or ".join(map(str, counts))
            notices.append(f"task '{task.name}' is not scored: it tells {task.channels} classes, {name} has {known}")
        elif name == PROCEDURAL and not scenes_tell(task, weights):
            notices.append(f"task '{task.name}' is not scored: an imported model did not learn what scenes show")
        elif task.kind in tasks:
            notices.append(
                f"task '{task.name}' is not scored: '{model.tasks[tasks[task.kind]].name}' is of its kind too"
            )
        else:
            tasks[task.kind] = index
    if name != PROCEDURAL and not tasks and all(task.kind in (SEGMENTATION, DEPTH) for task in model.tasks):
        raise ValueError(
            f"nothing that '{model.name}' predicts can be scored on {name}: {'; '.join(notices)}; "
            "train heads for this dataset, or choose another with --data"
        )
    if name == PROCEDURAL:
        procedural = ProceduralScenes(scenes, model.image_height, model.image_width)
        return EvaluationData(dataset=procedural, tasks=tasks, calibration=None, notices=tuple(notices))
    classes = model.tasks[tasks[SEGMENTATION]].channels if SEGMENTATION in tasks else None
    dataset = open_dataset(name, root, DatasetRequest(tasks=tuple(tasks), classes=classes, **request))
    calibration = _calibration(model, name, root, request)
    if calibration is None:
        notices.append(f"{name} has no training pictures in {root}: calibrated with procedural scenes")
    return EvaluationData(
        dataset=dataset,
        tasks=tasks,
        calibration=calibration,
        notices=(*notices, *dataset.notices),
    )


def _calibration(model: ModelConfig, name: str, root: Path | None, request: dict[str, Any]) -> NDArray[np.uint8] | None:
    """The first training pictures of a dataset at the model's size, if there are any."""
    wanted = {**request, "split": "train", "partial": True}
    try:
        training = open_dataset(name, root, DatasetRequest(tasks=(), **wanted))
    except ValueError:
        return None
    count = min(len(CALIBRATION_SCENES), len(training))
    items = (resized(training[number], model.image_height, model.image_width) for number in range(count))
    return np.stack([item.image.transpose(2, 0, 1) for item in items]) if count else None
