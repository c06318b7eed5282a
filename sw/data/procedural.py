"""The project's own scenes as a dataset: generated at the size asked for, never trained on."""

from __future__ import annotations

from tessera.golden.network.network import Task
from tessera.golden.scenes.common import CLASS_COLOURS, CLASS_NAMES
from tessera.golden.scenes.scenes import HELD_OUT, generate
from tessera.sw.data.dataset import DEPTH, SEGMENTATION, ClassSet, Item

CLASS_SET = ClassSet(names=CLASS_NAMES, colours=CLASS_COLOURS)
"""Classes of the scenes."""


def scenes_tell(task: Task, weights: str) -> bool:
    """Whether scenes have truth for a task: its classes are theirs, or it predicts depth as models trained here do.

    ``weights`` say where the model's come from. Imported ones learnt other classes, however many they are.
    """
    return weights != "imported" and (task.kind, task.channels) in ((SEGMENTATION, len(CLASS_SET)), (DEPTH, 1))


class ProceduralScenes:
    """Held-out procedural scenes of ``height`` x ``width`` pixels, the first ``count`` of them."""

    name, split = "procedural", "held-out"
    tasks = (SEGMENTATION, DEPTH)
    notices: tuple[str, ...] = ()

    def __init__(self, count: int, height: int, width: int) -> None:
        if count < 1:
            raise ValueError(f"scenes is {count}; choose at least 1")
        self.classes: ClassSet | None = CLASS_SET
        self._count, self._height, self._width = count, height, width

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._count:
            raise IndexError(index)
        scene = generate(HELD_OUT + index, height=self._height, width=self._width)
        return Item(name=f"scene {index}", image=scene.image, segmentation=scene.label, depth=scene.depth)
