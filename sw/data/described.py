"""Pictures with class maps and depth in folders of the user's own, described by a small TOML file (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tessera.sw.data import files
from tessera.sw.data.dataset import DEPTH, SEGMENTATION, ClassSet, DatasetRequest, Item, distinct_colours, listed
from tessera.sw.data.described_file import TRUTH_KEYS, Description
from tessera.sw.data.picture_folder import evenly

Frame = tuple[Path, Mapping[str, Path]]
"""A picture's file, and the files of its truth by kind of task."""


@dataclass(frozen=True, kw_only=True)
class DescribedDataset:
    """A split of such a dataset, opened: a :class:`tessera.sw.data.dataset.Dataset`."""

    description: Description
    name: str
    split: str
    tasks: tuple[str, ...]
    frames: tuple[Frame, ...]
    classes: ClassSet | None
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Item:
        return _item(self.description, *self.frames[index])


def open_described(description: Description, request: DatasetRequest) -> DescribedDataset:
    """Open a split.

    A counted selection is read once, because a damaged file is better found now than an hour later.

    Raises
    ------
    ValueError
        If the split has no truth for a task that is wanted, or nothing says what unit its depths have.
    DatasetProblems
        If pictures lack a counterpart or files are damaged; ``request.partial`` leaves those pictures out.
    """
    split, tasks = request.split, request.wanted(description.name, description.tasks)
    frames, problems = _frames(description, split, tasks)
    whole = [frame for frame in frames if all(path.is_file() for path in frame[1].values())]
    if DEPTH in tasks and whole:
        description.check_unit(whole[0][1][DEPTH])  # once, instead of for each picture
    notices = []
    if request.count is not None:
        taken = [whole[number] for number in evenly(len(whole), request.count)]
        if len(taken) < len(whole):
            notices.append(f"{len(taken):,} of {len(whole):,} pictures, selected evenly")
        wrong = {frame[0]: _trouble(description, frame) for frame in taken}
        problems += [line for line in wrong.values() if line]
        whole = [frame for frame in taken if not wrong[frame[0]]]
    layout = [f"{key} = {pattern.text}" for key, pattern in description.patterns(split).items()]
    request.check_complete(f"{description.path} has what is not whole", problems, len(whole), "", layout)
    names = description.class_names
    classes = ClassSet(names=names, colours=distinct_colours(len(names)))
    return DescribedDataset(
        description=description,
        name=description.name,
        split=split,
        tasks=tasks,
        frames=tuple(whole),
        classes=classes if SEGMENTATION in tasks else None,
        notices=(*problems, *notices),
    )


def _frames(description: Description, split: str, tasks: tuple[str, ...]) -> tuple[list[Frame], list[str]]:
    """Pictures of a split with the names of their truth, and what is missing."""
    patterns = description.patterns(split)
    for kind in tasks:
        if TRUTH_KEYS[kind] not in patterns:
            raise ValueError(
                f"split '{split}' of {description.path} has no {TRUTH_KEYS[kind]}, which {kind} is scored with: add "
                "their pattern, or choose another split"
            )
    found = patterns["pictures"].found()
    truths = {kind: patterns[TRUTH_KEYS[kind]] for kind in tasks}
    frames: list[Frame] = [
        (picture, {kind: pattern.path(parts) for kind, pattern in truths.items()}) for picture, parts in found.items()
    ]
    problems = [] if frames else [f"{split}: no picture is called {patterns['pictures'].text}"]
    for kind, pattern in truths.items():
        lacking = [str(truth[kind]) for _, truth in frames if not truth[kind].is_file()]
        if lacking:
            count = f"{len(lacking):,} of {len(frames):,} pictures"
            problems.append(f"{split}: no {pattern.text} for {count}: {listed(lacking)}")
    return frames, problems


def _item(description: Description, picture: Path, truth: Mapping[str, Path]) -> Item:
    image = files.read_image(picture)
    return Item(
        name=str(picture.relative_to(description.root)) if picture.is_relative_to(description.root) else str(picture),
        image=image,
        segmentation=description.classes_of(truth[SEGMENTATION], image) if SEGMENTATION in truth else None,
        depth=description.depth_of(truth[DEPTH], image) if DEPTH in truth else None,
    )


def _trouble(description: Description, frame: Frame) -> str:
    """What is wrong with a picture or its truth; empty if nothing is."""
    try:
        _item(description, *frame)
    except ValueError as error:
        return str(error)
    return ""
