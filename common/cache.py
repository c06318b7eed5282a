"""The one cache: what takes long is made once, and found again by a key of everything that it follows from.

An entry is a file or a folder. It appears whole or not at all, and processes that want the same wait for one another.
The name of a file holds the digest of its content. A file that was damaged is therefore removed and made again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tessera.common.digest import content_digest, digest, source_digest
from tessera.common.files import aside_name, check_writable, folder_aside, located, write_json
from tessera.common.paths import cache_folder
from tessera.common.tools import tool_version

_ABANDONED_SECONDS = 7 * 24 * 3600
"""Age from which on an unfinished entry is of a process that was killed."""


_DIGITS = 16
"""Digits of a content's digest in the name of its file."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of entries.

    Parameters
    ----------
    name:
        Begin of the entries' names.
    keep:
        Number of entries that stay, the latest used.
    suffix:
        Suffix of entries that are files. Without one, entries are folders.
    """

    name: str
    keep: int
    suffix: str = ""


def cache_key(*values: Any, sources: Sequence[str] = (), tools: Sequence[str] = ()) -> str:
    """Return the key of a result, which changes with everything that the result follows from.

    Parameters
    ----------
    values:
        Arguments, as JSON values.
    sources:
        Globs of the project's files that compute it, see :func:`tessera.common.digest.source_digest`: whole packages,
        so that a new module is not missed.
    tools:
        Names of the tools that compute it, see :func:`tessera.common.tools.tool_version`.
    """
    return digest(values, source_digest(*sources), {name: tool_version(name) for name in tools})


class Cache:
    """Entries in one folder, by default :func:`tessera.common.paths.cache_folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    def find(self, kind: Kind, key: str) -> Path | None:
        """Return an entry, if there is one, and count it as used now."""
        if kind.suffix:
            return self._whole_file(kind, key)
        path = self._path(kind, key)
        return _used(path) if path.exists() else None

    def get(self, kind: Kind, key: str, make: Callable[[Path], None]) -> Path:
        """Return an entry; ``make`` writes it if it is not there.

        Parameters
        ----------
        kind, key:
            Name of the entry.
        make:
            Fills the empty folder that it is called with, or writes the file. No entry appears if it raises.
        """
        found = self.find(kind, key)
        if found is None:
            path = self._path(kind, key)
            with _locked(path.with_name(f".{path.name}.lock")):
                found = self.find(kind, key)
                if found is None:
                    check_writable(self.folder)  # before what takes long
                    found = self.put(kind, key, make)
        return found

    def put(self, kind: Kind, key: str, make: Callable[[Path], None]) -> Path:
        """Write an entry as :meth:`get` does; a file takes the place of the one that is there."""
        path = self._put_file(kind, key, make) if kind.suffix else self._path(kind, key)
        if not kind.suffix:
            with folder_aside(path) as aside:
                make(aside)
        self._forget(kind)
        return path

    def value(self, kind: Kind, key: str, compute: Callable[[], Any]) -> Any:
        """Return the JSON value that ``compute`` returned before for the key, or returns now."""
        return json.loads(self.get(kind, key, lambda aside: write_json(aside, compute())).read_text(encoding="utf-8"))

    def _path(self, kind: Kind, key: str) -> Path:
        """A folder, or what the names of a file's versions begin and end with."""
        return self.folder / f"{kind.name}-{key}{kind.suffix}"

    def _versions(self, kind: Kind, key: str) -> list[Path]:
        """Files of an entry: one, or for a moment more, and what somebody put there."""
        name = re.compile(rf"{re.escape(f'{kind.name}-{key}')}\.[0-9a-f]{{{_DIGITS}}}{re.escape(kind.suffix)}")
        return [path for path in self.folder.glob(f"{kind.name}-*{kind.suffix}") if name.fullmatch(path.name)]

    def _whole_file(self, kind: Kind, key: str) -> Path | None:
        for path in self._versions(kind, key):
            try:
                if path.name == self._named(kind, key, path).name:
                    return _used(path)
            except FileNotFoundError:
                continue  # removed by another process
            except OSError:
                pass  # no file that can be read
            _remove(path)
        return None

    def _named(self, kind: Kind, key: str, content: Path) -> Path:
        """Where a file with this content belongs."""
        return self.folder / f"{kind.name}-{key}.{content_digest(content.read_bytes())[:_DIGITS]}{kind.suffix}"

    def _put_file(self, kind: Kind, key: str, make: Callable[[Path], None]) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / aside_name(self._path(kind, key))
        try:
            with located(self.folder, aside):
                make(aside)
                path = self._named(kind, key, aside)
                os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        for other in self._versions(kind, key):
            if other != path:
                _remove(other)
        return path

    def _forget(self, kind: Kind) -> None:
        """Remove all but the latest entries of a kind, and what killed processes left."""
        ages = {path: _age(path) for path in self.folder.glob(f"{kind.name}-*{kind.suffix}")}
        for path in sorted(ages, key=ages.__getitem__)[kind.keep :]:
            _remove(path)
        for path in self.folder.glob(".*"):
            if _age(path) > _ABANDONED_SECONDS:
                _remove(path)


def _used(path: Path) -> Path:
    """The path of an entry that is used now, if its age is ours to change: it may be another user's, or read-only."""
    with suppress(OSError):
        os.utime(path)
    return path


def _age(path: Path) -> float:
    """Return the seconds since an entry was used; one that another process removed meanwhile is new."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(path: Path) -> None:
    """Remove an entry, which disappears as a whole, too."""
    gone = path.with_name(aside_name(path))
    try:
        path.rename(gone)
    except OSError:
        return  # removed by another process, or not ours to remove
    if gone.is_dir():
        shutil.rmtree(gone, ignore_errors=True)
    else:
        gone.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file while the block runs, after whoever has it; the file goes with the lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # of a folder above it, perhaps: what matters is that caches cannot be there
        raise OSError(error.errno, error.strerror, str(path.parent)) from error
    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock before has removed the file; then it locks nobody out any more.
            if not _is_open(path, file):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_open(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
