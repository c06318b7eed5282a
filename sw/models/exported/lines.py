"""Where in a user's own code an error came up."""

from __future__ import annotations

import sysconfig
import traceback
from types import FrameType

_PACKAGES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


def own_line(error: BaseException) -> str:
    """File and line of the last own line that an error went through; of a package's where none is own."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    found = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if not _left_out(frame)]
    own = [one for one in found if not one[0].f_code.co_filename.startswith(_PACKAGES)]
    if not found:
        return "before any line of its own"
    frame, line = (own or found)[-1]
    return f"{frame.f_code.co_filename}, line {line}"


def _left_out(frame: FrameType) -> bool:
    """Whether a frame is ours, PyTorch's or Python's, or has no file."""
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    path = frame.f_code.co_filename
    standard = path.startswith(_STANDARD) and not path.startswith(_PACKAGES)
    return package in ("tessera", "torch") or standard or path.startswith("<")
