"""Multiplier blocks that a product takes on an ECP5: exactly as many as Yosys gives it."""

from __future__ import annotations

from math import prod

from tessera.hw.ecp5.platform import Ecp5
from tessera.sw.fpga.resources.inventory import RtlProduct
from tessera.sw.fpga.synthesis.yosys import NARROW_OPERAND


def multiplier_blocks(product: RtlProduct) -> int:
    """Blocks of all products of one component.

    Yosys cuts an operand that is wider than a block's into factors, and makes products with a narrow operand of
    look-up tables.
    """
    if product.placed:
        return product.count
    if min(product.operands) < NARROW_OPERAND:
        return 0
    return product.count * prod(-(-bits // Ecp5.FACTOR_BITS) for bits in product.operands)
