"""Cityscapes (Cordts et al., CVPR 2016): streets, 19 classes, depth from published disparities.

Labels, colours and the meaning of a disparity are those of the dataset's own tools (cityscapesScripts): of 34 labels 19
are evaluated; disparity is (p - 1) / 256 pixels for a 16-bit value p, and p = 0 is no measurement. Depth is
baseline * fx / disparity, with both from the picture's camera file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tessera.sw.data import files
from tessera.sw.data.dataset import DEPTH, SEGMENTATION, ClassSet, DatasetRequest, Item, listed, lookup

NAME = "cityscapes"
TASKS = (SEGMENTATION, DEPTH)
SOURCE = (
    "www.cityscapes-dataset.net/downloads, free after registration: leftImg8bit_trainvaltest.zip, "
    "gtFine_trainvaltest.zip, disparity_trainvaltest.zip and camera_trainvaltest.zip, unpacked into one folder"
)
LAYOUT = (
    "leftImg8bit/{split}/{city}/{city}_{seq}_{frame}_leftImg8bit.png",
    "gtFine/{split}/{city}/{city}_{seq}_{frame}_gtFine_labelIds.png    (segmentation)",
    "disparity/{split}/{city}/{city}_{seq}_{frame}_disparity.png       (depth)",
    "camera/{split}/{city}/{city}_{seq}_{frame}_camera.json            (depth)",
)
PICTURES = {"train": 2975, "val": 500}
"""Pictures of each split with public labels."""

DEPTH_LIMIT = 80.0
"""Metres; farther, a disparity of a few pixels says little. The usual limit of evaluations on driving scenes."""

LABELS = 34
_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
"""Label, name and colour of each class, in the order of the train ids."""

CLASS_SET = ClassSet(
    names=tuple(name for _, name, _ in _CLASSES),
    colours=np.array([colour for *_, colour in _CLASSES], np.uint8),
)
TRAIN_IDS = lookup({label: number for number, (label, *_) in enumerate(_CLASSES)}, LABELS)
"""Class of each of the 34 labels; the other 15 are ignored."""

_PARTS = {
    SEGMENTATION: (("gtFine", "_gtFine_labelIds.png"),),
    DEPTH: (("disparity", "_disparity.png"), ("camera", "_camera.json")),
}
_IMAGE = ("leftImg8bit", "_leftImg8bit.png")


@dataclass(frozen=True, kw_only=True)
class Cityscapes:
    """Cityscapes, opened: a :class:`tessera.sw.data.dataset.Dataset`. ``frames`` are cities and stems of pictures."""

    root: Path
    split: str
    tasks: tuple[str, ...]
    frames: tuple[tuple[str, str], ...]
    classes: ClassSet | None
    notices: tuple[str, ...] = ()
    name: str = NAME

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Item:
        city, stem = self.frames[index]
        image = files.read_image(self._path(*_IMAGE, city, stem))
        segmentation = depth = None
        if SEGMENTATION in self.tasks:
            path = self._path(*_PARTS[SEGMENTATION][0], city, stem)
            labels = files.read_integers(path, "a label for each pixel")
            segmentation = files.classes_of_file(path, labels, TRAIN_IDS, image)
        if DEPTH in self.tasks:
            disparity, camera = (self._path(*part, city, stem) for part in _PARTS[DEPTH])
            depth = read_depth(disparity, camera)
            files.check_size(disparity, depth, image)
        return Item(name=stem, image=image, segmentation=segmentation, depth=depth)

    def _path(self, kind: str, suffix: str, city: str, stem: str) -> Path:
        return self.root / kind / self.split / city / f"{stem}{suffix}"


def read_depth(disparity: Path, camera: Path) -> NDArray[np.float32]:
    """Metres (H, W) from a disparity picture and the camera's file; NaN where there is no measurement."""
    raw = files.read_integers(disparity, "a 16-bit disparity for each pixel")
    try:
        data = json.loads(camera.read_text(encoding="utf-8"))
        product = float(data["extrinsic"]["baseline"]) * float(data["intrinsic"]["fx"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{camera} has no readable extrinsic.baseline and intrinsic.fx ({error!r}): fetch it again"
        ) from error
    if not product > 0:
        raise ValueError(f"{camera}: baseline times fx is {product}, expected more than 0: fetch it again")
    measured = raw > 1  # 0 is no measurement, 1 no disparity: infinitely far
    depth = np.zeros(raw.shape)
    depth[measured] = product / ((raw[measured] - 1) / 256)
    return files.as_depth(depth, DEPTH_LIMIT)


def open_cityscapes(root: Path, request: DatasetRequest) -> Cityscapes:
    """Open the folder ``root``; see :func:`tessera.sw.data.datasets.open_dataset`."""
    request.check_split(NAME, tuple(PICTURES))
    tasks = request.wanted(NAME, TASKS)
    classes = request.class_set(NAME, {len(CLASS_SET): CLASS_SET})
    found = _stems(root, *_IMAGE, request.split)
    problems, complete = [], found
    expected = PICTURES[request.split]
    if len(found) < expected:
        problems.append(f"{_IMAGE[0]}/{request.split}: {len(found):,} of {expected:,} pictures")
    for kind, suffix in (part for task in tasks for part in _PARTS[task]):
        there = _stems(root, kind, suffix, request.split)
        lacking = sorted(stem for _, stem in found - there)
        if lacking:
            few = listed([f"{stem}{suffix}" for stem in lacking])
            problems.append(f"{kind}/{request.split}: missing for {len(lacking):,} of {len(found):,} pictures: {few}")
        complete = complete & there
    request.check_complete(f"{root} lacks parts of Cityscapes", problems, len(complete), SOURCE, LAYOUT)
    return Cityscapes(
        root=root,
        split=request.split,
        tasks=tasks,
        frames=tuple(sorted(complete)),
        classes=classes if SEGMENTATION in tasks else None,
        notices=tuple(problems),
    )


def _stems(root: Path, kind: str, suffix: str, split: str) -> set[tuple[str, str]]:
    """City and stem of every file of one kind."""
    folder = root / kind / split
    return {(path.parent.name, path.name.removesuffix(suffix)) for path in folder.glob(f"*/*{suffix}")}
