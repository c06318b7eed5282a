"""Keys of the JSON files that commands write, from their JSON Schemas in ``common/schemas/``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from docs.site.markdown import code, table
from tessera.common.paths import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "common" / "schemas"
FIRST = "stamp"
"""What all others begin with."""


def json_files() -> str:
    """Every kind of file with its keys; those of a member stand behind a dot, those of a list behind ``[]``."""
    stems = sorted((path.stem for path in FOLDER.glob("*.json")), key=lambda stem: (stem != FIRST, stem))
    parts = []
    for stem in stems:
        schema = json.loads((FOLDER / f"{stem}.json").read_text())
        form = schema["properties"].get("schema", {}).get("const")
        title = f"{schema['title']}."
        parts += [
            f"## {stem}",
            "",
            title if form is None else f"{title} Form `{form['name']}`, version {form['version']}.",
        ]
        parts += ["", table(("key", "type", "meaning"), list(_keys(schema, schema))), ""]
    return "\n".join(parts)


def _keys(node: Mapping[str, Any], whole: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """A row per key below ``node``, in the order of the schema."""
    for name, found in node.get("properties", {}).items():
        if "const" not in found:
            yield from _key(f"{path}{name}", found, whole)
    if isinstance(values := node.get("additionalProperties"), Mapping):
        yield from _key(f"{path}NAME", values, whole)


def _key(name: str, found: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    node = _resolved(found, whole)
    yield code(name), _kind(node), found.get("description") or node.get("description", "")
    items = _resolved(node.get("items") or {}, whole)
    yield from _keys(node, whole, f"{name}.")
    yield from _keys(items, whole, f"{name}[].")


def _resolved(node: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """The node that a reference names; of several forms the one that is not null."""
    for form in node.get("anyOf", node.get("oneOf", ())):
        if form.get("type") != "null":
            return _resolved(form, whole)
    reference = node.get("$ref", "")
    return whole["$defs"][reference.rpartition("/")[2]] if reference.startswith("#/$defs/") else node


def _kind(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return " or ".join(code(value) for value in node["enum"])
    kind = node.get("type", "any")
    return kind if isinstance(kind, str) else " or ".join(kind)
