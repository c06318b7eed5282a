"""Single fields of a configuration, given as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from tessera.hw.config import AcceleratorConfig

_SWITCHES = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def with_changes(config: AcceleratorConfig, changes: Iterable[str]) -> AcceleratorConfig:
    """The configuration with each ``FIELD=VALUE`` put in; its name tells what differs.

    Raises
    ------
    ValueError
        Not of this form, no such field, no such value, or an impossible configuration.
    """
    known = {field.name: getattr(config, field.name) for field in fields(config)}
    for name in ("name", "numerics"):
        del known[name]
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = (part.strip() for part in change.partition("="))
        if not equals:
            raise ValueError(f"--set {change}: give FIELD=VALUE, such as lanes=16")
        if name not in known:
            raise ValueError(f"--set {change}: no field '{name}'; choose one of: {', '.join(known)}")
        values[name] = _value(change, text, is_switch=isinstance(known[name], bool))
    if not values:
        return config
    differences = ", ".join(f"{name}={value}" for name, value in values.items())
    return replace(config, **values, name=f"{config.name} with {differences}")


def _value(change: str, text: str, *, is_switch: bool) -> int | bool:
    if is_switch:
        if text.lower() not in _SWITCHES:
            raise ValueError(f"--set {change}: '{text}' is neither true nor false")
        return _SWITCHES[text.lower()]
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--set {change}: '{text}' is no whole number of at least 1")
    return int(text)
