"""What takes minutes is made once: a folder for each step's files, under a digest of all that they follow from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.files import CACHE, folder_aside
from common.paths import PROJECT_ROOT

KEPT = {"design": 6, "cells": 4, "blocks": 8, "route": 16, "bit": 16, "netlist": 4}
"""Folders that stay for each step, the latest used; a large netlist takes 100 MB."""


def digest(parts: Sequence[Any]) -> str:
    """A name for whatever these JSON values decide."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def sources(*patterns: str) -> str:
    """Digest of the project's files that match a pattern, with their names; a pattern must find one at least."""
    hasher = hashlib.sha256()
    found: set[Path] = set()
    for pattern in patterns:
        matches = {path for path in PROJECT_ROOT.glob(pattern) if path.is_file()}
        if not matches:
            raise FileNotFoundError(f"no file of the project matches {pattern!r}, on which a cached result depends")
        found |= matches
    for path in sorted(found):
        hasher.update(f"{path.relative_to(PROJECT_ROOT)}\0{path.read_text()}\0".encode())
    return hasher.hexdigest()


class Cache:
    """Results of steps; ``folder`` may be deleted at any time."""

    def __init__(self, folder: Path = CACHE / "bitstream") -> None:
        self.folder = folder

    def find(self, step: str, key: str) -> Path | None:
        """The folder of a step's result, if there is one."""
        path = self.folder / f"{step}-{key}"
        if not path.is_dir():
            return None
        os.utime(path)
        return path

    def get(self, step: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of a step's result, filled by ``make`` if it is not there; nothing stays if that fails."""
        if (found := self.find(step, key)) is not None:
            return found
        path = self.folder / f"{step}-{key}"
        with folder_aside(path) as aside:
            make(aside)
        self._forget(step)
        return path

    def _forget(self, step: str) -> None:
        folders = sorted(self.folder.glob(f"{step}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in folders[KEPT[step] :]:
            shutil.rmtree(path, ignore_errors=True)
