"""Pictures in a folder for each class, as torchvision's ImageFolder has them: ``cat/**/*.png``, ``dog/**/*.png``.

Classes are numbered in the order of their folders' names. Above them may be folders of splits, ``train``, ``val`` and
``test``; other usual names of these are taken with a notice. A class has its number whether or not a split has pictures
of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tessera.sw.data.dataset import CLASSIFICATION, ClassSet, DatasetRequest, Item, distinct_colours, listed
from tessera.sw.data.picture_files import load_file, looks_like_picture, open_rgb
from tessera.sw.data.picture_folder import evenly, files_of, is_visible, unreadable

NAME = "folder"
TASKS = (CLASSIFICATION,)
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""What the folder of each split may be called, in letters of either case."""
LAYOUT = ("{class}/**/*.png", "or {split}/{class}/**/*.png, where {split} is train, val or test")


@dataclass(frozen=True, kw_only=True)
class FolderLayout:
    """What a folder has, before any picture is looked at.

    Members: names of the ``folders`` of splits, none where classes lie directly in ``root``; ``names`` of the classes,
    in order.
    """

    root: Path
    folders: Mapping[str, str]
    names: tuple[str, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        return tuple(self.folders)


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
    """Look at the folders in ``root``; ValueError if it has none for classes, or one that is another's."""
    if not root.is_dir():
        what = "a file" if root.exists() else "not there"
        raise ValueError(f"{root} is {what}; give a folder that has a folder for each class")
    top = _folders(root)
    if not top:
        raise ValueError(f"{root} has no folders; expected is one for each class ({LAYOUT[0]}, {LAYOUT[1]})")
    folders = _split_folders(root, top)
    found = {name: _class_folders(root / name) for name in folders.values()} or {"": _class_folders(root)}
    names = sorted({name for classes in found.values() for name in classes})
    return FolderLayout(root=root, folders=folders, names=tuple(names))


def _split_folders(root: Path, top: Sequence[str]) -> dict[str, str]:
    """Names of the folders of splits; ValueError for two of one split, and for splits without classes."""
    alike = {split: [name for name in top if name.lower() in known] for split, known in SPLITS.items()}
    there = {split: [name for name in names if _folders(root / name)] for split, names in alike.items()}
    for split, names in there.items():
        if len(names) > 1:
            raise ValueError(f"{root} has {listed(names)}, which may each be the split {split}: take one of them away")
    folders = {split: names[0] for split, names in there.items() if names}
    if not folders and sum(map(len, alike.values())) == len(top):
        raise ValueError(
            f"{root} has folders of splits ({listed(top)}) without folders of classes in them; expected is one for "
            f"each class ({LAYOUT[0]}, {LAYOUT[1]})"
        )
    return folders


def _class_folders(folder: Path) -> list[str]:
    """Names of the classes; ValueError for a link to another class."""
    names, real = _folders(folder), dict[Path, str]()
    for name in sorted(names, key=lambda name: (folder / name).is_symlink()):
        path = (folder / name).resolve()
        other = next((real[known] for known in real if path.is_relative_to(known) or known.is_relative_to(path)), None)
        if other is not None:
            raise ValueError(f"{folder / name} is a link into {folder / other}, another class: take the link away")
        real[path] = name
    return names


def open_folder(layout: FolderLayout, request: DatasetRequest) -> LabelledFolder:
    """Open a split of the folder.

    A counted selection is read once, because a damaged picture is better found now than an hour later.

    Raises
    ------
    DatasetProblems
        If a class lacks pictures, or pictures lack a class or are damaged; ``request.partial`` leaves those out.
    """
    root, split = layout.root, request.split
    base = root / layout.folders.get(split, "")
    problems, notices = _beside(layout, base)
    found: list[tuple[Path, int]] = []
    for number, name in enumerate(layout.names):
        beside = [base / other for other in layout.names if other != name]
        files = files_of(base / name, beside) if (base / name).is_dir() else None
        pictures = [path for path in files.pictures if looks_like_picture(path)] if files else []
        found += [(path, number) for path in pictures]
        if files and files.others:
            notices.append(f"no pictures, left out: {_named(root, files.others)}")
        if files and files.links:
            notices.append(
                f"links to folders that are read already or lie above, left out: {_named(root, files.links)}"
            )
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
        others += [root / name for name in _folders(root) if name not in layout.folders.values()]
    problems = [f"pictures of no class, beside the class folders: {_named(root, pictures)}"] if pictures else []
    notices = [f"{name} is taken as the split {split}" for split, name in layout.folders.items() if name != split]
    if others:
        notices.append(f"beside the class folders, left out: {_named(root, others)}")
    return problems, notices


def _folders(folder: Path) -> list[str]:
    """Names of the visible folders in ``folder``, sorted; ValueError for a link that leads to it or above."""
    paths = sorted(path for path in folder.iterdir() if path.is_dir() and is_visible(path.name))
    for path in paths:
        if folder.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{path} is a link to {path.resolve()}, which it lies in: take the link away")
    return [path.name for path in paths]


def _named(root: Path, paths: Sequence[Path]) -> str:
    return listed([str(path.relative_to(root)) for path in paths])
