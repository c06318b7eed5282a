"""The benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of one table."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*head, *("| " + " | ".join(row) + " |" for row in rows)]


def to_markdown(result: Mapping[str, Any]) -> str:
    """All tables; each number says where it comes from."""
    lines = [*_frames(result["frames"]), "", *_kinds(result["frames"])]
    for name, section in (("simulation", _simulation), ("attention", _attention), ("quoted", _quoted)):
        if result.get(name):
            lines += ["", *section(result)]
    return "\n".join(lines) + "\n"


def _frames(frames: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = ["preset", "model, task", "cycles", "over the bound", "MAC utilisation", "predicted", "bit-exact"]
    rows = []
    for frame in frames:
        routing = f" ({frame['routing']})" if frame["routing"] not in ("model", "none") else ""
        error = frame["predicted_cycles"] / frame["cycles"] - 1
        rows.append(
            [
                f"{frame['preset']} ({frame['memory_bytes_per_cycle']} B/cycle)",
                f"{frame['model']}, {frame['task']}{routing}",
                f"{frame['cycles']:,}",
                f"{frame['cycles'] / frame['bound_cycles']:.3f}",
                f"{frame['mac_utilisation']:.1%}",
                f"{error:+.2%}",
                "yes" if frame["bit_exact"] else "**no**",
            ]
        )
    return [
        "Frames (cycles simulated, bound computed, prediction against simulated):",
        "",
        *markdown_table(columns, rows),
    ]


def _kinds(frames: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cycles of each kind of work: the first frame of every preset and model."""
    shown: dict[tuple[str, str], Mapping[str, Any]] = {}
    for frame in frames:
        shown.setdefault((frame["preset"], frame["model"]), frame)
    kinds = list(dict.fromkeys(kind for frame in shown.values() for kind in frame["kinds"]))
    rows = []
    for kind in kinds:
        cells = []
        for frame in shown.values():
            part = frame["kinds"].get(kind)
            cells.append(f"{part['cycles']:,} ({part['mac_utilisation']:.0%})" if part else "-")
        rows.append([kind, *cells])
    columns = ["cycles (MAC utilisation)", *(f"{preset}, {model}" for preset, model in shown)]
    return ["Where the cycles go (simulated):", "", *markdown_table(columns, rows)]


def _simulation(result: Mapping[str, Any]) -> list[str]:
    speed, host = result["simulation"], result.get("host")
    rows = [
        ["fast build", f"{speed['fast']:,.0f}", f"{speed['ratio']:.1f}"],
        ["cocotb's stock build", f"{speed['stock']:,.0f}", "1"],
    ]
    rows.append(["Amaranth's simulator", f"{speed['amaranth']:,.0f}", f"{speed['amaranth'] / speed['stock']:.4f}"])
    title = (
        f"Simulation of {speed['model']} on {speed['preset']}, medians of {speed['rounds']} alternating runs (host):"
    )
    lines = [title, "", *markdown_table(["simulator", "cycles/s", "x stock"], rows)]
    if host:
        lines += [
            "",
            f"PyTorch {host['torch']}, {host['threads']} threads: {host['milliseconds']:.0f} ms a frame (host).",
        ]
    estimates = result["estimates"]
    first, again = f"{estimates['first_seconds']:.2f} s", f"{1e3 * estimates['again_seconds']:.0f} ms"
    machine = f"{estimates['preset']} on {estimates['board']}"
    lines += ["", f"An estimate of cells and clock, {machine}: {first}, {again} for a machine seen before (host)."]
    return lines


def _attention(result: Mapping[str, Any]) -> list[str]:
    rows = [
        [str(entry["elements"]), f"{entry['words']:,}", f"{entry['cycles']:,}", f"{entry['words_per_cycle']:.4f}"]
        for entry in result["attention"]
    ]
    columns = ["P", "words broadcast", "cycles", "words a cycle"]
    switch = result["task_switch"]
    return [
        "Attention's broadcast traffic by held queries P (simulated):",
        "",
        *markdown_table(columns, rows),
        "",
        f"Change of task: {switch['extra_cycles']} extra cycles, {switch['extra_bytes']} extra bytes (simulated).",
    ]


def _quoted(result: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            system["name"],
            f"{system['board']}, {system['clock_mhz']} MHz",
            system["precision"],
            f"{system['latency_ms']:.2f} ms",
            f"{system['mac_utilisation']:.1%}",
            "quoted; utilisation computed",
        ]
        for system in result["quoted"]
    ]
    frame = result["frames"][0]
    milliseconds = frame["cycles"] / 300e3
    ours = ["Tessera, edge", "none: simulated, at 300 MHz it would be", "W8 A8", f"{milliseconds:.2f} ms"]
    rows.append([*ours, f"{frame['mac_utilisation']:.1%}", "simulated"])
    columns = ["system", "board, clock", "precision", "M3ViT-Tiny frame", "MAC utilisation", ""]
    return ["Beside published systems:", "", *markdown_table(columns, rows)]
