"""What a JSON Schema finds wrong with a file that a user wrote, in words: key, what was given, what is expected."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_TYPES = {
    "string": "text in quotes",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list in brackets",
    "object": "a table",
}
RULES = {
    "exclusiveMinimum": "a number above {}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "minProperties": "at least {} entry",
    "minLength": "a text that is not empty",
    "uniqueItems": "each entry once",
    "pattern": "a whole number of at most six digits as a key",
}
"""What is expected where a rule of a schema is broken, by the rule's name."""

_SHOWN = 60
"""Characters shown of what was given."""


def schema_problems(content: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """A line for each thing wrong; an unknown key is named with the nearest known one."""
    from jsonschema import Draft202012Validator

    return [line for error in Draft202012Validator(schema).iter_errors(content) for line in _lines(error)]


def _lines(error: ValidationError) -> list[str]:
    place, given, rule = ".".join(map(str, error.absolute_path)), error.instance, error.validator
    if rule == "additionalProperties":
        known = error.schema.get("properties", {})
        where = f" in [{place}]" if place else ""
        return [f"unknown key '{key}'{where}{_nearest_key(key, known)}" for key in given if key not in known]
    if rule == "required":
        missing = [key for key in error.validator_value if key not in given]
        return [f"'{key}' is missing{f' in [{place}]' if place else ''}" for key in missing]
    expected = _TYPES[error.validator_value] if rule == "type" else RULES[rule].format(error.validator_value)
    return [f"{place} is {_shown(given)}, expected {expected}"]


def _shown(given: Any) -> str:
    if isinstance(given, bool):
        return str(given).lower()  # as TOML has it
    text = repr(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."


def _nearest_key(key: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, 1, 0.5)
    return f"; did you mean '{near[0]}'?" if near else f"; there are: {', '.join(known)}"
