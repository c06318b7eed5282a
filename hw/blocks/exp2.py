"""Exp2: powers of two of negative fixed-point octaves, as softmax and gate need them."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import round_shift
from tessera.hw.blocks.piecewise import Piecewise
from tessera.hw.blocks.pipeline import delay
from tessera.hw.formats import Numerics
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.tables import exp2_table

_FRACTION = Numerics.score.fraction
_MANTISSA = Numerics.mantissa_fraction


class Exp2(wiring.Component):
    """``2**-d`` with ``width`` fraction bits: a table for the fraction of d, a shift for its whole octaves.

    ::

        d ─┬─ fraction ─► Piecewise 2**-f (17 bits) ─► round_shift ─► register ─► clip ─► register ──► result
           └─ octaves ──► delay ─────────────────────────┘

    Parameters
    ----------
    numerics:
        Number formats; gives the table.
    width:
        Bits of the result, 8 to 16: all are fraction bits, so 1.0 becomes the maximum ``2**width - 1``.

    Members
    -------
    argument: In(Strobe(unsigned(19)))
        d in octaves with 10 fraction bits (difference of two scores).
    result: Out(Strobe(unsigned(width)))
        ``min(2**width - 1, round_shift(2**-fraction(d) * 2**16, 16 - width + octaves(d)))``.

    Timing: latency ``LATENCY``, initiation interval 1, no backpressure.

    Raises
    ------
    ValueError
        For a width outside 8 to 16.
    """

    LATENCY = Piecewise.LATENCY + 2

    def __init__(self, numerics: Numerics, width: int) -> None:
        if not 8 <= width <= _MANTISSA:
            raise ValueError(f"width is {width}; choose 8 to {_MANTISSA} fraction bits")
        self._table = exp2_table()
        self._width = width
        super().__init__({"argument": In(Strobe(Numerics.score.width + 1)), "result": Out(Strobe(width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.table = table = Piecewise(self._table)
        d = self.argument.payload
        bits = self._table.fraction_bits
        m.d.comb += [table.fraction.eq(d[:bits]), table.index.eq(d[bits:_FRACTION])]

        # Values more than 16 octaves below the last kept bit round to 0, so that larger shifts need no more bits.
        octaves, amount = d[_FRACTION:], Signal(5)
        base_shift = _MANTISSA - self._width
        most = (1 << len(amount)) - 1
        m.d.comb += amount.eq(Mux(octaves > most - base_shift, most, octaves + base_shift))

        # Two stages: shift and round, then clip.
        shifted = Signal(_MANTISSA + 2)
        limit = Const((1 << self._width) - 1)
        m.d.sync += [
            shifted.eq(round_shift(table.value, delay(m, amount, Piecewise.LATENCY, name="amount"))),
            self.result.payload.eq(Mux(shifted > limit, limit, shifted)),
        ]
        m.d.comb += self.result.valid.eq(delay(m, self.argument.valid, self.LATENCY, name="valid"))
        return m
