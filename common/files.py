"""The one way to write a result: aside, then renamed, so that nobody ever finds half of one.

A file aside lies beside its target. Both are then on one file system, where a rename happens at once or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def file_aside(path: Path | str) -> Iterator[Path]:
    """Yield a path beside ``path`` that takes its place when the block ends without an exception.

    The path has the suffix of ``path``, because some writers choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(aside_name(path))
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_aside(folder: Path | str) -> Iterator[Path]:
    """Yield an empty folder whose files appear in ``folder`` when the block ends without an exception.

    A new ``folder`` appears as a whole. In one that exists already, files of the same name are replaced, others stay.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # An existing folder may be on another file system than its parent, so the new files wait inside it.
    aside = (folder if folder.is_dir() else folder.parent) / aside_name(folder)
    aside.mkdir()
    try:
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
    return f".{uuid.uuid4().hex[:12]}.{path.name}"


def move_file(source: Path | str, target: Path | str) -> None:
    """Let a finished file take the place of ``target``, from another file system too."""
    with file_aside(target) as aside:
        shutil.move(source, aside)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text``, whole or not at all."""
    with file_aside(path) as aside:
        aside.write_text(text)


def write_json(path: Path | str, value: Any, indent: int = 1) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def check_folder(folder: Path) -> None:
    """Raise ValueError if ``folder`` cannot be one, before anything long begins."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder for the results")
