"""Published datasets in their own folders and file formats, and procedural scenes, behind one protocol.

``open_dataset`` checks a folder as a whole before anything is read from it and raises one
:class:`~tessera.sw.data.dataset.DatasetProblems` that says what is missing, where to get it and what it should look
like. A new dataset is a module with an ``open_*`` function and an entry in ``DATASETS``. docs/models.md has the
layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tessera.sw.data import cityscapes, nyud, pascal_context
from tessera.sw.data.dataset import ClassSet, Dataset, DatasetProblems, DatasetRequest, Item, resized
from tessera.sw.data.procedural import ProceduralScenes

__all__ = [
    "DATASETS",
    "PROCEDURAL",
    "ClassSet",
    "Dataset",
    "DatasetProblems",
    "Item",
    "ProceduralScenes",
    "Published",
    "DatasetRequest",
    "open_dataset",
    "resized",
]

PROCEDURAL = "procedural"
"""The project's own scenes: generated, in no folder."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published dataset: how to open its folder, the kinds of tasks it has truth for, its numbers of classes."""

    open: Callable[[Path, DatasetRequest], Dataset]
    tasks: tuple[str, ...]
    classes: tuple[int, ...]


DATASETS = {
    "cityscapes": Published(
        open=cityscapes.open_cityscapes, tasks=cityscapes.TASKS, classes=(len(cityscapes.CLASS_SET),)
    ),
    "nyud": Published(open=nyud.open_nyud, tasks=nyud.TASKS, classes=tuple(nyud.CLASS_SETS)),
    "pascal-context": Published(
        open=pascal_context.open_pascal_context, tasks=pascal_context.TASKS, classes=tuple(pascal_context.CLASS_SETS)
    ),
}


def dataset_folder(name: str, root: Path | None) -> Path:
    """The folder of a published dataset; ValueError for a name that none has, and for a folder that there is not."""
    if name not in DATASETS:
        raise ValueError(f"unknown dataset '{name}'; choose one of: {', '.join((PROCEDURAL, *DATASETS))}")
    if root is None:
        raise ValueError(f"dataset '{name}' lies in a folder of yours: say which with --root")
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; give the one that holds dataset '{name}' with --root")
    return root


def open_dataset(name: str, root: Path | None, request: DatasetRequest | None = None) -> Dataset:
    """Open one of ``DATASETS`` in the folder ``root``.

    Parameters
    ----------
    name:
        Its name on the command line.
    root:
        The folder it was unpacked into.
    request:
        Split, tasks and classes wanted; see :class:`~tessera.sw.data.dataset.DatasetRequest`.

    Raises
    ------
    ValueError
        For an unknown name, without a folder, or for a split, task or number of classes that it does not have.
    DatasetProblems
        If anything that was asked for is missing.
    """
    folder = dataset_folder(name, root)
    return DATASETS[name].open(folder, request or DatasetRequest())
