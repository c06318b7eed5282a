"""The Sphinx extension: a line ``<!-- insert: NAME -->`` of a page becomes what the code says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from docs.site import hardware, schemas, software

PARTS: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        hardware.boards,
        hardware.codes,
        hardware.commands,
        hardware.formats,
        hardware.presets,
        hardware.registers,
        schemas.json_files,
        software.api,
        software.command_line,
        software.datasets,
        software.import_formats,
        software.models,
    )
}
"""What a page may ask for."""

_INSERT = re.compile(r"^<!-- insert: (\w+) -->$", re.MULTILINE)


def filled(text: str) -> str:
    """A page with its parts from the code."""
    return _INSERT.sub(lambda found: PARTS[found[1]](), text)


def _fill(app: Any, name: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True}
