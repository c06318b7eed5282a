"""What travels inside arithmetic blocks."""

from __future__ import annotations

from amaranth.lib import data

from tessera.hw.formats import Numerics


def scaled_mantissa_layout(exponents: int) -> data.StructLayout:
    """The number ``mantissa * 2**-16 * 2**-exponent``.

    Parameters
    ----------
    exponents:
        Number of exponents that occur.
    """
    return data.StructLayout(
        {
            "mantissa": Numerics.mantissa_fraction + 1,  # unsigned, 16 fraction bits, in (0.5, 1]
            "exponent": range(max(2, exponents)),  # right shift, 0 to ``exponents - 1``
        }
    )
