"""JSON files that people keep: each says what it is, how and with what it was made, and nothing else writes them.

Dates and places are for people. No cache and no digest may depend on a stamp, so only finished files carry one.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tessera.common.files import write_json
from tessera.common.tools import git_id, own_version, tool_versions


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a JSON file holds: the name of its form, and the version of that form.

    A version grows by one when a key goes or changes its meaning. New keys leave it as it is.
    """

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}, version {self.version}"


def _stamp(schema: Schema) -> dict[str, Any]:
    """Return what every document begins with: its schema, and what it was made by, when, on and with."""
    return {
        "schema": asdict(schema),
        "command": command_line(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "processor": processor(),
        "tessera": own_version(),
        "git": git_id(),
        "tool_versions": tool_versions(),
    }


def stamped(schema: Schema, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``content`` as a document, after its stamp. Numbers that JSON has no word for, such as NaN, become null.

    Raises
    ------
    ValueError
        The content has a key of the stamp.
    """
    made = _stamp(schema)
    if double := made.keys() & content.keys():
        raise ValueError(f"{', '.join(sorted(double))} of a {schema.name} would hide its stamp; name it otherwise")
    return {**made, **_finite(content)}


def write_document(path: Path | str, schema: Schema, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``content`` after its stamp as JSON, whole or not at all, and return the document."""
    document = stamped(schema, content)
    write_json(path, document)
    return document


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_document(path: Path, schemas: Sequence[Schema]) -> tuple[Schema, dict[str, Any]]:
    """Read a document of one of several schemas.

    Raises
    ------
    ValueError
        The file is not there, not JSON, of another schema, or of another version. The message says what was expected.
    """
    expected = f"expected is the JSON file of {' or '.join(schema.name for schema in schemas)}"
    found = _read_json(path, expected)
    told = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(told, dict) or not {"name", "version"} <= told.keys():
        raise ValueError(
            f"{path} does not say what it is (it has no 'schema' with name and version); {expected}. A file of an "
            "earlier Tessera has none: make it again with this one"
        )
    name, version = told["name"], told["version"]
    schema = next((schema for schema in schemas if schema.name == name), None)
    if schema is None:
        raise ValueError(f"{path} is of schema '{name}'; {expected}")
    if version != schema.version:
        newer = isinstance(version, int) and version > schema.version
        way = "install a newer Tessera" if newer else "make the file again with this Tessera"
        raise ValueError(f"{path} is {name}, version {version}; expected is version {schema.version}: {way}")
    return schema, found


def _read_json(path: Path, expected: str) -> Any:
    if not path.is_file():
        raise ValueError(f"there is no file {path}; {expected}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON from line {error.lineno}, column {error.colno} on; {expected}") from None
    except (ValueError, RecursionError):  # bytes that are no text; numbers or nesting without end
        raise ValueError(f"{path} is not JSON; {expected}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; {expected}") from None


def command_line() -> str | None:
    """Return the words that started this process, as a shell takes them; None for an interactive one."""
    if not sys.argv or not sys.argv[0]:
        return None
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


@cache
def processor() -> dict[str, Any]:
    """Return the processor's name, its architecture, and the number of its cores that this process may use."""
    return {"name": _processor_name(), "architecture": platform.machine(), "cores": len(os.sched_getaffinity(0))}


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
