"""How wrong the estimator is: on configurations that it was not fitted to, and on the placements that it was."""

from __future__ import annotations

from tessera.hw.boards.board import board as find_board
from tessera.hw.presets import preset as find_preset
from tessera.sw.fpga.resources.clock import fmax_mhz, used_share
from tessera.sw.fpga.resources.model import total_cells, unit_cells
from tessera.sw.fpga.resources.record import CalibrationRecord, Coefficients, CountedMachine, EstimateErrors
from tessera.sw.fpga.synthesis.cost import FAMILIES, RESOURCES, ecp5_device

BOUNDS = {"lut": 0.10, "ff": 0.10, "dsp": 0.0, "bram": 0.0}
"""Largest relative error of each resource: what configurations held back must keep to, and what is allowed for before
anything is refused."""


def errors(record: CalibrationRecord) -> EstimateErrors:
    """Errors of a record's coefficients on its own machines and placements, worked out anew."""
    return EstimateErrors(
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


def machine_errors(machine: CountedMachine, coefficients: Coefficients) -> dict[str, float]:
    """Of one machine, for each resource."""
    estimated, counted = total_cells(unit_cells(machine.config, None, coefficients)), total_cells(machine.units)
    return {name: estimated[name] / counted[name] - 1 for name in RESOURCES}


def fullest_placed(record: CalibrationRecord) -> float:
    """Part of the device that the fullest machine takes of those that were placed to their end."""
    shares = (placed_share(placement.preset, placement.board, record.coefficients) for placement in record.placements)
    return max(shares, default=0.0)


def placed_share(preset: str, board: str | None, coefficients: Coefficients) -> float:
    """Part of the device that a preset is spread over, on a board or on its own."""
    target = find_board(board) if board else None
    limits = ecp5_device(target.platform.device).limits if target else FAMILIES["ecp5"].limits
    return used_share(total_cells(unit_cells(find_preset(preset), target, coefficients)), limits)
