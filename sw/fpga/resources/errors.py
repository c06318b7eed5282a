"""How wrong the estimator is: on configurations that it was not fitted to, and on the placements that it was."""

from __future__ import annotations

from hw.boards.board import board as find_board
from hw.presets import preset as find_preset
from sw.fpga.resources.clock import fmax_mhz, share
from sw.fpga.resources.model import cells, total
from sw.fpga.resources.record import Coefficients, Errors, Machine, Record
from sw.fpga.synthesis.cost import FAMILIES, RESOURCES

BOUNDS = {"lut": 0.10, "ff": 0.10, "dsp": 0.0, "bram": 0.0}
"""Largest relative error of each resource: what configurations held back must keep to, and what is allowed for before
anything is refused."""


def errors(record: Record) -> Errors:
    """Errors of a record's coefficients on its own machines and placements, worked out anew."""
    return Errors(
        held_back={
            machine.config.name: machine_errors(machine, record.coefficients)
            for machine in record.machines
            if machine.held_back
        },
        placements=[
            fmax_mhz(record.period_ns, placed_share(placement.preset, placement.board, record.coefficients))
            / placement.mhz
            - 1
            for placement in record.placements
        ],
    )


def machine_errors(machine: Machine, coefficients: Coefficients) -> dict[str, float]:
    """Of one machine, for each resource."""
    estimated, counted = total(cells(machine.config, None, coefficients)), total(machine.units)
    return {name: estimated[name] / counted[name] - 1 for name in RESOURCES}


def fullest_placed(record: Record) -> float:
    """Part of the device that the fullest machine takes of those that were placed to their end."""
    shares = (placed_share(placement.preset, placement.board, record.coefficients) for placement in record.placements)
    return max(shares, default=0.0)


def placed_share(preset: str, board: str | None, coefficients: Coefficients) -> float:
    """Part of the device that a preset is spread over, on a board or on its own."""
    units = cells(find_preset(preset), find_board(board) if board else None, coefficients)
    return share(total(units), FAMILIES["ecp5"].limits)
