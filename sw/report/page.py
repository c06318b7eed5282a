"""The HTML page of a run, from run.json's content and inlined pictures."""

from __future__ import annotations

import base64
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
        name = share["layer"] or share["phase"]
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


def verdict_sentence(run: Mapping[str, Any]) -> str:
    """The outcome in one sentence."""
    frames = run["frames"]
    wrong = sum(not frame["bit_exact"] for frame in frames)
    if wrong:
        return f"NOT bit-exact: {wrong} of {len(frames)} frames differ from the integer golden model."
    elements = sum(frame["elements_compared"] for frame in frames)
    count = "the frame" if len(frames) == 1 else f"{len(frames)} frames"
    return f"Bit-exact: all {elements:,} elements that the machine wrote in {count} equal the integer golden model."


def result_sentence(task: Mapping[str, Any]) -> str:
    """What a task came to, and how far it is from the float model and from the truth where that is known."""
    found, parts = task["prediction"], []
    agreement = found.get("class_agreement")
    if agreement is not None and found["kind"] == "classification":
        parts.append(f"the class is {'' if agreement == 1 else 'not '}the float model's")
    elif agreement is not None:
        parts.append(f"{agreement:.2%} of the classes are the float model's")
    if found.get("depth_difference_m") is not None:
        parts.append(f"depth is {found['depth_difference_m']:.3f} m from the float model's (RMS)")
    if found.get("machine_mean_iou") is not None:
        parts.append(
            f"mIoU against the exact labels {found['machine_mean_iou']:.3f}, float {found['float_mean_iou']:.3f}"
        )
    if found.get("machine_depth_rmse_m") is not None:
        machine, reference = found["machine_depth_rmse_m"], found["float_depth_rmse_m"]
        parts.append(f"RMSE against the exact depth {machine:.2f} m, float {reference:.2f} m")
    error = task["quantisation"]["relative_l2"]
    parts += [] if error is None else [f"output error against float {error:.2%} (relative L2)"]
    said = "; ".join([*parts, f"{task['cycles']:,} cycles (simulated)"])
    return f"{said[0].upper()}{said[1:]}."


def render(data: Mapping[str, Any], images: Mapping[str, bytes], viewer: str, network: str) -> str:
    """The page as text.

    Parameters
    ----------
    data:
        Content of run.json.
    images:
        PNG files by the names of ``tessera.sw.report.write``.
    viewer:
        Data of the viewer, from :func:`tessera.sw.report.viewer.script_text`.
    network:
        Drawing of the network, from :func:`tessera.sw.report.drawing.drawing`.
    """
    environment = page_environment("tessera.sw.report")
    tools = {"by_layer_and_kind": by_layer_and_kind, "by_kind": by_kind, "causes": CAUSES}
    words = {"verdict": verdict_sentence, "said": result_sentence}
    inline = {name: _inline(png) for name, png in images.items()}
    page = environment.get_template("page.html.jinja")
    return page.render(run=data, images=inline, viewer=viewer, network=network, **tools, **words)


def _inline(png: bytes) -> dict[str, Any]:
    """A picture as the page holds it, and its width in pixels: the first number of a PNG's first chunk."""
    width = int.from_bytes(png[16:20], "big")
    return {"uri": f"data:image/png;base64,{base64.b64encode(png).decode()}", "width": width}
