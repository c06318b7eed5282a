"""The table of backbones in docs/reference/support.md, from what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.common.documents import replace_generated
from tessera.common.files import write_text
from tessera.common.paths import PROJECT_ROOT
from tessera.sw.benchmark.tables import markdown_table
from tests.backbones.measure import MeasuredBackbone

DOCUMENT = PROJECT_ROOT / "docs" / "reference" / "support.md"
_COLUMNS = (
    *("backbone", "picture", "machine", "cycles (simulated)", "cycle model", "MAC utilisation", "result's error"),
    "bit-exact",
)
_LISTED = 3
"""Missing operators that a row names."""


def backbones_block(measured: Sequence[MeasuredBackbone]) -> str:
    """A line of counts, a row for each backbone that runs, and one for each that does not."""
    runs, others = [one for one in measured if one.bit_exact], [one for one in measured if not one.bit_exact]
    on_edge = sum(one.machine == "edge" for one in runs)
    counts = f"Of {len(measured)} backbones, {len(runs)} run bit-exact, {on_edge} of them on `edge` as it is."
    lines = [
        counts,
        "",
        *markdown_table(_COLUMNS, [_row(one) for one in runs]),
    ]
    if others:
        lines += ["", *markdown_table(("backbone", "what is missing"), [_refusal(one) for one in others])]
    return "\n".join(lines)


def _row(one: MeasuredBackbone) -> list[str]:
    return [
        f"`{one.name}` ({one.family})",
        f"{one.size} x {one.size}",
        f"`{one.machine}`",
        f"{one.cycles:,}",
        f"{one.predicted_cycles / one.cycles - 1:+.1%}",
        f"{one.mac_utilisation:.1%}",
        f"{one.error:.1%}",
        "yes",
    ]


def _refusal(one: MeasuredBackbone) -> list[str]:
    missing = one.missing or ["**not bit-exact**"]
    more = f"; and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
    return [f"`{one.name}` ({one.family})", "; ".join(missing[:_LISTED]).replace("|", "\\|") + more]


def write(measured: Sequence[MeasuredBackbone]) -> None:
    """Put the table into the document."""
    document = DOCUMENT.read_text(encoding="utf-8")
    block = backbones_block(measured)
    write_text(DOCUMENT, replace_generated(document, "backbones", block, "docs/reference/support.md"))
