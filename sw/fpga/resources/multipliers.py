"""Multiplier blocks of each unit, exactly: as many as the RTL has products that Yosys gives to them."""

from __future__ import annotations

from hw.compute.requantiser import PIECE_BITS
from hw.config import AcceleratorConfig
from hw.ecp5.platform import Ecp5
from sw.fpga.synthesis.yosys import NARROW_OPERAND


def multipliers(config: AcceleratorConfig) -> dict[str, int]:
    """Blocks of each unit that has any, on an ECP5."""
    numerics, r = config.numerics, config.requantise_lanes
    residual = numerics.residual_width
    pieces = -(-numerics.accumulator_width // PIECE_BITS)
    # Rows are normalised and summed by the same lanes, or by lanes of their own.
    norm_lanes = config.layernorm_lanes * (2 if config.layernorm_row_buffer else 1)
    token_bits = (config.max_tokens - 1).bit_length()
    return {
        "array": config.elements * config.lanes,
        # Of each lane: the accumulator's pieces, the table of GELU and its requantisation, the gate's weight.
        "writeback": r * (pieces + 2 + _factors(residual)),
        # Both operands of a lane may be residual values; beside them the row's products, its root and its scale.
        "layernorm": norm_lanes * _factors(residual) ** 2 + 3,
        # An exponential a lane; the reciprocal of a query's sum, and its product with the output's multiplier.
        "softmax": config.exponential_lanes + 2,
        # Exponential, reciprocal, their product.
        "gate": 3,
        # A token's number times the words of a row.
        "engine": int(token_bits >= NARROW_OPERAND),
    }


def _factors(width: int) -> int:
    """Factors of a block that an operand of ``width`` bits is cut into."""
    return -(-width // Ecp5.FACTOR_BITS)
