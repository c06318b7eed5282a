"""GroupAssembler: weights groups of R values by the gate and puts P together."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.blocks.arithmetic import round_shift
from hw.blocks.pipeline import occupancy
from hw.config import AcceleratorConfig


class GroupAssembler(wiring.Component):
    """P / R groups of R values to one group of P; for experts' outputs first ``round_shift(value * weight, 16)``.

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    valid: In(1), value: In(ArrayLayout(signed(residual_width), R))
        A group; the groups of a step in order.
    weighted: In(1), gate_weight: In(16)
        Multiply this group by a weight below 1, 16 fraction bits.
    values: Out(ArrayLayout(signed(residual_width), P))
        The last P / R groups, the oldest in the low lanes, LATENCY after the last of them.

    Timing: LATENCY cycles, initiation interval 1.
    """

    LATENCY = 3

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._shape = signed(config.numerics.residual_width)
        super().__init__(
            {
                "valid": In(1),
                "value": In(data.ArrayLayout(self._shape, config.requantise_lanes)),
                "weighted": In(1),
                "gate_weight": In(config.numerics.gate_weight.width),
                "values": Out(data.ArrayLayout(self._shape, config.elements)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        moves = occupancy(m, self.valid, self.LATENCY - 1)
        weighted = Signal()
        with m.If(moves[0]):
            m.d.sync += weighted.eq(self.weighted)
        group = []
        for lane, value in enumerate(self.value):
            product = Signal((value * self.gate_weight).shape(), name=f"product_{lane}")
            passed, result = Signal(self._shape, name=f"passed_{lane}"), Signal(self._shape, name=f"result_{lane}")
            # A weight is below 1: the weighted value fits the format of the value.
            with m.If(moves[0]):
                m.d.sync += [product.eq(value * self.gate_weight), passed.eq(value)]
            with m.If(moves[1]):
                m.d.sync += result.eq(
                    Mux(weighted, round_shift(product, self._config.numerics.gate_weight.fraction), passed)
                )
            group.append(result)
        bits = Cat(*group)
        with m.If(moves[2]):
            m.d.sync += self.values.as_value().eq(Cat(self.values.as_value(), bits)[len(bits) :])
        return m
