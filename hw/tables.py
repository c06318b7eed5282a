"""Piecewise-linear tables of the nonlinear functions: one definition for RTL and golden model.

A table is evaluated as ``base[i] + round_shift(slope[i] * f, fraction_bits)``. The argument splits into an index ``i``
and ``fraction_bits`` low bits ``f``. Slopes are signed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class PiecewiseTable:
    """Base values and slopes of equal segments.

    ``base[i]`` is the function at the segment's start, ``base[i] + slope[i]`` at its end.
    """

    base: tuple[int, ...]
    slope: tuple[int, ...]
    fraction_bits: int

    @property
    def base_width(self) -> int:
        """Bits of an unsigned base."""
        return max(self.base).bit_length()

    @property
    def slope_width(self) -> int:
        """Bits of a signed slope."""
        return max(max(s, -s - 1).bit_length() for s in self.slope) + 1


@cache
def exp2_table() -> PiecewiseTable:
    """``2**-f`` for f in [0, 1), scaled by 2**16; f has 10 fraction bits: 5 of the index, 5 of the interpolation."""
    return _piecewise(lambda f: 65536.0 * 2.0**-f, 0.0, 1 / 32, 32, 5)


@cache
def reciprocal_table() -> PiecewiseTable:
    """``1 / m`` for m in [1, 2), scaled by 2**16; the argument ``x = m * 2**16`` has the index ``(x >> 9) - 128``."""
    return _piecewise(lambda m: 65536.0 / m, 1.0, 1 / 128, 128, 9)


@cache
def reciprocal_square_root_table() -> PiecewiseTable:
    """``1 / sqrt(m)`` for m in [1, 4), scaled by 2**16; ``x = m * 2**16`` has the index ``(x >> 10) - 64``."""
    return _piecewise(lambda m: 65536.0 / math.sqrt(m), 1.0, 1 / 64, 192, 10)


@cache
def gelu_delta_table() -> PiecewiseTable:
    """``(ReLU - GELU)(|z|)`` scaled by 2**18; ``|z|`` has 11 fraction bits, the index is ``|z| >> 6``.

    The function is even (Edge-MoE, section on GELU). It is 0 from index 177 on.
    """
    return _piecewise(lambda x: x * 0.5 * math.erfc(x / math.sqrt(2.0)) * 2.0**18, 0.0, 1 / 32, 177, 6)


def _piecewise(
    function: Callable[[float], float], start: float, step: float, segments: int, fraction_bits: int
) -> PiecewiseTable:
    """Interpolate a function between points that are rounded half up."""
    points = [math.floor(function(start + step * i) + 0.5) for i in range(segments + 1)]
    slopes = tuple(b - a for a, b in zip(points, points[1:], strict=False))
    return PiecewiseTable(tuple(points[:-1]), slopes, fraction_bits)
