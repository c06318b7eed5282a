"""Piecewise-linear tables of the nonlinear functions: one definition for RTL and golden model.

A table is evaluated as ``base[i] + round_shift(slope[i] * f, fraction_bits)``. The argument splits into an index ``i``
and ``fraction_bits`` low bits ``f``. Slopes are signed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


ACTIVATION_SEGMENTS = 512
"""Segments of an activation's table: 1/32 wide, up to an argument of 16."""
TABLE_ENTRIES = ACTIVATION_SEGMENTS + 1
"""Entries of a table in memory; the last one has the constants."""
_DELTA_SCALE = 2.0**18
_OUTPUT_BITS = 4
_BASE_BITS, _SLOPE_BITS = 18, 13


@dataclass(frozen=True)
class ActivationTable:
    """An activation function ``f(x) = ReLU(x) - delta(|x|)``, or a step ``f(x) = delta(-x)`` with ``f(-x) = 1 - f(x)``.

    Every ``x * s(x)`` with ``s(x) + s(-x) = 1`` is of the first form.

    Parameters
    ----------
    delta:
        ``delta`` scaled by 2**18; its argument has 11 fraction bits, 6 of them in the segment. It is 0 behind the last
        segment.
    zero_point:
        Added to the function, scaled by 2**14, so that no result is negative.
    step:
        The function is a step such as the sigmoid.
    """

    delta: PiecewiseTable
    zero_point: int = 0
    step: bool = False

    def entries(self) -> list[int]:
        """The table as it lies in memory: 4 bytes for each of ``TABLE_ENTRIES``.

        Bits 0 to 17 of an entry are the base, bits 18 to 30 the slope. The last entry has the zero point as base, and
        bit 18 for a step.
        """
        rest = ACTIVATION_SEGMENTS - len(self.delta.base)
        mask = (1 << _SLOPE_BITS) - 1
        pairs = zip((*self.delta.base, *[0] * rest), (*self.delta.slope, *[0] * rest), strict=True)
        return [b | (s & mask) << _BASE_BITS for b, s in pairs] + [self.zero_point | self.step << _BASE_BITS]

    @classmethod
    def from_entries(cls, entries: Sequence[int]) -> ActivationTable:
        """The table that :meth:`entries` wrote."""
        mask, sign = (1 << _BASE_BITS) - 1, 1 << (_SLOPE_BITS - 1)
        base = tuple(entry & mask for entry in entries[:-1])
        slope = tuple(((entry >> _BASE_BITS & (2 * sign - 1)) ^ sign) - sign for entry in entries[:-1])
        return cls(PiecewiseTable(base, slope, 6), entries[-1] & mask, bool(entries[-1] >> _BASE_BITS & 1))


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


@cache
def gelu_table() -> ActivationTable:
    """Exact GELU, which is always in the machine."""
    return ActivationTable(gelu_delta_table(), 2786)


@cache
def relu_table() -> ActivationTable:
    """ReLU, which the machine knows without a table."""
    return ActivationTable(PiecewiseTable((0,), (0,), 6))


@cache
def gelu_tanh_table() -> ActivationTable:
    """``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``."""
    return _gated(lambda x: _sigmoid(-math.sqrt(8.0 / math.pi) * (x + 0.044715 * x**3)))


@cache
def quick_gelu_table() -> ActivationTable:
    """``x * sigmoid(1.702 * x)``."""
    return _gated(lambda x: _sigmoid(-1.702 * x))


@cache
def silu_table() -> ActivationTable:
    """``x * sigmoid(x)``."""
    return _gated(lambda x: _sigmoid(-x))


@cache
def hardswish_table() -> ActivationTable:
    """``x * clip(x / 6 + 1 / 2, 0, 1)``."""
    return _gated(lambda x: max(0.0, 0.5 - x / 6.0))


@cache
def sigmoid_table() -> ActivationTable:
    """``1 / (1 + exp(-x))``."""
    return ActivationTable(_fitted(lambda x: _sigmoid(-x)), step=True)


@cache
def hard_sigmoid_table() -> ActivationTable:
    """``clip(x / 6 + 1 / 2, 0, 1)``."""
    return ActivationTable(_fitted(lambda x: max(0.0, 0.5 - x / 6.0)), step=True)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else 0.0


def _gated(gate: Callable[[float], float]) -> ActivationTable:
    """``x * s(x)`` from ``gate(x) = s(-x)`` for x of at least 0."""
    delta = _fitted(lambda x: x * gate(x))
    # The largest difference is that of a negative argument, whose ReLU is 0.
    values = (
        base + (slope * f + 32 >> 6) for base, slope in zip(delta.base, delta.slope, strict=True) for f in range(64)
    )
    return ActivationTable(delta, max(value + 8 >> _OUTPUT_BITS for value in values))


def _fitted(function: Callable[[float], float]) -> PiecewiseTable:
    """A chord in each segment of 1/32, moved so that it is as far above the function as below it."""
    base, slope = [], []
    for segment in range(ACTIVATION_SEGMENTS):
        points = [_DELTA_SCALE * function((segment + part / 16) / 32) for part in range(17)]
        rise = points[16] - points[0]
        errors = [points[0] + rise * part / 16 - point for part, point in enumerate(points)]
        start = max(0.0, points[0] - (max(errors) + min(errors)) / 2)
        base.append(math.floor(start + 0.5))
        slope.append(max(math.floor(rise + 0.5), -base[-1]))
    return PiecewiseTable(tuple(base), tuple(slope), 6)


def _piecewise(
    function: Callable[[float], float], start: float, step: float, segments: int, fraction_bits: int
) -> PiecewiseTable:
    """Interpolate a function between points that are rounded half up."""
    points = [math.floor(function(start + step * i) + 0.5) for i in range(segments + 1)]
    slopes = tuple(b - a for a, b in zip(points, points[1:], strict=False))
    return PiecewiseTable(tuple(points[:-1]), slopes, fraction_bits)
