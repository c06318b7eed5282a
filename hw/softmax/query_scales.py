"""QueryScales: from sums of exponentials to what requantises a query's attention output."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.blocks.arithmetic import round_shift
from hw.blocks.reciprocal import Reciprocal
from hw.config import AcceleratorConfig
from hw.formats import Numerics
from hw.interfaces.compute import query_scale_layout


def sum_width(config: AcceleratorConfig) -> int:
    """Bits of the sum of ``max_tokens`` exponentials."""
    return config.numerics.activation_width + exact_log2(config.max_tokens)


class QueryScales(wiring.Component):
    """Multiplier and shift of each held query: reciprocal of its sum times the output multiplier.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    start: In(1)
        Pulse: take the sums of all P queries, one a cycle. They and the next members stay stable until ``done``.
    sums: In(P x unsigned)
        Sums of exponentials, at least 1.
    buffer: In(1)
        Attention buffer whose scales are replaced.
    output_multiplier: In(17), output_shift: In(6)
        Folded in: multiplier = round_shift(mantissa * output_multiplier, 16), shift = min(63, output_shift + exponent).
    scales: Out(2P x query_scale)
        Index ``buffer * P + element``; kept until replaced.
    done: Out(1)
        Pulse: all P scales are there.

    Timing: done ``P + latency`` cycles after start (``latency`` is an attribute). Resources: two multipliers.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._reciprocal = Reciprocal(sum_width(config))
        self.latency = self._reciprocal.latency + 3
        super().__init__(
            {
                "start": In(1),
                "sums": In(data.ArrayLayout(sum_width(config), config.elements)),
                "buffer": In(1),
                "output_multiplier": In(17),
                "output_shift": In(6),
                "scales": Out(data.ArrayLayout(query_scale_layout(config), 2 * config.elements)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.reciprocal = reciprocal = self._reciprocal
        inverse = reciprocal.result
        numerics = config.numerics

        element, running = Signal(range(config.elements)), Signal()
        last = element == config.elements - 1
        with m.If(self.start):
            m.d.sync += [element.eq(0), running.eq(1)]
        with m.Elif(running):
            m.d.sync += [element.eq(element + 1), running.eq(~last)]
        m.d.sync += [
            reciprocal.argument.valid.eq(running),
            reciprocal.argument.payload.eq(self.sums[element]),
        ]

        product = Signal(numerics.multiplier_width + numerics.mantissa_fraction + 1)
        shift, valid = Signal(7), Signal()
        m.d.sync += [
            valid.eq(inverse.valid),
            product.eq(inverse.payload.mantissa * self.output_multiplier),
            shift.eq(self.output_shift + inverse.payload.exponent),
        ]
        stored = Signal(query_scale_layout(config))
        written = Signal.like(element)
        m.d.comb += [
            stored.multiplier.eq(round_shift(product, numerics.mantissa_fraction)),
            stored.shift.eq(Mux(shift > Numerics.maximum_shift, Numerics.maximum_shift, shift)),
        ]
        with m.If(valid):
            m.d.sync += [self.scales[Cat(written, self.buffer)].eq(stored), written.eq(written + 1)]
        m.d.sync += self.done.eq(valid & (written == config.elements - 1))
        return m
