"""What is known of the right answer: which of a model's tasks a generated scene has truth for, and what it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.golden.network.network import Network, Task
from tessera.golden.scenes.scenes import Scene
from tessera.sw.data.dataset import DEPTH, SEGMENTATION, ClassSet, numbered_classes
from tessera.sw.data.procedural import CLASS_SET, scenes_tell


@dataclass(frozen=True, kw_only=True)
class TaskTruth:
    """What is known of a task on one picture.

    Members: ``classes``, names and colours of what the task tells apart, None for tasks without classes; ``exact``,
    labels or metres (H, W), None where nobody knows them.
    """

    classes: ClassSet | None = None
    exact: np.ndarray | None = None


def told_tasks(model: Network, weights: str) -> dict[str, int]:
    """Indices of the tasks that scenes have truth for, by kind; of several of one kind, the first."""
    told: dict[str, int] = {}
    for index, task in enumerate(model.tasks):
        if scenes_tell(task, weights):
            told.setdefault(task.kind, index)
    return told


def truth_of(task: Task, weights: str, scene: Scene | None) -> TaskTruth:
    """What is known of ``task`` on a picture that may be a scene; ``weights`` say where the model's come from."""
    told = scenes_tell(task, weights)
    if task.kind not in (SEGMENTATION, "classification"):
        exact = scene.depth if scene is not None and told and task.kind == DEPTH else None
        return TaskTruth(exact=exact)
    classes = CLASS_SET if told else numbered_classes(task.channels)
    return TaskTruth(classes=classes, exact=scene.label if scene is not None and told else None)
