"""Places of block RAMs and multipliers, chosen before everything else is placed around them.

nextpnr has two placers. The default one (``heap``) weighs timing, but moves look-up tables, block RAMs and multipliers
to legal places one kind after the other: where most of a device's block RAMs are taken, those end up far from what they
belong to, and everything else with them. The other one (``static``) spreads all kinds at once, by wire length alone. So
that one is asked for the places of units with many blocks, and the default one places the rest with these given: what
belongs to a single block must be free to follow timing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sw.synthesis.cost import SynthesisError

BLOCKS = ("DP16KD", "PDPW16KD", "MULT18X18D")
"""Cells that there are few sites for, in rows far apart."""


MANY = 24
"""Blocks from which on a unit's are given their places."""


def places_in(placed: Path) -> dict[str, str]:
    """Site of each block in a design that nextpnr has placed and written, by the block's name with all its parents'."""
    cells = json.loads(placed.read_text())["modules"]["top"]["cells"]
    return {name: cell["attributes"]["NEXTPNR_BEL"] for name, cell in cells.items() if cell["type"] in BLOCKS}


def constrain(netlist: Path, places: dict[str, str], into: Path) -> None:
    """Write a netlist in which the blocks of modules with many of them must go to these places.

    Raises
    ------
    SynthesisError
        The places are those of another netlist's blocks.
    """
    design = json.loads(netlist.read_text())
    modules: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for module, name, cell in _blocks(design["modules"], "top", ""):
        modules.setdefault(module, []).append((name, cell))
    strange = {name for blocks in modules.values() for name, _ in blocks} ^ places.keys()
    if strange:
        raise SynthesisError(
            f"{len(strange)} blocks without a place, or places without a block, such as {min(strange)}"
        )
    for blocks in modules.values():
        for name, cell in blocks if len(blocks) >= MANY else ():
            cell.setdefault("attributes", {})["BEL"] = places[name]
    into.write_text(json.dumps(design))


def _blocks(modules: dict[str, Any], module: str, parents: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Blocks of a module and of those below it: module, name, cell. Such a module is there once (asserted)."""
    for name, cell in modules[module]["cells"].items():
        kind = cell["type"]
        if kind in BLOCKS:
            assert "BEL" not in cell.get("attributes", {}), f"{parents}{name} has a place already"
            yield module, parents + name, cell
        elif modules.get(kind, {}).get("cells"):
            yield from _blocks(modules, kind, f"{parents}{name}.")
