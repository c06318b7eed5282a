"""What every dataset gives: items of a picture, its classes and its depth, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tessera.golden.metrics import IGNORE

SEGMENTATION, DEPTH, CLASSIFICATION = "segmentation", "depth", "classification"
SHOWN = 3
"""Names shown of a list of missing files."""


class DatasetProblems(ValueError):
    """A dataset that cannot be used as it is: all that is wrong with it, where to get it and its layout.

    Parameters
    ----------
    summary:
        What was looked at and what it is not.
    problems:
        One line for each.
    source:
        Where the data come from; empty for the user's own.
    layout:
        The folders and files expected, one a line.
    way:
        What to do about it instead.
    """

    def __init__(
        self, summary: str, problems: Sequence[str], source: str, layout: Sequence[str], *, way: str = ""
    ) -> None:
        self.problems = tuple(problems)
        lines = [f"{summary}:", *(f"  {line}" for line in problems), "Expected layout:", *(f"  {x}" for x in layout)]
        ends = [f"Where to get it: {source}" if source else "", way]
        super().__init__("\n".join([*lines, *(end for end in ends if end)]))


@dataclass(frozen=True, kw_only=True)
class ClassSet:
    """The classes of a dataset's labels.

    Members: ``names``, one a class; ``colours`` (classes, 3) bytes. Pixels of no class are labelled
    :data:`tessera.golden.metrics.IGNORE` and count nowhere.
    """

    names: tuple[str, ...]
    colours: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture with what is known of it.

    Members: ``name``; ``image`` uint8 (H, W, 3); ``segmentation`` uint8 (H, W), classes or ``IGNORE``; ``depth``
    float32 (H, W) in metres, NaN where there is none, infinite where it is beyond what is scored; ``label``, the class
    of the whole picture. The last three are None where the dataset has none or they were not asked for.
    """

    name: str
    image: NDArray[np.uint8]
    segmentation: NDArray[np.uint8] | None = None
    depth: NDArray[np.float32] | None = None
    label: int | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetRequest:
    """What is wanted of a dataset.

    Parameters
    ----------
    split:
        ``val`` (or the name the dataset has for it), ``train``, or another that a dataset of the user's has; empty for
        all of one without splits.
    tasks:
        Kinds of tasks whose truth is needed; None for all that the dataset has, empty for pictures alone. Files for
        others need not be there.
    classes:
        Number of classes, for datasets that are published with several sets; None for the usual one.
    partial:
        Take whichever pictures are complete, instead of refusing a folder that lacks some.
    raw_depth:
        NYUD-v2's labelled file: depth as the sensor gave it, with holes, instead of the filled one.
    count:
        Of datasets of the user's own, how many pictures to take, evenly over the split, and to read once as a check.
        None for all, unread.
    """

    split: str = "val"
    tasks: tuple[str, ...] | None = None
    classes: int | None = None
    partial: bool = False
    raw_depth: bool = False
    count: int | None = None

    def wanted(self, name: str, offered: tuple[str, ...]) -> tuple[str, ...]:
        """The tasks to open; ValueError for one that dataset ``name`` has no truth for."""
        tasks = offered if self.tasks is None else self.tasks
        bad = [task for task in tasks if task not in offered]
        if bad:
            raise ValueError(f"{name} has no {', '.join(bad)}; it has: {', '.join(offered)}")
        return tasks

    def check_split(self, name: str, splits: Sequence[str]) -> None:
        """ValueError for a split that dataset ``name`` does not have."""
        if self.split not in splits:
            raise ValueError(f"{name} has no split '{self.split}'; choose one of: {', '.join(splits)}")

    def check_complete(
        self, whole: str, problems: Sequence[str], complete: int, source: str, layout: Sequence[str]
    ) -> None:
        """Refuse a folder with problems, unless its complete pictures are enough.

        Parameters
        ----------
        whole:
            What lacks parts: folder and dataset, in words.
        problems:
            What is missing.
        complete:
            Pictures that have all their files.
        source, layout:
            Where the dataset comes from, and what belongs in its folder.

        Raises
        ------
        DatasetProblems
            It lists all of them.
        """
        if problems and not (self.partial and complete):
            way = f"{complete:,} pictures are complete: --partial uses those" if complete else ""
            raise DatasetProblems(whole, problems, source, layout, way=way)

    def class_set(self, name: str, sets: dict[int, ClassSet]) -> ClassSet:
        """The set of classes to use, the first unless told; ValueError lists the numbers there are."""
        count = next(iter(sets)) if self.classes is None else self.classes
        if count not in sets:
            known = ", ".join(map(str, sets))
            raise ValueError(f"{name} is published with {known} classes, not {count}; train a head of as many")
        return sets[count]


class Dataset(Protocol):
    """A dataset, opened: its pictures by number."""

    @property
    def name(self) -> str:
        """Name on the command line."""

    @property
    def split(self) -> str:
        """Which part of the dataset it is."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Kinds of tasks whose truth the items have."""

    @property
    def classes(self) -> ClassSet | None:
        """Classes of pixels or of whole pictures, None without."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader of results should know, such as pictures that are missing."""

    def __len__(self) -> int:
        """Number of pictures."""

    def __getitem__(self, index: int) -> Item:
        """Read one picture; ValueError names the file and what is wrong with it."""


def chosen_split(where: Path, splits: Sequence[str], wanted: str | None) -> str:
    """The split to open of a dataset of the user's own: the ``wanted`` one, or ``val``; empty if it has none.

    Raises
    ------
    ValueError
        If there is no such split, or a choice where there is nothing to choose.
    """
    if not splits and wanted is not None:
        raise ValueError(f"{where} has no splits, such as {wanted}: leave --split out")
    split = (wanted or "val") if splits else ""
    if splits and split not in splits:
        raise ValueError(f"{where} has no split '{split}'; choose one with --split: {', '.join(splits)}")
    return split


def resized(item: Item, height: int, width: int) -> Item:
    """``item`` at ``height`` x ``width``: the picture filtered (Lanczos), labels and depth by nearest neighbour.

    Depth keeps its metres: what is seen stays as far away. The aspect ratio is not kept.
    """
    image = item.image
    if image.shape[:2] != (height, width):
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS), np.uint8)
    segmentation = None if item.segmentation is None else _nearest(item.segmentation, height, width)
    depth = None if item.depth is None else _nearest(item.depth, height, width)
    return replace(item, image=image, segmentation=segmentation, depth=depth)


def _nearest(values: NDArray, height: int, width: int) -> NDArray:
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(np.int64)
    return values[rows[:, None], columns]


_FEW_COLOURS = bytes.fromhex("1f77b4ff7f0e2ca02cd627289467bd8c564be377c27f7f7fbcbd2217becf")  # ten, told apart easily


def numbered_classes(count: int) -> ClassSet:
    """Classes that have no names: ``class 0`` and so on, each with a colour of its own."""
    return ClassSet(names=tuple(f"class {number}" for number in range(count)), colours=distinct_colours(count))


def distinct_colours(count: int) -> NDArray[np.uint8]:
    """Colours of so many classes, (count, 3)."""
    few = np.frombuffer(_FEW_COLOURS, np.uint8).reshape(-1, 3)
    return few[:count] if count <= len(few) else voc_colours(1 + count)[1:]  # VOC's first is black


def voc_colours(count: int) -> NDArray[np.uint8]:
    """The colour map of PASCAL VOC: the bits of a class number dealt out to red, green and blue, highest first."""
    numbers = np.arange(count)[:, None] >> np.array([0, 1, 2])
    colours = np.zeros((count, 3), np.int64)
    for bit in range(8):
        colours |= ((numbers >> (3 * bit)) & 1) << (7 - bit)
    return colours.astype(np.uint8)


def listed(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def lookup(pairs: dict[int, int], size: int) -> NDArray[np.int64]:
    """A table from raw label to class: ``pairs``, everything else below ``size`` ignored."""
    table = np.full(size, IGNORE, np.int64)
    table[list(pairs)] = list(pairs.values())
    return table
