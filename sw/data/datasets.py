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
    """One published dataset: how to open its folder, the kinds of tasks it has truth for, its numbers of classes.

    ``depth_counts`` says which depths count, and what is wrong where none does.
    """

    open: Callable[[Path, DatasetRequest], Dataset]
    tasks: tuple[str, ...]
    classes: tuple[int, ...]
    depth_counts: str = ""


DATASETS = {
    "cityscapes": Published(
        open=cityscapes.open_cityscapes,
        tasks=cityscapes.TASKS,
        classes=(len(cityscapes.CLASS_SET),),
        depth_counts=f" within {cityscapes.DEPTH_LIMIT:g} m: are the disparities 16-bit pictures, as published?",
    ),
    "nyud": Published(
        open=nyud.open_nyud,
        tasks=nyud.TASKS,
        classes=tuple(nyud.CLASS_SETS),
        depth_counts=f" within {nyud.DEPTH_LIMIT:g} m: is it in millimetres?",
    ),
    "pascal-context": Published(
        open=pascal_context.open_pascal_context, tasks=pascal_context.TASKS, classes=tuple(pascal_context.CLASS_SETS)
    ),
}


def dataset_folder(name: str, root: Path | None) -> Path:
    """The folder of a published dataset; ValueError for a name that none has, and without a folder."""
    if name not in DATASETS:
        raise ValueError(f"unknown dataset '{name}'; choose one of: {', '.join((PROCEDURAL, *DATASETS))}")
    if root is None:
        raise ValueError(f"dataset '{name}' lies in a folder of yours: say which with --root")
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
