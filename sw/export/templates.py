"""The templates of the exported files."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def fill(name: str, **values: Any) -> str:
    """The text of template ``name`` with its values; a value that is missing raises."""
    environment = Environment(
        loader=PackageLoader("tessera.sw.export", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment.get_template(f"{name}.jinja").render(**values)
