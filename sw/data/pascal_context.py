"""PASCAL-Context (Mottaghi et al., CVPR 2014): the pictures of VOC 2010, labelled throughout with 459 labels.

Three sets of classes are in use, and all are read. 59: the frequent labels in the order of their numbers, the rest
ignored. 60: the same with the rest as a background class. 21: VOC's own classes, as in the multi-task folder
``PASCAL_MT`` that ASTMT (CVPR 2019) made and M3ViT trains on. There is no depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tessera.golden.metrics import IGNORE
from tessera.sw.data import files
from tessera.sw.data.dataset import (
    SEGMENTATION,
    ClassSet,
    DatasetProblems,
    DatasetRequest,
    Item,
    listed,
    lookup,
    voc_colours,
)

NAME = "pascal-context"
TASKS = (SEGMENTATION,)
SOURCE = (
    "PASCAL_MT.tgz of github.com/facebookresearch/astmt; or VOC 2010 of host.robots.ox.ac.uk/pascal/VOC/voc2010 with "
    "the labels of cs.stanford.edu/~roozbeh/pascal-context (trainval.tar.gz)"
)
LAYOUT = (
    "JPEGImages/{name}.jpg",
    "ImageSets/Context/{split}.txt or ImageSets/SegmentationContext/{split}.txt    one name a line",
    "59, 60 classes: pascal-context/trainval/{name}.mat or trainval/{name}.mat, variable 'LabelMap', labels 1 to 459",
    "                or SegmentationClassContext/{name}.png, 0 (background) to 59",
    "21 classes:     semseg/VOC12/{name}.png or semseg/pascal-context/{name}.png, 0 to 20, 255 where ignored",
)
PICTURES = {"train": 4998, "val": 5105}
LABELS = 459

# fmt: off
_CONTEXT = {
    2: "aeroplane", 9: "bag", 18: "bed", 19: "bedclothes", 22: "bench", 23: "bicycle", 25: "bird", 31: "boat",
    33: "book", 34: "bottle", 44: "building", 45: "bus", 46: "cabinet", 59: "car", 65: "cat", 68: "ceiling",
    72: "chair", 80: "cloth", 85: "computer", 98: "cow", 104: "cup", 105: "curtain", 113: "dog", 115: "door",
    144: "fence", 158: "floor", 159: "flower", 162: "food", 187: "grass", 189: "ground", 207: "horse",
    220: "keyboard", 232: "light", 258: "motorbike", 259: "mountain", 260: "mouse", 284: "person", 295: "plate",
    296: "platform", 308: "pottedplant", 324: "road", 326: "rock", 347: "sheep", 349: "shelves", 354: "sidewalk",
    355: "sign", 360: "sky", 366: "snow", 368: "sofa", 397: "table", 415: "track", 416: "train", 420: "tree",
    424: "truck", 427: "tvmonitor", 440: "wall", 445: "water", 454: "window", 458: "wood",
}
"""The 59 frequent labels by number."""
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on

_COLOURS = voc_colours(1 + len(_CONTEXT))
CLASS_SETS = {
    59: ClassSet(names=tuple(_CONTEXT.values()), colours=_COLOURS[1:]),
    60: ClassSet(names=("background", *_CONTEXT.values()), colours=_COLOURS),
    21: ClassSet(names=_VOC, colours=voc_colours(len(_VOC))),
}

_LISTINGS = ("ImageSets/Context", "ImageSets/SegmentationContext")
_CONTEXT_FILES = ("pascal-context/trainval/{}.mat", "trainval/{}.mat", "SegmentationClassContext/{}.png")
_VOC_FILES = ("semseg/VOC12/{}.png", "semseg/pascal-context/{}.png")


def label_table(classes: int, raw: bool) -> NDArray[np.int64]:
    """Class of each value in a label file of one of ``CLASS_SETS``; ``raw``: of 459 labels instead of 0 to 59."""
    if classes == 21:
        table = np.full(IGNORE + 1, -1, np.int64)
        table[: len(_VOC)], table[IGNORE] = np.arange(len(_VOC)), IGNORE
        return table
    first = classes - len(_CONTEXT)  # 1 with a background class
    if not raw:
        return np.array([0 if first else IGNORE, *(number + first for number in range(len(_CONTEXT)))])
    table = lookup({label: number + first for number, label in enumerate(_CONTEXT)}, LABELS + 1)
    return np.where((table == IGNORE) & bool(first), 0, table)


@dataclass(frozen=True, kw_only=True)
class PascalContext:
    """PASCAL-Context, opened; see :class:`tessera.sw.data.dataset.Dataset`."""

    root: Path
    split: str
    tasks: tuple[str, ...]
    pictures: tuple[str, ...]
    classes: ClassSet | None
    notices: tuple[str, ...] = ()
    name: str = NAME

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Item:
        name = self.pictures[index]
        image = files.read_image(_image(self.root, name))
        if self.classes is None:
            return Item(name=name, image=image)
        path = _labels(self.root, name, len(self.classes))
        assert path is not None, "checked when the dataset was opened"
        labels = files.read_labels(path, "LabelMap")
        segmentation = files.classes_of_file(path, labels, label_table(len(self.classes), path.suffix == ".mat"), image)
        return Item(name=name, image=image, segmentation=segmentation)


def open_pascal_context(root: Path, request: DatasetRequest) -> PascalContext:
    """Open the folder ``root``; see :func:`tessera.sw.data.datasets.open_dataset`."""
    request.check_split(NAME, tuple(PICTURES))
    tasks = request.wanted(NAME, TASKS)
    classes = request.class_set(NAME, CLASS_SETS)
    listing = files.first_there([root / folder / f"{request.split}.txt" for folder in _LISTINGS])
    if listing is None:
        missing = [f"missing: {' or '.join(f'{folder}/{request.split}.txt' for folder in _LISTINGS)}"]
        raise DatasetProblems(f"{root} does not hold PASCAL-Context", missing, SOURCE, LAYOUT)
    names = files.read_names(listing)
    no_image = [name for name in names if not _image(root, name).is_file()]
    no_labels = [name for name in names if tasks and _labels(root, name, len(classes)) is None]
    problems = [
        f"{what}: {len(lacking):,} of {len(names):,} are missing: {listed(lacking)}"
        for what, lacking in (("JPEGImages/*.jpg", no_image), (f"labels of {len(classes)} classes", no_labels))
        if lacking
    ]
    if len(names) < PICTURES[request.split]:
        problems.append(f"{listing.relative_to(root)} lists {len(names):,} of {PICTURES[request.split]:,} pictures")
    complete = [name for name in names if name not in {*no_image, *no_labels}]
    request.check_complete(f"{root} lacks parts of PASCAL-Context", problems, len(complete), SOURCE, LAYOUT)
    return PascalContext(
        root=root,
        split=request.split,
        tasks=tasks,
        pictures=tuple(complete),
        classes=classes if tasks else None,
        notices=tuple(problems),
    )


def _image(root: Path, name: str) -> Path:
    return root / "JPEGImages" / f"{name}.jpg"


def _labels(root: Path, name: str, classes: int) -> Path | None:
    patterns = _VOC_FILES if classes == len(_VOC) else _CONTEXT_FILES
    return files.first_there([root / pattern.format(name) for pattern in patterns])
