"""Coefficients of the estimator, fitted to what was counted: least squares, none of them negative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from tessera.hw.boards.board import board as find_board
from tessera.sw.fpga.resources.block_rams import lut_ram
from tessera.sw.fpga.resources.clock import LOGIC, WAY, device_width
from tessera.sw.fpga.resources.errors import placed_share
from tessera.sw.fpga.resources.features import Features, board_features, features
from tessera.sw.fpga.resources.inventory import machine_inventory
from tessera.sw.fpga.resources.model import FITTED, by_unit
from tessera.sw.fpga.resources.record import Coefficients, CountedBoard, CountedMachine, FoundClock

_DIGITS = 4
"""Of a coefficient that are kept."""


def fit_coefficients(machines: Sequence[CountedMachine], boards: Sequence[CountedBoard]) -> Coefficients:
    """Fit each unit's coefficients to the machines that are not held back, and to the boards.

    Machines count by the share of the whole that an error is, so that small ones are fitted as well as large ones.
    Look-up table RAM is worked out, not fitted.
    """
    known = [machine for machine in machines if not machine.held_back]
    weights = {resource: [1 / machine.total(resource) for machine in known] for resource in FITTED}
    parts = [features(machine.config) for machine in known]
    stored = [by_unit(machine_inventory(machine.config).memories, lut_ram) for machine in known]
    coefficients: Coefficients = {}
    for unit in parts[0]:
        counted = {resource: [machine.units[unit][resource] for machine in known] for resource in FITTED}
        counted["lut"] = [count - luts.get(unit, 0) for count, luts in zip(counted["lut"], stored, strict=True)]
        coefficients[unit] = {
            resource: _fitted([part[unit] for part in parts], counted[resource], weights[resource])
            for resource in FITTED
        }
    return {**coefficients, **_fit_boards(boards)}


def _fit_boards(boards: Sequence[CountedBoard]) -> Coefficients:
    """Fit the host link to all boards, memory and the rest to those of their kind."""
    rows: dict[str, list[tuple[Features, dict[str, int]]]] = {}
    for parts in boards:
        for unit, (name, wanted) in board_features(find_board(parts.board), parts.memory_bytes).items():
            rows.setdefault(name, []).append((wanted, parts.units[unit]))
    return {
        name: {
            resource: _fitted([row[0] for row in found], [row[1][resource] for row in found], [1.0] * len(found))
            for resource in FITTED
        }
        for name, found in rows.items()
    }


def _fitted(rows: Sequence[Features], counted: Sequence[float], weights: Sequence[float]) -> dict[str, float]:
    names = list(rows[0])
    matrix = np.array([[row[name] for name in names] for row in rows], dtype=float)
    # Columns of like size: sums of squares do not lose the small ones.
    scale = np.maximum(matrix.max(axis=0), 1e-9)
    weight = np.array(weights) / np.mean(weights)
    found, _ = nnls(matrix / scale * weight[:, None], np.maximum(counted, 0) * weight)
    return {name: float(f"{value:.{_DIGITS}g}") for name, value in zip(names, found / scale, strict=True) if value > 0}


def fit_clock(placements: Sequence[FoundClock], coefficients: Coefficients) -> dict[str, float]:
    """Fit the two numbers of :mod:`tessera.sw.fpga.resources.clock` to the periods of placements."""
    shares = [placed_share(placement.preset, placement.board, coefficients) for placement in placements]
    matrix = np.array([[1.0, device_width(used)] for used in shares])
    found, _ = nnls(matrix, np.array([1000 / placement.mhz for placement in placements]))
    return {LOGIC: round(float(found[0]), 3), WAY: round(float(found[1]), 3)}
