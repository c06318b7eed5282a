"""The table of what a design takes of a device, module by module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from tessera.sw.fpga.synthesis.cost import RESOURCES


def cells_table(
    title: str,
    modules: Mapping[str, Mapping[str, int]],
    device: str,
    limits: Mapping[str, int],
    headings: Mapping[str, str],
    *,
    notes: Sequence[tuple[str, Mapping[str, str]]] = (),
) -> Table:
    """A row a module, largest first, then total, device, and the part of it that is used.

    Parameters
    ----------
    title, headings:
        Of the table, and of each resource's column.
    modules:
        Resources of each module.
    device, limits:
        Its name, and what it has.
    notes:
        More rows at the end: their name, and a text for each resource.
    """
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("module")
    for name in RESOURCES:
        table.add_column(headings[name], justify="right")
    for module, cost in sorted(modules.items(), key=lambda entry: -entry[1]["lut"]):
        table.add_row(module, *(f"{cost[name]:,}" for name in RESOURCES))
    total = {name: sum(cost[name] for cost in modules.values()) for name in RESOURCES}
    table.add_section()
    table.add_row("total", *(f"{total[name]:,}" for name in RESOURCES), style="bold")
    table.add_row(device, *(f"{limits[name]:,}" for name in RESOURCES))
    table.add_row("used", *(f"{100 * total[name] / limits[name]:.0f} %" for name in RESOURCES))
    for note, texts in notes:
        table.add_row(note, *(texts[name] for name in RESOURCES), style="dim")
    return table
