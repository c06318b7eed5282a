"""Pipelined rounding right shift, for requantisers whose shift is data."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value

ROUNDING_LATENCY = 3
"""Cycles of :func:`registered_round_shift`."""

_FINE_BITS = 3
"""Bits of the shift that the fine step does: both steps then are multiplexers of about eight inputs."""


def registered_round_shift(
    m: Module, value: Value, amount: Value, *, name: str, enables: Sequence[Value] | None = None
) -> Value:
    """``tessera.hw.blocks.arithmetic.round_shift`` in ROUNDING_LATENCY registered steps: coarse shift, fine shift,
    rounding.

    The value gets one more bit below. There the last bit that is shifted out arrives, whichever step shifts it out.

    Parameters
    ----------
    value:
        Signed or unsigned value; the result has one bit more.
    amount:
        Unsigned shift, which comes with the value.
    enables:
        Enable of each step, see :func:`tessera.hw.blocks.pipeline.occupancy`.
    """
    is_signed = value.shape().signed

    def same(bits: Value) -> Value:
        return bits.as_signed() if is_signed else bits

    doubled = same(Cat(Const(0, 1), value))
    coarse, fine = Signal(doubled.shape(), name=f"{name}_coarse"), Signal(doubled.shape(), name=f"{name}_fine")
    fine_amount = Signal(_FINE_BITS, name=f"{name}_amount")
    rounded = Signal(value.shape().width + 1, name=name)
    result = same(rounded)
    steps = (
        [
            coarse.eq(doubled >> Cat(Const(0, _FINE_BITS), amount[_FINE_BITS:])),
            fine_amount.eq(amount[:_FINE_BITS]),
        ],
        [fine.eq(coarse >> fine_amount)],
        [rounded.eq(same(fine[1:]) + fine[0])],
    )
    for step, enable in zip(steps, enables or [Const(1)] * ROUNDING_LATENCY, strict=True):
        with m.If(enable):
            m.d.sync += step
    return result
