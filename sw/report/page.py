"""The HTML page of a run, from run.json's content and inlined pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

STALLS = (
    ("mac_busy", "array took a beat"),
    ("stall_weights", "engine waited for weights"),
    ("stall_attention", "engine waited for softmax or held rows"),
    ("stall_drain", "engine waited for the drain"),
    ("idle_cycles", "engine had no job"),
)
"""Cycle counters of the machine and what they mean."""


def render(data: Mapping[str, Any], images: Mapping[str, str]) -> str:
    """The page as text; ``images`` are data URIs by the names of ``sw.report.write``."""
    environment = Environment(
        loader=PackageLoader("sw.report", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value, digits=2: "-" if value is None else f"{100 * value:.{digits}f} %"
    return environment.get_template("page.html.jinja").render(run=data, images=images, stalls=STALLS)
