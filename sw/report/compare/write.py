"""A comparison as files: numbers, and a page with bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tessera.common.files import folder_aside
from tessera.common.schemas.kinds import COMPARISON
from tessera.common.stamped import write_document
from tessera.sw.report.compare.compare import ComparedValue, FileComparison
from tessera.sw.report.compare.contents import CAUSES, CYCLES, KINDS
from tessera.sw.report.html import page_environment

BARS = (CYCLES, KINDS, CAUSES)
"""Sections that the page shows as bars; of the others it shows what changed."""


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shown_change(line: ComparedValue) -> str:
    """The change of a value in per cent, for people."""
    if not line.changed:
        return "="
    return "" if line.percent is None else f"{line.percent:+.2f} %"


def write_comparison(comparison: FileComparison, folder: Path) -> list[Path]:
    """Write ``comparison.html`` and ``comparison.json``; returns the files, the page first."""
    environment = page_environment("tessera.sw.report.compare")
    environment.filters |= {"shown": shown, "change": shown_change}
    with folder_aside(folder) as aside:
        data = write_document(aside / "comparison.json", COMPARISON, comparison.to_dict())
        bars = {name: _bars(comparison.sections[name]) for name in BARS if comparison.sections[name]}
        rest = {name: lines for name in comparison.sections if name not in BARS and (lines := comparison.changed(name))}
        page = environment.get_template("comparison.html.jinja")
        (aside / "comparison.html").write_text(
            page.render(data=data, bars=bars, rest=rest, comparison=comparison), encoding="utf-8"
        )
    return [folder / "comparison.html", folder / "comparison.json"]


def _bars(lines: list[ComparedValue]) -> dict[str, list[tuple[ComparedValue, float, float]]]:
    """Lines by place, each with the lengths of its two bars in per cent of the longest of the place."""
    places: dict[str, list[ComparedValue]] = {}
    for line in lines:
        places.setdefault(line.place, []).append(line)
    found = {}
    for place, members in places.items():
        longest = max((_length(value) for line in members for value in (line.before, line.after)), default=0) or 1
        found[place] = [
            (line, 100 * _length(line.before) / longest, 100 * _length(line.after) / longest) for line in members
        ]
    return found


def _length(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e300 else 0.0
