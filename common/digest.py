"""Digests of values, contents and sources: names for what follows from them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from tessera.common.paths import PROJECT_ROOT

_STARTED = time.time()


def digest(*values: Any) -> str:
    """Return a short name, 20 hexadecimal digits, for what these JSON values decide."""
    return content_digest(json.dumps(values, sort_keys=True).encode())[:20]


def content_digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def source_digest(*patterns: str) -> str:
    """Return a digest of the names and contents of the project's files that match a pattern.

    A file that changed after this process began may not be what the process imported. The digest then belongs to this
    process alone.

    Parameters
    ----------
    patterns:
        Globs below the project's root, such as ``hw/**/*.py``.

    Raises
    ------
    FileNotFoundError
        A pattern matches no file.
    """
    hasher = hashlib.sha256()
    found: set[Path] = set()
    for pattern in patterns:
        matches = {path for path in PROJECT_ROOT.glob(pattern) if path.is_file()}
        if not matches:
            raise FileNotFoundError(f"no file of the project matches {pattern!r}, on which a cached result depends")
        found |= matches
    for path in sorted(found):
        content = path.read_bytes()
        hasher.update(f"{path.relative_to(PROJECT_ROOT)}\0{len(content)}\0".encode() + content)
    if any(path.stat().st_mtime > _STARTED for path in found):
        hasher.update(f"{os.getpid()} {_STARTED}".encode())
    return hasher.hexdigest()
