"""Pictures in a folder for each class, as torchvision's ImageFolder has them: ``cat/**/*.png``, ``dog/**/*.png``.

Classes are numbered in the order of their folders' names. Above them may be folders of splits, ``train``, ``val`` and
``test``. A class has its number whether or not a split has pictures of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tessera.sw.data.dataset import CLASSIFICATION, ClassSet, DatasetRequest, Item, distinct_colours, listed
from tessera.sw.data.picture_files import load_file, looks_like_picture, open_rgb
from tessera.sw.data.picture_folder import evenly, files_of, is_visible, unreadable

NAME = "folder"
TASKS = (CLASSIFICATION,)
SPLITS = ("train", "val", "test")
LAYOUT = ("{class}/**/*.png", "or {split}/{class}/**/*.png, where {split} is train, val or test")


@dataclass(frozen=True, kw_only=True)
class FolderLayout:
    """What a folder has, before any picture is looked at.

    Members: ``splits`` there are, none where classes lie directly in ``root``; ``names`` of the classes, in order.
    """

    root: Path
    splits: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LabelledFolder:
    """A folder with a sub-folder for each class, opened: a :class:`tessera.sw.data.dataset.Dataset`.

    ``frames`` are pictures and the numbers of their classes.
    """

    root: Path
    split: str
    frames: tuple[tuple[Path, int], ...]
    classes: ClassSet | None
    notices: tuple[str, ...] = ()
    tasks: tuple[str, ...] = TASKS
    name: str = NAME

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Item:
        path, label = self.frames[index]
        image = np.asarray(open_rgb(path, []), np.uint8)
        return Item(name=str(path.relative_to(self.root)), image=image, label=label)


def read_layout(root: Path) -> FolderLayout:
    """Look at the folders in ``root``; ValueError if it has none for classes."""
    if not root.is_dir():
        what = "a file" if root.exists() else "not there"
        raise ValueError(f"{root} is {what}; give a folder that has a folder for each class")
    top = _folders(root)
    splits = tuple(split for split in SPLITS if split in top and _folders(root / split))
    names = sorted({name for split in splits for name in _folders(root / split)} if splits else top)
    if not names:
        raise ValueError(f"{root} has no folders; expected is one for each class ({LAYOUT[0]}, {LAYOUT[1]})")
    return FolderLayout(root=root, splits=splits, names=tuple(names))


def open_folder(layout: FolderLayout, request: DatasetRequest) -> LabelledFolder:
    """Open a split of the folder.

    A counted selection is read once, because a damaged picture is better found now than an hour later.

    Raises
    ------
    DatasetProblems
        If a class lacks pictures, or pictures lack a class or are damaged; ``request.partial`` leaves those out.
    """
    root, split = layout.root, request.split
    base = root / split
    problems, notices = _beside(layout, base)
    found: list[tuple[Path, int]] = []
    for number, name in enumerate(layout.names):
        files = files_of(base / name) if (base / name).is_dir() else None
        pictures = [path for path in files.pictures if looks_like_picture(path)] if files else []
        found += [(path, number) for path in pictures]
        if files and files.others:
            notices.append(f"no pictures, left out: {_named(root, files.others)}")
        if not pictures:
            place = (base / name).relative_to(root)
            problems.append(f"{place}: no picture" if files else f"{place}: no such folder, another split has it")
    taken = found
    damaged: dict[Path, list[str]] = {}
    if request.count is not None:
        taken = [found[number] for number in evenly(len(found), request.count)]
        damaged = {path: unreadable([path], load_file) for path, _ in taken}
    problems += [line for lines in damaged.values() for line in lines]
    whole = [frame for frame in taken if not damaged.get(frame[0])]
    request.check_complete(f"{base} is not whole", problems, len(whole), "", LAYOUT)
    if len(taken) < len(found):
        notices.append(f"{len(taken):,} of {len(found):,} pictures, selected evenly")
    return LabelledFolder(
        root=root,
        split=split or "all",
        frames=tuple(whole),
        classes=ClassSet(names=layout.names, colours=distinct_colours(len(layout.names))),
        notices=(*problems, *notices),
    )


def _beside(layout: FolderLayout, base: Path) -> tuple[list[str], list[str]]:
    """Problems and notices about what lies beside the class folders of ``base``."""
    root = layout.root
    files = sorted(path for path in base.iterdir() if path.is_file() and is_visible(path.name))
    pictures, others = list[Path](), list[Path]()
    for path in files:
        (pictures if looks_like_picture(path) else others).append(path)
    if layout.splits:
        others += [root / name for name in _folders(root) if name not in layout.splits]
    problems = [f"pictures of no class, beside the class folders: {_named(root, pictures)}"] if pictures else []
    return problems, [f"beside the class folders, left out: {_named(root, others)}"] if others else []


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and is_visible(path.name))


def _named(root: Path, paths: Sequence[Path]) -> str:
    return listed([str(path.relative_to(root)) for path in paths])
