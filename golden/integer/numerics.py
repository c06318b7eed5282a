"""What the integer model needs to know about number formats: structural types, independent of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Format(Protocol):
    """A fixed-point format: ``value = integer / 2**fraction``."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def fraction(self) -> int: ...  # noqa: D102
    @property
    def minimum(self) -> int: ...  # noqa: D102
    @property
    def maximum(self) -> int: ...  # noqa: D102


class PiecewiseTable(Protocol):
    """A table evaluated as ``base[i] + round_shift(slope[i] * f, fraction_bits)``."""

    @property
    def base(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def slope(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def fraction_bits(self) -> int: ...  # noqa: D102


class Tables(Protocol):
    """The four tables of the nonlinear functions."""

    @property
    def exp2(self) -> PiecewiseTable: ...  # noqa: D102
    @property
    def reciprocal(self) -> PiecewiseTable: ...  # noqa: D102
    @property
    def reciprocal_square_root(self) -> PiecewiseTable: ...  # noqa: D102
    @property
    def gelu_delta(self) -> PiecewiseTable: ...  # noqa: D102


class Numerics(Protocol):
    """Number formats of one machine; the names say what each is for, the values are the machine's."""

    @property
    def activation_width(self) -> int: ...  # noqa: D102
    @property
    def residual_width(self) -> int: ...  # noqa: D102
    @property
    def accumulator_width(self) -> int: ...  # noqa: D102
    @property
    def gelu_zero_point(self) -> int: ...  # noqa: D102
    @property
    def activation(self) -> Format: ...  # noqa: D102
    @property
    def unsigned_activation(self) -> Format: ...  # noqa: D102
    @property
    def residual(self) -> Format: ...  # noqa: D102
    @property
    def weight(self) -> Format: ...  # noqa: D102
    @property
    def wide(self) -> Format: ...  # noqa: D102
    @property
    def bias(self) -> Format: ...  # noqa: D102
    @property
    def score(self) -> Format: ...  # noqa: D102
    @property
    def gate_weight(self) -> Format: ...  # noqa: D102
    @property
    def gelu_input(self) -> Format: ...  # noqa: D102
    @property
    def gelu_output(self) -> Format: ...  # noqa: D102
    @property
    def tables(self) -> Tables: ...  # noqa: D102
