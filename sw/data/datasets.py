"""Published datasets, folders of the user's own, and procedural scenes, behind one protocol.

``open_dataset`` checks a folder as a whole before anything is read from it and raises one
:class:`~tessera.sw.data.dataset.DatasetProblems` that says what is missing, where to get it and what it should look
like. A new dataset is a module with an ``open_*`` function and an entry in ``DATASETS``. Folders of the user's own have
no name but ``folder:PATH``. docs/models.md has the layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tessera.sw.data import cityscapes, described, described_file, labelled_folder, nyud, pascal_context
from tessera.sw.data.dataset import ClassSet, Dataset, DatasetProblems, DatasetRequest, Item, chosen_split, resized
from tessera.sw.data.procedural import ProceduralScenes

__all__ = [
    "DATASETS",
    "FOLDER",
    "PROCEDURAL",
    "ClassSet",
    "DataSource",
    "Dataset",
    "DatasetProblems",
    "Item",
    "Offer",
    "ProceduralScenes",
    "Published",
    "DatasetRequest",
    "find_source",
    "open_dataset",
    "resized",
]

PROCEDURAL = "procedural"
"""The project's own scenes: generated, in no folder."""


FOLDER = "folder:"
"""What ``--data`` begins with for a folder of the user's own."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published dataset: how to open its folder, the kinds of tasks it has truth for, its numbers of classes.

    ``depth_limit`` is the largest depth that is scored, in metres, and ``depth_hint`` what is wrong where few are.
    """

    open: Callable[[Path, DatasetRequest], Dataset]
    tasks: tuple[str, ...]
    classes: tuple[int, ...]
    depth_limit: float | None = None
    depth_hint: str = ""


DATASETS = {
    "cityscapes": Published(
        open=cityscapes.open_cityscapes,
        tasks=cityscapes.TASKS,
        classes=(len(cityscapes.CLASS_SET),),
        depth_limit=cityscapes.DEPTH_LIMIT,
        depth_hint="are the disparities 16-bit pictures, as published?",
    ),
    "nyud": Published(
        open=nyud.open_nyud,
        tasks=nyud.TASKS,
        classes=tuple(nyud.CLASS_SETS),
        depth_limit=nyud.DEPTH_LIMIT,
        depth_hint="is it in millimetres?",
    ),
    "pascal-context": Published(
        open=pascal_context.open_pascal_context, tasks=pascal_context.TASKS, classes=tuple(pascal_context.CLASS_SETS)
    ),
}


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a dataset has truth for.

    Parameters
    ----------
    name:
        What to call it in messages.
    tasks:
        Kinds of tasks.
    classes:
        Numbers of classes that a model may tell apart.
    class_names:
        Names of the classes of a dataset of the user's own.
    """

    name: str
    tasks: tuple[str, ...]
    classes: tuple[int, ...]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSource(Offer):
    """A dataset before it is opened.

    Parameters
    ----------
    open:
        Opens it.
    splits:
        Splits of a dataset of the user's own; None for published ones, which know theirs.
    root:
        Where it is.
    """

    open: Callable[[DatasetRequest], Dataset]
    splits: tuple[str, ...] | None = None
    root: Path

    def split(self, wanted: str | None) -> str:
        """The split that is meant; ValueError if a dataset of the user's own does not have it."""
        return (wanted or "val") if self.splits is None else chosen_split(self.root, self.splits, wanted)


def find_source(name: str, root: Path | None) -> DataSource:
    """Look at a dataset: one of ``DATASETS`` in the folder ``root``, ``folder:PATH``, or a TOML file.

    Raises
    ------
    ValueError
        For an unknown name, without a folder, or for a folder without classes.
    """
    own = name.startswith(FOLDER) or name.endswith(".toml")
    if own and root is not None:
        raise ValueError(f"--data {name} says where it is already; leave --root out")
    if name.startswith(FOLDER):
        return _own_folder(Path(name.removeprefix(FOLDER)).expanduser())
    if name.endswith(".toml"):
        return _described(Path(name).expanduser())
    if name not in DATASETS:
        raise ValueError(
            f"unknown dataset '{name}'; choose one of: {', '.join((PROCEDURAL, *DATASETS))}, or {FOLDER}PATH "
            f"or PATH/{described_file.FILE} for pictures of yours"
        )
    if root is None:
        raise ValueError(f"dataset '{name}' lies in a folder of yours: say which with --root")
    known = DATASETS[name]
    opener = partial(known.open, root)
    if not root.is_dir():
        opener(DatasetRequest())  # says what should be there, and where to get it
    return DataSource(name=name, tasks=known.tasks, classes=known.classes, open=opener, root=root)


def _own_folder(root: Path) -> DataSource:
    """A folder that is described by a file in it, or has a folder for each class."""
    if (root / described_file.FILE).is_file():
        return _described(root / described_file.FILE)
    layout = labelled_folder.read_layout(root)
    return DataSource(
        name=f"{FOLDER}{root}",
        tasks=labelled_folder.TASKS,
        classes=(len(layout.names),),
        open=partial(labelled_folder.open_folder, layout),
        class_names=layout.names,
        splits=layout.splits,
        root=root,
    )


def _described(path: Path) -> DataSource:
    description = described_file.read_description(path)
    names = description.class_names
    return DataSource(
        name=description.name,
        tasks=description.tasks,
        classes=(len(names),),
        open=partial(described.open_described, description),
        class_names=names,
        splits=description.splits,
        root=path,
    )


def open_dataset(name: str, root: Path | None, request: DatasetRequest | None = None) -> Dataset:
    """Open a dataset, as :func:`find_source` finds it.

    Parameters
    ----------
    name:
        Its name on the command line.
    root:
        The folder it was unpacked into; None for a folder of the user's own, whose name says where it is.
    request:
        Split, tasks and classes wanted; see :class:`~tessera.sw.data.dataset.DatasetRequest`.

    Raises
    ------
    ValueError
        For an unknown name, without a folder, or for a split, task or number of classes that it does not have.
    DatasetProblems
        If anything that was asked for is missing.
    """
    return find_source(name, root).open(request or DatasetRequest())
