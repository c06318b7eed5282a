"""The one way to write a result: aside, then renamed, so that nobody ever finds half of one.

A file aside lies beside its target. Both are then on one file system, where a rename happens at once or not at all.
Links are followed: what they lead to is replaced, on whatever disk it is.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tessera.common.system_errors import in_words

_NAME = 40  # characters of a name that a name aside repeats, which has no more room
_LONGEST = 255  # bytes of a name
_PROBE = 4096  # bytes that a disk with any room takes


@contextmanager
def file_aside(path: Path | str) -> Iterator[Path]:
    """Yield a path beside ``path`` that takes its place when the block ends without an exception.

    The path has the suffix of ``path``, because some writers choose the format by it.
    """
    path = _settled(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(aside_name(path))
    try:
        with located(path, aside):
            yield aside
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_aside(folder: Path | str) -> Iterator[Path]:
    """Yield an empty folder whose files appear in ``folder`` when the block ends without an exception.

    A new ``folder`` appears as a whole. In one that exists already, files of the same name are replaced, others stay.
    """
    folder = _settled(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # An existing folder may be on another file system than its parent, so the new files wait inside it.
    aside = (folder if folder.is_dir() else folder.parent) / aside_name(folder)
    aside.mkdir()
    try:
        with located(folder, aside):
            yield aside
            if not folder.exists():
                with suppress(OSError):  # another writer was first
                    aside.rename(folder)
                    return
            for path in sorted(aside.iterdir()):
                os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def aside_name(path: Path) -> str:
    """Name for what is to become ``path``: hidden, and never given twice."""
    return f".{uuid.uuid4().hex[:12]}.{path.name[-_NAME:]}"


def move_file(source: Path | str, target: Path | str) -> None:
    """Let a finished file take the place of ``target``, from another file system too."""
    with file_aside(target) as aside:
        shutil.move(source, aside)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text``, whole or not at all."""
    with file_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any, indent: int = 1) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def check_folder(folder: Path, *names: str) -> None:
    """Raise ValueError if results cannot be written into ``folder``, before anything long begins.

    ``names`` are those of the files that will be.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"{folder} is a file; give a folder for the results")
    for name in names:
        if os.path.isdir(folder / name):
            raise ValueError(f"{folder / name} is a folder, where the file {name} is to be: remove it, or give another")
    _check_writable(folder, _settled(folder))


def check_file(path: Path) -> None:
    """Raise ValueError if a result cannot be written to ``path``, before anything long begins."""
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder; give the name of a file for the result")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is a device or a pipe; give the name of a file for the result")
    _check_writable(path, _settled(path).parent)


def check_readable(path: Path | str) -> None:
    """Raise ValueError if this user may not read a file. Readers of some formats say then that it is not there."""
    try:
        with open(path, "rb"):
            pass
    except PermissionError as error:
        raise ValueError(f"{path} may not be read by this user: change its permissions") from error


def check_writable(folder: Path) -> None:
    """Raise OSError if nothing can be written into ``folder``, or, without one, into what is there of the way to it."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(_PROBE))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(there)) from error


def _check_writable(path: Path, folder: Path) -> None:
    longest = max(len(os.fsencode(part)) for part in path.absolute().parts)
    if longest > _LONGEST:
        raise ValueError(f"{path}: a name in this path has {longest} bytes; at most {_LONGEST} are possible")
    try:
        check_writable(folder)
    except OSError as error:
        raise ValueError(f"results cannot be written to {path}: {in_words(error)}") from error


def _settled(path: Path | str) -> Path:
    """The place that a path leads to, through all links, whether anything is there or not."""
    return Path(os.path.realpath(path))


@contextmanager
def located(path: Path, aside: Path) -> Iterator[None]:
    """Let an OSError that happened aside, or does not say where it happened, say that it was at ``path``."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename
        if error.errno is None or not (where is None or aside in (Path(where), *Path(where).parents)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
