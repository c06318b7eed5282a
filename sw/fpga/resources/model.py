"""From a configuration and coefficients to the resources of each unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from tessera.hw.boards.board import Board
from tessera.hw.config import AcceleratorConfig
from tessera.sw.fpga.resources.block_rams import block_rams, lut_ram
from tessera.sw.fpga.resources.features import Features, board_features, features
from tessera.sw.fpga.resources.inventory import board_inventory, machine_inventory
from tessera.sw.fpga.resources.multipliers import multiplier_blocks
from tessera.sw.fpga.resources.record import Cells, Coefficients
from tessera.sw.fpga.synthesis.cost import RESOURCES

_Part = TypeVar("_Part")

FITTED = ("lut", "ff")
"""Resources whose coefficients are fitted; multipliers and block RAMs are worked out."""


def unit_cells(config: AcceleratorConfig, board: Board | None, coefficients: Coefficients) -> Cells:
    """Resources of each unit of a machine, and of what a board has around it."""
    inventory = machine_inventory(config)
    blocks, luts = by_unit(inventory.memories, block_rams), by_unit(inventory.memories, lut_ram)
    products = by_unit(inventory.products, multiplier_blocks)
    found = {
        unit: {
            "lut": _sum(coefficients[unit]["lut"], wanted) + luts.get(unit, 0),
            "ff": _sum(coefficients[unit]["ff"], wanted),
            "dsp": products.get(unit, 0),
            "bram": blocks.get(unit, 0),
        }
        for unit, wanted in features(config).items()
    }
    if board:
        blocks = by_unit(board_inventory(board, config).memories, block_rams)
        for unit, (name, wanted) in board_features(board, config.memory_bytes).items():
            fitted = {resource: _sum(coefficients[name][resource], wanted) for resource in FITTED}
            found[unit] = {**fitted, "dsp": 0, "bram": blocks.get(unit, 0)}
    return found


def by_unit(parts: Mapping[str, Iterable[_Part]], cost: Callable[[_Part], int]) -> dict[str, int]:
    """Cost of all memories, or of all products, of each unit that has any."""
    return {unit: sum(map(cost, of_unit)) for unit, of_unit in parts.items()}


def total_cells(units: Cells) -> dict[str, int]:
    """Resources of all units together."""
    return {name: sum(cost[name] for cost in units.values()) for name in RESOURCES}


def _sum(coefficients: Mapping[str, float], wanted: Features) -> int:
    return round(sum(cost * wanted[name] for name, cost in coefficients.items()))
