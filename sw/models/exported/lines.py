"""Where in a user's own code an error came up."""

from __future__ import annotations

import sysconfig
import traceback
from types import FrameType


def own_line(error: BaseException) -> str:
    """File and line of the last own line that an error went through; of the last library's where none is own."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    found = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _of_us(frame)]
    libraries = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    own = [one for one in found if not one[0].f_code.co_filename.startswith(libraries)]
    other = [one for one in found if _package(one[0]) != "torch"]
    if not found:
        return "before any line of it"
    frame, line = (own or other or found)[-1]
    return f"{frame.f_code.co_filename}, line {line}"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _of_us(frame: FrameType) -> bool:
    """Whether a frame is ours, or has no file."""
    return _package(frame) == "tessera" or frame.f_code.co_filename.startswith("<")
