"""What a model is scored on, and which of its tasks that has truth for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera.golden.checkpoint import Checkpoint
from tessera.golden.network.network import Network, Task
from tessera.golden.scenes.common import CLASS_NAMES
from tessera.sw.data.dataset import CLASSIFICATION, DEPTH, SEGMENTATION, listed
from tessera.sw.data.datasets import (
    PROCEDURAL,
    Dataset,
    DatasetRequest,
    DataSource,
    Offer,
    ProceduralScenes,
    find_source,
    resized,
)
from tessera.sw.data.picture_folder import evenly
from tessera.sw.data.procedural import scenes_tell
from tessera.sw.run.calibrated import MOST, CalibratedOn, CalibrationImages, calibrated_on

SCENES = 500
"""Pictures to score on unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """Pictures to score on and pictures to calibrate with.

    Members: ``dataset``; ``tasks``, for each kind that it has truth for, the index of the model's task that is scored;
    ``calibration``; ``notices``, what a reader of results should know.
    """

    dataset: Dataset
    tasks: dict[str, int]
    calibration: CalibratedOn
    notices: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that are scored; empty without any."""
        told = self.dataset.classes if {SEGMENTATION, CLASSIFICATION} & self.tasks.keys() else None
        return () if told is None else tuple(told.names)

    @property
    def scored(self) -> tuple[str, ...]:
        """Kinds of the tasks that are scored."""
        return tuple(self.tasks)


def choose_data(
    model: Checkpoint,
    name: str = PROCEDURAL,
    root: Path | None = None,
    *,
    scenes: int | None = SCENES,
    calibration_images: CalibrationImages | None = None,
    **request: Any,
) -> EvaluationData:
    """Open what ``model`` is to be scored on.

    Parameters
    ----------
    model:
        The model; of its tasks the first of each kind is scored that the dataset has truth for, with as many classes.
    name, root:
        ``procedural``; one of :data:`tessera.sw.data.datasets.DATASETS` and its folder; or ``folder:PATH``.
    scenes:
        How many pictures to open: the first scenes, or an even selection of the user's own. None for all that there
        are; of scenes ``SCENES``.
    calibration_images:
        What to calibrate with; None for training pictures of the dataset, or procedural ones.
    request:
        ``split``, ``partial`` and ``raw_depth`` of :class:`tessera.sw.data.datasets.DatasetRequest`.

    Raises
    ------
    ValueError
        For an unknown dataset, one that is not whole (DatasetProblems), or one that the model's heads don't fit.
    """
    network = model.network
    if name == PROCEDURAL:
        procedural = ProceduralScenes(scenes or SCENES, network.image_height, network.image_width)
        offer = Offer(name=name, tasks=procedural.tasks, classes=(len(CLASS_NAMES),))
        tasks, notices = _scored(model, offer)
        seen = calibrated_on(calibration_images, model)
        return EvaluationData(dataset=procedural, tasks=tasks, calibration=seen, notices=tuple(notices))
    source = find_source(name, root)
    tasks, notices = _scored(model, source)
    _check_scored(network, source, tasks, notices)
    classes = network.tasks[tasks[SEGMENTATION]].channels if SEGMENTATION in tasks else None
    wanted = {**request, "split": source.split(request.get("split"))}
    dataset = source.open(DatasetRequest(tasks=tuple(tasks), classes=classes, count=scenes, **wanted))
    training = None if calibration_images is not None else _training_pictures(network, source, wanted)
    if calibration_images is None and training is None:
        notices.append(f"{name} has no training pictures: calibrated with procedural scenes")
    return EvaluationData(
        dataset=dataset,
        tasks=tasks,
        calibration=training or calibrated_on(calibration_images, model),
        notices=(*notices, *dataset.notices),
    )


def _scored(model: Checkpoint, source: Offer) -> tuple[dict[str, int], list[str]]:
    """Indices of the tasks that are scored, by kind, and why the others are not."""
    tasks: dict[str, int] = {}
    notices: list[str] = []
    for index, task in enumerate(model.network.tasks):
        why = _not_scored(task, source, model.weights)
        if why is None and task.kind in tasks:
            why = f"is not scored: '{model.network.tasks[tasks[task.kind]].name}' is of its kind too"
        if why is None:
            tasks[task.kind] = index
        else:
            notices.append(f"task '{task.name}' {why}")
    return tasks, notices


def _not_scored(task: Task, source: Offer, weights: str) -> str | None:
    """Why a task cannot be scored on a dataset; None if it can."""
    name = source.name
    if task.kind == "features":
        return "has no head: only its routing and features are compared with float"
    if task.kind == CLASSIFICATION and CLASSIFICATION not in source.tasks:
        return "classifies whole pictures: only its logits are compared with float"
    if task.kind not in source.tasks:
        return f"is not scored: {name} has no {task.kind}"
    if task.kind != DEPTH and task.channels not in source.classes:
        known = " or ".join(map(str, source.classes))
        names = f" ({listed(source.class_names)})" if source.class_names else ""
        return f"is not scored: it tells {task.channels} classes, {name} has {known}{names}"
    if name == PROCEDURAL and not scenes_tell(task, weights):
        return "is not scored: an imported model did not learn what scenes show"
    return None


def _check_scored(network: Network, source: Offer, tasks: Mapping[str, int], notices: list[str]) -> None:
    """ValueError if nothing is scored, and nothing could be compared with float alone either."""
    silent = {"features"} | ({CLASSIFICATION} - set(source.tasks))
    if not tasks and all(task.kind not in silent for task in network.tasks):
        raise ValueError(
            f"nothing that '{network.name}' predicts can be scored on {source.name}: {'; '.join(notices)}; "
            "train heads for this dataset, or choose another with --data"
        )


def _training_pictures(network: Network, source: DataSource, request: Mapping[str, Any]) -> CalibratedOn | None:
    """Training pictures of a dataset at the model's size, selected evenly, if there are any."""
    if source.splits is not None and "train" not in source.splits:
        return None
    wanted = {**request, "split": "train", "partial": True}
    try:
        training = source.open(DatasetRequest(tasks=(), **wanted))
    except ValueError:
        return None
    numbers = evenly(len(training), MOST)
    if not numbers:
        return None
    items = [resized(training[number], network.image_height, network.image_width) for number in numbers]
    return CalibratedOn(
        source="its training pictures",
        images=np.stack([item.image.transpose(2, 0, 1) for item in items]),
        found=len(training),
        files=tuple(item.name for item in items),
    )
