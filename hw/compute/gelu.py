"""Gelu: one pipelined lane of the Gaussian error linear unit and its requantisation."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import saturate
from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.blocks.piecewise import Piecewise
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.rounding import ROUNDING_LATENCY, registered_round_shift
from tessera.hw.config import AcceleratorConfig
from tessera.hw.tables import gelu_delta_table


class Gelu(wiring.Component):
    """GELU as ReLU minus a tabulated even difference (Edge-MoE, section on GELU), then requantised with a zero point.

    ::

        z ─► |z|, ReLU ─► difference(|z|) ─► ReLU - difference + zero point ─► x multiplier ─► round shift ─► clip

    Parameters
    ----------
    config:
        Number formats.

    Members
    -------
    argument: In(signed(gelu_input))
        Format ``gelu_input``, 11 fraction bits.
    multiplier: In(multiplier_width), shift: In(shift_width)
        Constants that requantise ``gelu_output`` (14 fraction bits, with zero point) to an activation. They are stable
        while values are in flight.
    value: Out(unsigned(activation_width))
        Format ``unsigned_activation``, LATENCY cycles later.

    Timing: LATENCY cycles, initiation interval 1, no backpressure.
    Resources: one :class:`Piecewise` table of 177 segments, two multipliers.
    Tested: every argument.
    """

    LATENCY = 3 + Multiplier.LATENCY + Piecewise.LATENCY + ROUNDING_LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        numerics = config.numerics
        super().__init__(
            {
                "argument": In(signed(numerics.gelu_input.width)),
                "multiplier": In(numerics.multiplier_width),
                "shift": In(numerics.shift_width),
                "value": Out(numerics.unsigned_activation.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        numerics = self._config.numerics
        table = gelu_delta_table()
        m.submodules.difference = difference = Piecewise(table)
        width = numerics.gelu_input.width
        magnitude, relu = Signal(width), Signal(width - 1)
        # First stage: the table holds only the even difference, so that it needs the magnitude alone.
        m.d.sync += [
            magnitude.eq(Mux(self.argument < 0, -self.argument, self.argument)),
            relu.eq(Mux(self.argument < 0, 0, self.argument)),
        ]
        # Segments beyond the table read as 0, so that the last index may stand for all larger ones.
        segment = magnitude[table.fraction_bits :]
        beyond = segment[len(difference.index) :].any()
        m.d.comb += [
            difference.index.eq(Mux(beyond, ~0, segment)),
            difference.fraction.eq(magnitude),
        ]
        # ReLU and zero point join on the way, so that one sum is left: a - (v >> n) - r = a + ~(v >> n) + ~r.
        raised = Signal(signed(numerics.gelu_output.width + 3))
        m.d.sync += raised.eq(
            (relu << (numerics.gelu_output.fraction - numerics.gelu_input.fraction)) + numerics.gelu_zero_point
        )
        raised = delay(m, raised, Piecewise.LATENCY - 1, name="raised")
        narrowing = numerics.gelu_delta.fraction - numerics.gelu_output.fraction
        subtracted = ~Cat(difference.value[narrowing - 1 :], Const(0, 1)).as_signed()
        total = (Cat(1, raised).as_signed() + subtracted)[1:].as_signed()
        output = saturate(total, numerics.gelu_output)
        m.submodules.multiplier = multiplier = Multiplier(numerics.multiplier_width + 1, 1)
        # The value is unsigned and as wide as the signed factors. Half its range is subtracted before the product is
        # made, and the product of that half is added behind it.
        half = len(output) - 1
        m.d.comb += [
            multiplier.broadcast.eq(self.multiplier),
            multiplier.stationary[0].eq(Cat(output[:half], ~output[half]).as_signed()),
        ]
        product = Signal(len(output) + numerics.multiplier_width)
        m.d.sync += product.eq(multiplier.product[0] + (self.multiplier << half))
        rounded = registered_round_shift(m, product, self.shift, name="rounded")
        m.d.sync += self.value.eq(saturate(rounded, numerics.unsigned_activation))
        return m
