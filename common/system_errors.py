"""What the operating system refuses, in words: what, where, and what to do."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from tessera.common.paths import VARIABLE, build_folder

TEMPORARY = "tessera-"
"""Begin of the names of temporary folders."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your share of the disk is used up",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the disk is read-only",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "a part of this path is a file, and no folder",
    errno.EISDIR: "this is a folder, and no file",
    errno.EEXIST: "this is there already",
    errno.ENAMETOOLONG: "this name is too long",
    errno.ELOOP: "links lead round in a circle",
    errno.EIO: "the disk cannot be read or written",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this computer",
    errno.ENOMEM: "there is too little memory",
    errno.EAGAIN: "there are too many processes, or too little memory",
}


def in_words(error: OSError) -> str:
    """One line on what the operating system refused."""
    if error.errno is None:
        return str(error)
    what = _WORDS.get(error.errno) or f"the system says '{os.strerror(error.errno)}'"
    where = error.filename2 or error.filename
    if where is None:
        return what + _advice(error.errno, None)
    place = Path(os.fsdecode(where))
    return f"{place}: {what}{_advice(error.errno, place.absolute())}"


def disk_full(output: str) -> bool:
    """Whether what a program wrote says that it found no space left on a disk."""
    return any(os.strerror(number) in output for number in _FULL)


def _advice(number: int, place: Path | None) -> str:
    """What helps against an error at a place, if it is one that we chose."""
    if number not in (*_FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return ""
    advice = ["free some space"] if number in _FULL else []
    if place is None or _inside(place, build_folder()):
        advice.append(f"set {VARIABLE} to a folder for caches that can be written")
    if place is None or _transient(place):
        advice.append("set TMPDIR to another folder for what lasts as long as the program")
    return f": {', or '.join(advice)}" if advice else ""


def _transient(place: Path) -> bool:
    """Whether a place is the folder for temporary files, or in one that this program made there."""
    folder = Path(tempfile.gettempdir()).absolute()
    own = [path for path in (place, *place.parents) if path.parent == folder and path.name.startswith(TEMPORARY)]
    return place == folder or bool(own)


def _inside(place: Path, folder: Path) -> bool:
    return folder.absolute() in (place, *place.parents)
