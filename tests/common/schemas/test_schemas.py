"""Schemas of JSON files: each is one, describes every key, and no command writes a file without one."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tessera.common.paths import PROJECT_ROOT
from tessera.common.schemas import kinds
from tessera.common.stamped import Schema, stamped
from tessera.golden.training.training import TRAINING
from tests.helpers.schemas import STAMP, check

SCHEMAS = [value for value in vars(kinds).values() if isinstance(value, Schema)] + [TRAINING]
CACHES = {
    "sw/fpga/bitstream/build.py",
    "sw/fpga/bitstream/placement_seeds.py",
    "sw/fpga/resources/count.py",
    "sw/run/duration.py",
}
"""Files that write JSON for themselves: entries of the cache."""


def form(name: str) -> dict[str, Any]:
    return json.loads(kinds.schema_file(name).read_text())


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_every_kind_has_a_schema_of_its_version(schema: Schema) -> None:
    found = form(schema.name)
    Draft202012Validator.check_schema(found)
    assert found["properties"]["schema"] == {"const": {"name": schema.name, "version": schema.version}}
    assert found["allOf"] == [{"$ref": "stamp.json"}]


def test_every_schema_is_of_a_kind() -> None:
    files = {path.name for path in (PROJECT_ROOT / "common" / "schemas").glob("*.json")}
    assert files == {"stamp.json", *(kinds.schema_file(schema.name).name for schema in SCHEMAS)}


@pytest.mark.parametrize("name", ["stamp", *(schema.name for schema in SCHEMAS)])
def test_every_key_is_described(name: str) -> None:
    def silent(part: Any, where: str) -> list[str]:
        if not isinstance(part, dict):
            return []
        own = [f"{where}.{key}" for key, value in part.get("properties", {}).items() if not said(key, value)]
        return own + [line for key, value in part.items() for line in silent(value, f"{where}.{key}")]

    def said(key: str, value: dict[str, Any]) -> bool:
        return key == "schema" or "$ref" in value or value.get("description", "").endswith(".")

    assert silent(form(name), name) == []


def test_the_stamp_is_what_its_schema_says() -> None:
    assert set(form("stamp")["properties"]) == set(STAMP)
    with pytest.raises(AssertionError, match="'model' is a required property"):
        check(stamped(kinds.RUN, {"preset": "tiny"}))


def test_results_are_written_as_documents() -> None:
    """Only caches write JSON without a stamp."""
    writers = {
        str(path.relative_to(PROJECT_ROOT))
        for floor in ("sw", "golden")
        for path in (PROJECT_ROOT / floor).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "write_json" for alias in node.names)
    }
    assert writers == CACHES
