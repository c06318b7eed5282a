"""What travels inside arithmetic blocks."""

from __future__ import annotations

from amaranth.lib import data

from hw.formats import Numerics


def scaled_mantissa_layout(exponents: int) -> data.StructLayout:
    """``mantissa * 2**-16 * 2**-exponent``: mantissa of 17 bits in (32768, 65536], exponent 0 to ``exponents - 1``."""
    return data.StructLayout({"mantissa": Numerics.mantissa_fraction + 1, "exponent": range(max(2, exponents))})
