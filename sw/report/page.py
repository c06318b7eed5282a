"""The HTML page of a run, from run.json's content and inlined pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tessera.sw.cycles.breakdown import KINDS
from tessera.sw.report.html import page_environment

CAUSES = {
    "busy": "array took a beat",
    "weights": "engine waited for weights or parameters",
    "activations": "engine waited for rows of activations",
    "softmax": "engine waited for exponentials",
    "drain": "engine waited for write-back",
    "store": "engine had no job: a result was stored",
    "sequencer": "engine had no job: anything else",
}
"""Causes of cycles and what they mean."""


def by_layer_and_kind(shares: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Owned cycles of a task's ``breakdown`` as a table: rows by layer, columns by kind of work, sums at both ends."""
    kinds = [kind for kind in KINDS if any(share["kind"] == kind for share in shares)]
    rows: dict[str, dict[str, int]] = {}
    for share in sorted(shares, key=lambda share: share["phase"] == "control"):
        name = share["phase"] if share["layer"] is None else f"layer {share['layer']}"
        row = rows.setdefault(name, {})
        row[share["kind"]] = row.get(share["kind"], 0) + share["cycles"]
    sums = {kind: sum(row.get(kind, 0) for row in rows.values()) for kind in kinds}
    return {"kinds": kinds, "rows": rows, "sums": sums}


def by_kind(shares: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same summed over layers, with multiply-accumulates, ideal cycles and causes."""
    table: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        members = [share for share in shares if share["kind"] == kind]
        if members:
            numbers = {key: sum(share[key] for share in members) for key in ("cycles", "macs", "ideal_cycles")}
            causes = {cause: sum(share["causes"][cause] for share in members) for cause in CAUSES}
            table[kind] = numbers | {"causes": causes}
    return table


def render(data: Mapping[str, Any], images: Mapping[str, str]) -> str:
    """The page as text; ``images`` are data URIs by the names of ``tessera.sw.report.write``."""
    environment = page_environment("tessera.sw.report")
    tables = {"by_layer_and_kind": by_layer_and_kind, "by_kind": by_kind}
    return environment.get_template("page.html.jinja").render(run=data, images=images, causes=CAUSES, **tables)
