"""JSON files held against their schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tessera.common.schemas.kinds import schema_file

STAMP = ("schema", "command", "date", "processor", "tessera", "git", "tool_versions")


def document(path: Path) -> dict[str, Any]:
    """What a command wrote; fails if the file is not as its schema says."""
    found = json.loads(path.read_text(), parse_constant=_no_json)
    check(found)
    return found


def content(path: Path) -> dict[str, Any]:
    """The same without the stamp."""
    return {key: value for key, value in document(path).items() if key not in STAMP}


def check(found: Any) -> None:
    """Fail if a document is not as the schema says that it names."""
    form = json.loads(schema_file(found["schema"]["name"]).read_text())
    stamp = json.loads(schema_file("stamp").read_text())
    registry = Registry().with_resource("stamp.json", Resource.from_contents(stamp))
    Draft202012Validator.check_schema(form)
    errors = Draft202012Validator(form, registry=registry).iter_errors(found)
    wrong = [f"{error.json_path}: {error.message}" for error in errors]
    assert not wrong, wrong


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
