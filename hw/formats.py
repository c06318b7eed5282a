"""Number formats, spelt out once for RTL, integer golden model and compiler.

Rounding everywhere is *half up*: ``round_shift(x, s) = floor((x + 2**(s-1)) / 2**s)`` (``x`` for ``s == 0``), so a
negative tie goes towards plus infinity. Saturation clips to the format's own bounds; two's complement uses its full
range.

The golden model takes widths and constants from a :class:`Numerics` object, but writes the arithmetic again by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tessera.common.expected import whole

ACTIVATION_WIDTHS = (8, 12, 16)


@dataclass(frozen=True)
class Format:
    """A fixed-point number format: ``value = integer / 2**fraction``.

    Parameters
    ----------
    name:
        Name for messages.
    width:
        Bits of the integer.
    fraction:
        Bits behind the binary point.
    signed:
        Whether the integer is in two's complement.
    """

    name: str
    width: int
    fraction: int
    signed: bool

    @property
    def minimum(self) -> int:
        """Smallest integer of the format."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest integer of the format."""
        return (1 << (self.width - 1)) - 1 if self.signed else (1 << self.width) - 1


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Every number format of the machine, derived from two widths.

    Parameters
    ----------
    activation_width:
        Bits A of an activation: 8, 12 or 16. Exponentials and post-GELU values are unsigned with the same width.
    residual_width:
        Bits of the residual stream, 18 to 24. Its range is always [-64, 64).

    Raises
    ------
    ValueError
        A width is outside its range.
    """

    activation_width: int = 8
    residual_width: int = 18

    def __post_init__(self) -> None:
        for name in ("activation_width", "residual_width"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        if self.activation_width not in ACTIVATION_WIDTHS:
            raise ValueError(
                f"activation_width is {self.activation_width}; choose one of {', '.join(map(str, ACTIVATION_WIDTHS))}"
            )
        if not 18 <= self.residual_width <= 24:
            raise ValueError(f"residual_width is {self.residual_width}; choose 18 to 24")

    weight = Format("weight", 8, 0, True)
    """Weights; each output channel has a scale of its own."""
    wide = Format("wide", 16, 0, True)
    """Gate weights and gate input; one value occupies two lanes."""
    pixel = Format("pixel", 8, 8, False)
    """Colours of the image, in [0, 1)."""
    score = Format("score", 18, 10, True)
    """Attention scores and gate logits, in octaves (base-2 logarithm)."""
    gate_weight = Format("gate_weight", 16, 16, False)
    """Weight of an expert's output, in [0, 1)."""
    gelu_input = Format("gelu_input", 16, 11, True)
    """Argument of an activation function, in [-16, 16)."""
    gelu_delta = Format("gelu_delta", 18, 18, False)
    """``ReLU - function``, as a table holds it."""
    gelu_output = Format("gelu_output", 18, 14, False)
    """Activation function plus its zero point, before its requantisation to an unsigned activation."""
    bias = Format("bias", 32, 0, True)
    """Bias in units of the accumulator."""
    gelu_zero_point = 2786
    """Added to GELU in format ``gelu_output``: just above -min(GELU) = 0.16997."""
    multiplier_width = 17
    """Unsigned requantiser multipliers: 0 to 65536."""
    shift_width = 6
    """Requantiser right shifts: 0 to ``maximum_shift``."""
    maximum_shift = (1 << shift_width) - 1
    """Largest right shift of any requantiser. A larger shift leaves 0 of every value, so it is clipped to this one."""
    mantissa_fraction = 16
    """Fraction bits of reciprocals, reciprocal square roots and exponentials before rounding."""
    channel_shift_width = 3
    """LayerNorm: extra precision of a channel, 0 to 7 bits, folded into the next weights."""

    @cached_property
    def activation(self) -> Format:
        """Signed activations (and Q, K, V): symmetric scale chosen by calibration."""
        return Format("activation", self.activation_width, 0, True)

    @cached_property
    def unsigned_activation(self) -> Format:
        """Post-GELU values with zero point."""
        return Format("unsigned_activation", self.activation_width, 0, False)

    @cached_property
    def exponential(self) -> Format:
        """Unnormalised probabilities ``2**-(max - score)``; 1.0 saturates to the maximum."""
        return Format("exponential", self.activation_width, self.activation_width, False)

    @cached_property
    def residual(self) -> Format:
        """Residual stream, and the logits of the heads."""
        return Format("residual", self.residual_width, self.residual_width - 7, True)

    @property
    def accumulator_width(self) -> int:
        """Signed accumulator bits: two 17-bit halves up to 12-bit activations."""
        # The requantiser multiplies pieces of 17 bits, so 34 bits cost two multipliers per lane and 42 bits three.
        return 34 if self.activation_width <= 12 else 42
