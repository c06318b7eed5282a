"""Pictures in a folder and its sub-folders: found in a fixed order, selected evenly, read at a model's size.

Hidden files and folders are passed over. A picture is known by the ending of its name, or, without one, by its content.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tessera.golden.network.network import TakesPictures
from tessera.sw.data.dataset import listed
from tessera.sw.data.picture_files import looks_like_picture
from tessera.sw.data.pictures import RAW_SUFFIX, Picture, load_picture

_OF_SYSTEMS = {"__MACOSX", "@eaDir", "thumbs.db", "desktop.ini"}
"""What systems leave in folders beside hidden files, which begin with a dot."""


@dataclass(frozen=True, kw_only=True)
class FolderFiles:
    """Files of a folder, sorted by path: ``pictures``, and ``others``, which are none. Hidden files are neither.

    ``links`` to folders were not followed, because what they lead to is read already, or lies above.
    """

    pictures: tuple[Path, ...]
    others: tuple[Path, ...]
    links: tuple[Path, ...] = ()


def files_of(folder: Path, beside: Iterable[Path] = ()) -> FolderFiles:
    """The files in ``folder`` and its sub-folders, those that links lead to included; see :func:`visible_files`."""
    pictures: list[Path] = []
    others: list[Path] = []
    files, links = visible_files(folder, beside)
    for path in sorted(files, key=lambda path: path.relative_to(folder).parts):
        (pictures if looks_like_picture(path) or path.name.endswith(RAW_SUFFIX) else others).append(path)
    return FolderFiles(pictures=tuple(pictures), others=tuple(others), links=tuple(sorted(links)))


def is_visible(name: str) -> bool:
    """Whether a file or folder of that name is the user's: not hidden, and none that systems leave."""
    return not name.startswith(".") and name.lower() not in {one.lower() for one in _OF_SYSTEMS}


def evenly(count: int, wanted: int) -> list[int]:
    """``wanted`` of ``count`` numbers at even distances, from the middle of each; all of them if there are no more."""
    if count <= wanted:
        return list(range(count))
    return [(2 * number + 1) * count // (2 * wanted) for number in range(wanted)]


def calibration_folder(folder: Path) -> FolderFiles:
    """The files of a folder of calibration pictures.

    Raises
    ------
    ValueError
        If there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise ValueError(f"calibration pictures: {folder} is {what}; give a folder with pictures of the model's kind")
    found = files_of(folder)
    if not found.pictures:
        there = f"only {listed([path.name for path in found.others])}" if found.others else "nothing"
        raise ValueError(
            f"calibration pictures: {folder} and its sub-folders have no picture, {there}; give a folder with PNG, "
            "JPEG or similar files"
        )
    return found


def load_pictures(paths: Sequence[Path], model: TakesPictures) -> list[Picture]:
    """Read pictures at the model's size; ValueError names all that cannot be read."""
    pictures: list[Picture] = []
    problems = unreadable(paths, lambda path: pictures.append(load_picture(path, model)))
    if problems:
        raise ValueError(
            f"{len(problems)} of the {len(paths)} calibration pictures cannot be used; mend them, or take them away:"
            + "".join(f"\n  {line}" for line in problems)
        )
    return pictures


def unreadable(paths: Sequence[Path], read: Callable[[Path], object]) -> list[str]:
    """What is wrong with each of ``paths`` that ``read`` refuses."""
    problems = []
    for path in paths:
        try:
            read(path)
        except ValueError as error:
            problems.append(str(error))
    return problems


def visible_files(folder: Path, beside: Iterable[Path] = ()) -> tuple[list[Path], list[Path]]:
    """Visible files below ``folder``, and links to folders that are not followed.

    A link is followed unless it leads to a folder that was read already, into one of those ``beside``, or to one above
    any of these: each folder is read once, so no circle is endless.
    """
    apart = {path.resolve() for path in beside}
    seen, above = set[Path](), {parent for path in apart for parent in path.parents}
    files, refused, waiting = list[Path](), list[Path](), deque([folder])
    while waiting:
        start = waiting.popleft()
        real = start.resolve()
        if start != folder and (real in seen or real in above or apart.intersection((real, *real.parents))):
            refused.append(start)
            continue
        for root, folders, names in os.walk(start, onerror=_raised):
            seen.add(here := Path(root).resolve())
            above.update(here.parents)
            folders[:] = sorted(name for name in folders if is_visible(name))
            waiting.extend(path for name in folders if (path := Path(root, name)).is_symlink())
            files += (Path(root, name) for name in names if is_visible(name))
    return files, refused


def _raised(error: OSError) -> None:
    raise error
