"""Piecewise-linear tables of the nonlinear functions: one definition for RTL and golden model.

A table is evaluated as ``base[i] + round_shift(slope[i] * f, fraction_bits)`` where the argument splits into an index
``i`` and ``fraction_bits`` low bits ``f``; slopes are signed.
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


def _piecewise(
    function: Callable[[float], float], start: float, step: float, segments: int, fraction_bits: int
) -> PiecewiseTable:
    points = [math.floor(function(start + step * i) + 0.5) for i in range(segments + 1)]
    slopes = tuple(b - a for a, b in zip(points, points[1:], strict=False))
    return PiecewiseTable(tuple(points[:-1]), slopes, fraction_bits)


def _gelu_delta(x: float) -> float:
    """ReLU(x) - GELU(x) for x >= 0; an even function (Edge-MoE, section on GELU)."""
    return x * 0.5 * math.erfc(x / math.sqrt(2.0))


@cache
def _exp2() -> PiecewiseTable:
    return _piecewise(lambda f: 65536.0 * 2.0**-f, 0.0, 1 / 32, 32, 5)


@cache
def _reciprocal() -> PiecewiseTable:
    return _piecewise(lambda m: 65536.0 / m, 1.0, 1 / 128, 128, 9)


@cache
def _reciprocal_square_root() -> PiecewiseTable:
    return _piecewise(lambda m: 65536.0 / math.sqrt(m), 1.0, 1 / 64, 192, 10)


@cache
def _gelu() -> PiecewiseTable:
    return _piecewise(lambda x: _gelu_delta(x) * 2.0**18, 0.0, 1 / 32, 177, 6)


@dataclass(frozen=True)
class FunctionTables:
    """The four tables.

    ``exp2``: 2**-f scaled by 2**16 for f in [0, 1), argument 10 fraction bits (5 index, 5 interpolation).
    ``reciprocal``: 2**16 / m for m in [1, 2), argument ``x = m * 2**16`` (17 bits): index ``(x >> 9) - 128``.
    ``reciprocal_square_root``: 2**16 / sqrt(m) for m in [1, 4), argument ``x = m * 2**16`` (18 bits): index ``(x >>
    10) - 64``. ``gelu_delta``: (ReLU - GELU)(|z|) scaled by 2**18, argument |z| with 11 fraction bits: index ``|z| >>
    6``; 0 from index 177 on.
    """

    @property
    def exp2(self) -> PiecewiseTable:
        """2**-f."""
        return _exp2()

    @property
    def reciprocal(self) -> PiecewiseTable:
        """1 / m."""
        return _reciprocal()

    @property
    def reciprocal_square_root(self) -> PiecewiseTable:
        """1 / sqrt(m)."""
        return _reciprocal_square_root()

    @property
    def gelu_delta(self) -> PiecewiseTable:
        """ReLU - GELU."""
        return _gelu()
