"""What is said of a bitstream: the table on the terminal, and the critical path in the design's own names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from tessera.sw.fpga.synthesis.cost import family as find_family
from tessera.sw.fpga.synthesis.table import cells_table


def own_name(cell: str) -> str:
    r"""Hierarchical name of a cell without what Yosys and nextpnr added to it.

    ``system.accelerator.array.sum_TRELLIS_FF_Q_3.CLK`` is ``system.accelerator.array.sum``; a cell without a name of
    the design is known by its module.
    """
    path = re.sub(r"\$\d+", "", cell.rpartition(".")[0])
    path = re.sub(r"_(TRELLIS_\w+|LUT4|CCU2C|PFUMX|L6MUX21|DP16KD|MULT18X18D)_.*$", "", path)
    return re.sub(r"\.?\$.*$", "", path)


def critical_path(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The slowest path, register to register, in our own names.

    Returns
    -------
    dict
        ``nanoseconds``; ``from`` and ``to``, the registers; ``through``: each signal or unit on the way with the
        ``logic`` and ``routing`` delay up to it, in ns.
    """
    through: list[dict[str, Any]] = []
    for step in steps:
        name = own_name(step["to"])
        # A cell that nextpnr put between others has no name of ours: it belongs to what is before it.
        if not through or (name and through[-1]["name"] != name):
            through.append({"name": name, "logic": 0.0, "routing": 0.0})
        through[-1]["routing" if step["kind"] == "routing" else "logic"] += step["delay"]
    for stage in through:
        stage["logic"], stage["routing"] = round(stage["logic"], 2), round(stage["routing"], 2)
    return {
        "nanoseconds": round(sum(step["delay"] for step in steps), 2),
        "from": own_name(steps[0]["from"]) if steps else "",
        "to": own_name(steps[-1]["to"]) if steps else "",
        "through": through,
    }


def tables(report: Mapping[str, Any]) -> Group:
    """A report for the terminal: speed by seed, cells by module, the slowest path."""
    return Group(_speed(report), _cells(report), _path(report))


def _speed(report: Mapping[str, Any]) -> Table:
    timing = report["timing"]
    clocks = timing["constraints_mhz"]
    title = f"{report['title']}, preset {report['preset']}: MHz after place and route"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("seed")
    for name, wanted in clocks.items():
        table.add_column(f"{name} (asked {wanted:g})", justify="right")
    table.add_column("")
    for route in timing["seeds"]:
        if "error" in route:
            table.add_row(str(route["seed"]), *("-" for _ in clocks), "[red]not routed[/red]")
            continue
        note = "[green]met[/green]" if route["met"] else "[bold red]MISSED[/bold red]"
        note += ", packed" if route["seed"] == timing["packed_seed"] else ""
        table.add_row(str(route["seed"]), *(f"{route['clocks'][name]:.1f}" for name in clocks), note)
    return table


def _cells(report: Mapping[str, Any]) -> Table:
    device = report["device"]
    modules = {module.removeprefix("system."): cost for module, cost in report["cells"]["modules"].items()}
    headings = find_family("ecp5").headings
    return cells_table("Cells after synthesis", modules, device["name"], device["limits"], headings)


def _path(report: Mapping[str, Any]) -> Table:
    path = report["timing"]["critical_path"]
    title = f"Slowest path of seed {report['timing']['packed_seed']}: {path['nanoseconds']} ns from {path['from']}"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("to", overflow="fold")
    for name in ("logic, ns", "routing, ns"):
        table.add_column(name, justify="right")
    for stage in path["through"]:
        table.add_row(stage["name"], f"{stage['logic']:.2f}", f"{stage['routing']:.2f}")
    return table
