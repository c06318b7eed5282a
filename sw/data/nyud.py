"""NYU Depth v2 (Silberman et al., ECCV 2012): rooms, 40 classes, depth of a Kinect.

Two published forms are read. The multi-task folder ``NYUD_MT`` that ASTMT (CVPR 2019) made and M3ViT trains on: files
``.png`` or ``.mat`` with labels 0 to 40 (0: none), ``.npy`` or ``.mat`` with metres. The authors' own
``nyu_depth_v2_labeled.mat``, a MATLAB 7.3 (HDF5) file of 1449 pictures with 894 labels, and ``splits.mat``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tessera.golden.metrics import IGNORE
from tessera.sw.data import files, nyu40
from tessera.sw.data.dataset import (
    DEPTH,
    SEGMENTATION,
    ClassSet,
    DatasetProblems,
    DatasetRequest,
    Item,
    listed,
    voc_colours,
)

NAME = "nyud"
TASKS = (SEGMENTATION, DEPTH)
LABELED, SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
LABELED_BYTES = 2_972_037_809
SOURCE = (
    "NYUD_MT.tgz of github.com/facebookresearch/astmt or of github.com/SimonVandenhende/Multi-Task-Learning-PyTorch; "
    f"or {LABELED} of cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html with {SPLITS} of "
    "cs.nyu.edu/~silberman/projects/indoor_scene_seg_sup.html"
)
LAYOUT = (
    "gt_sets/{split}.txt                 one name a line",
    "images/{name}.jpg or .png",
    "segmentation/{name}.png or .mat     (segmentation; variable 'segmentation')",
    "depth/{name}.npy or .mat            (depth; variable 'depth')",
    f"or, instead of all these: {LABELED} and {SPLITS}",
)
PICTURES = {"train": 795, "val": 654}

DEPTH_LIMIT = 10.0
"""Metres that the Kinect reaches: the usual limit of evaluations on this dataset."""

_COLOURS = voc_colours(1 + len(nyu40.NAMES))
CLASS_SETS = {
    40: ClassSet(names=nyu40.NAMES, colours=_COLOURS[1:]),
    41: ClassSet(names=("background", *nyu40.NAMES), colours=_COLOURS),
}
"""40 classes, unlabelled pixels ignored; or 41, as in ASTMT, where unlabelled pixels are a class."""

_SUFFIXES = {"images": (".jpg", ".png"), SEGMENTATION: (".png", ".mat"), DEPTH: (".npy", ".mat")}


def classes_of(numbers: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Table entries for class numbers 0 (none) to 40, as one of ``CLASS_SETS`` counts them."""
    return numbers if classes == 41 else np.where(numbers == 0, IGNORE, numbers - 1)


@dataclass(frozen=True, kw_only=True)
class NyudFolder:
    """The folder ``NYUD_MT``, opened; see :class:`tessera.sw.data.dataset.Dataset`."""

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
        image = files.read_image(_path(self.root, "images", name))
        segmentation = depth = None
        if SEGMENTATION in self.tasks and self.classes is not None:
            path = _path(self.root, SEGMENTATION, name)
            table = classes_of(np.arange(1 + len(nyu40.NAMES)), len(self.classes))
            segmentation = files.classes_of_file(path, files.read_labels(path, "segmentation"), table, image)
        if DEPTH in self.tasks:
            path = _path(self.root, DEPTH, name)
            depth = files.as_depth(files.read_array(path, "depth"), DEPTH_LIMIT)
            files.check_size(path, depth, image)
        return Item(name=name, image=image, segmentation=segmentation, depth=depth)


@dataclass(frozen=True, kw_only=True)
class NyudLabeled:
    """The file ``nyu_depth_v2_labeled.mat``, opened; see :class:`tessera.sw.data.dataset.Dataset`.

    MATLAB stores columns first, so the arrays appear transposed: ``images`` (N, 3, W, H), ``labels`` and ``depths`` (N,
    W, H); ``rawDepths`` has holes of 0 where ``depths`` is filled in. ``numbers`` are the split's pictures, from 0.
    """

    path: Path
    split: str
    tasks: tuple[str, ...]
    numbers: tuple[int, ...]
    classes: ClassSet | None
    depth_name: str = "depths"
    notices: tuple[str, ...] = ()
    name: str = NAME

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Item:
        import h5py

        number = self.numbers[index]
        source = f"{self.path}, picture {number + 1}"
        with h5py.File(self.path) as file:
            image = np.ascontiguousarray(file["images"][number].transpose(2, 1, 0))
            segmentation = depth = None
            if SEGMENTATION in self.tasks and self.classes is not None:
                table = classes_of(nyu40.class_numbers(), len(self.classes))
                segmentation = files.remap(files.whole_numbers(file["labels"][number].T, source), table, source)
            if DEPTH in self.tasks:
                depth = files.as_depth(file[self.depth_name][number].T, DEPTH_LIMIT)
        return Item(name=f"picture {number + 1}", image=image, segmentation=segmentation, depth=depth)


def open_nyud(root: Path, request: DatasetRequest) -> NyudFolder | NyudLabeled:
    """Open the folder ``root`` in whichever form it has; see :func:`tessera.sw.data.datasets.open_dataset`."""
    request.check_split(NAME, tuple(PICTURES))
    tasks = request.wanted(NAME, TASKS)
    classes = request.class_set(NAME, CLASS_SETS)
    if (root / LABELED).is_file() and not (root / "gt_sets").is_dir():
        return _open_labeled(root, request, tasks, classes)
    if request.raw_depth:
        raise ValueError(f"the sensor's raw depth is in {LABELED} only, and {root} has no such file")
    return _open_folder(root, request, tasks, classes)


def _open_folder(root: Path, request: DatasetRequest, tasks: tuple[str, ...], classes: ClassSet) -> NyudFolder:
    listing = root / "gt_sets" / f"{request.split}.txt"
    if not listing.is_file():
        problems = [f"missing: {listing.relative_to(root)}", f"missing: {LABELED}"]
        raise DatasetProblems(f"{root} holds neither form of NYU Depth v2", problems, SOURCE, LAYOUT)
    names = files.read_names(listing)
    problems, complete = [], names
    for kind in ("images", *tasks):
        lacking = [name for name in names if not _path(root, kind, name).is_file()]
        if lacking:
            what = f"{kind}/*{' or *'.join(_SUFFIXES[kind])}"
            problems.append(f"{what}: {len(lacking):,} of {len(names):,} are missing: {listed(lacking)}")
            complete = [name for name in complete if name not in set(lacking)]
    if len(names) < PICTURES[request.split]:
        problems.append(f"{listing.relative_to(root)} lists {len(names):,} of {PICTURES[request.split]:,} pictures")
    request.check_complete(f"{root} lacks parts of NYU Depth v2", problems, len(complete), SOURCE, LAYOUT)
    return NyudFolder(
        root=root,
        split=request.split,
        tasks=tasks,
        pictures=tuple(complete),
        classes=classes if SEGMENTATION in tasks else None,
        notices=tuple(problems),
    )


def _open_labeled(root: Path, request: DatasetRequest, tasks: tuple[str, ...], classes: ClassSet) -> NyudLabeled:
    depth_name = "rawDepths" if request.raw_depth else "depths"
    needed = [name for task, name in ((SEGMENTATION, "labels"), (DEPTH, depth_name)) if task in tasks]
    count, problems = _count(root / LABELED, ["images", *needed])
    numbers, more = _numbers(root / SPLITS, "trainNdxs" if request.split == "train" else "testNdxs")
    problems += more
    if numbers and count and not 0 <= numbers[0] <= numbers[-1] < count:
        problems.append(f"{SPLITS} names pictures {numbers[0] + 1} to {numbers[-1] + 1}, {LABELED} has {count}")
    if not problems and len(numbers) < PICTURES[request.split] and not request.partial:
        problems.append(f"{SPLITS} names {len(numbers)} of {PICTURES[request.split]} pictures; --partial uses those")
    if problems:
        raise DatasetProblems(f"{root} lacks parts of NYU Depth v2", problems, SOURCE, LAYOUT)
    return NyudLabeled(
        path=root / LABELED,
        split=request.split,
        tasks=tasks,
        numbers=numbers,
        classes=classes if SEGMENTATION in tasks else None,
        depth_name=depth_name,
    )


def _count(path: Path, needed: list[str]) -> tuple[int, list[str]]:
    """Pictures in the labelled file, and what is wrong with it."""
    import h5py

    try:
        with h5py.File(path) as file:
            counts = {name: len(file[name]) for name in needed if name in file}
    except OSError as error:
        return 0, [f"{path.name} is not a whole HDF5 file ({error}); complete it has {LABELED_BYTES:,} bytes"]
    problems = [f"{path.name} has no variable '{name}'" for name in needed if name not in counts]
    if len(set(counts.values())) > 1:
        problems.append(f"{path.name} has unequal numbers: {', '.join(f'{n} {name}' for name, n in counts.items())}")
    return min(counts.values(), default=0), problems


def _numbers(path: Path, key: str) -> tuple[tuple[int, ...], list[str]]:
    """Pictures of a split, from 0, and what is wrong with the file that lists them, from 1."""
    from scipy.io import loadmat

    if not path.is_file():
        return (), [f"missing: {path.name}, which says what is training and what is test"]
    try:
        return tuple(sorted(int(number) - 1 for number in loadmat(path)[key].ravel())), []
    except Exception as error:  # scipy raises whatever a broken file leads it to
        return (), [f"{path.name} has no readable '{key}' ({error!r})"]


def _path(root: Path, kind: str, name: str) -> Path:
    """The file of one kind, with the suffix that is there (or the first, if none is)."""
    candidates = [root / kind / f"{name}{suffix}" for suffix in _SUFFIXES[kind]]
    return files.first_there(candidates) or candidates[0]
