"""Colours of the drawing of a network: plain ones as attributes, others by a style sheet."""

from __future__ import annotations

from collections.abc import Mapping

_LIGHT = {
    "ink": "#1c2733",
    "paper": "#ffffff",
    "quiet": "#57606a",
    "line": "#c5ced7",
    "soft": "#f3f6f9",
    "accent": "#1f6feb",
    "muted": "#8c96a0",
}
"""Colours by name, as the report's page calls them. Attributes have these: not every program knows style sheets."""
_DARK = {
    "ink": "#e6edf3",
    "paper": "#0f141a",
    "quiet": "#a3b0bd",
    "line": "#3a4754",
    "soft": "#19212a",
    "accent": "#6cb6ff",
    "muted": "#7d8a97",
}
_PAINTED = {
    "ground": {"fill": "paper"},
    "box": {"fill": "paper", "stroke": "line"},
    "frame": {"fill": "soft", "stroke": "line"},
    "edge": {"stroke": "muted"},
    "tip": {"fill": "muted"},
    "result": {"fill": "accent"},
    "name": {"fill": "ink"},
    "quiet": {"fill": "quiet"},
    "told": {"fill": "paper"},
}
"""What has which colour, by class. A style sheet may give it another."""
_FIXED = {
    "edge": 'fill="none" stroke-width="1.4"',
    "name": 'font-weight="600"',
    "quiet": 'font-size="11"',
    "told": 'font-weight="600"',
}
STRIPES = {
    "product": "#0072b2",
    "attention": "#cc79a7",
    "experts": "#e69f00",
    "norm": "#009e73",
    "function": "#d55e00",
    "data": "#56b4e9",
    "other": "#8c96a0",
}
"""Colours of the stripes of boxes, by what an operator does."""


def attributes(kind: str) -> str:
    """A class with its attributes."""
    colours = "".join(f' {attribute}="{_LIGHT[colour]}"' for attribute, colour in _PAINTED[kind].items())
    return f'class="{kind}"{colours}{" " if kind in _FIXED else ""}{_FIXED.get(kind, "")}'


def style_sheet(*, alone: bool) -> str:
    """Rules that override the attributes: for a file on the dark side, in the report with the page's variables."""
    if alone:
        return f"@media (prefers-color-scheme: dark) {{\n{_rules(_DARK)}\n}}"
    return _rules({colour: f"var(--{colour})" for colour in _LIGHT})


def _rules(colours: Mapping[str, str]) -> str:
    """Rules that give every class its colours out of ``colours``."""
    rules = []
    for kind, painted in _PAINTED.items():
        said = " ".join(f"{attribute}: {colours[colour]};" for attribute, colour in painted.items())
        rules.append(f".net .{kind} {{ {said} }}")
    return "\n".join(rules)
