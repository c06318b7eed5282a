"""GroupAssembler: weights groups of R values by the gate and puts P together."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.arithmetic import round_shift
from tessera.hw.blocks.pipeline import occupancy
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import group_layout, values_layout
from tessera.hw.interfaces.strobe import Strobe


class GroupAssembler(wiring.Component):
    """P / R groups of R values to one group of P; for experts' outputs first ``round_shift(value * weight, 16)``.

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    group: In(Strobe(group))
        A group; those of a step come in order.
    weighted: In(1), gate_weight: In(gate_weight)
        Whether this group is multiplied, and the weight: below 1, all bits fraction bits.
    values: Out(values)
        The last P / R groups, the oldest in the low lanes, LATENCY cycles after the last of them.

    Timing: LATENCY cycles, initiation interval 1.
    """

    LATENCY = 3

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._shape = signed(config.numerics.residual_width)
        super().__init__(
            {
                "group": In(Strobe(group_layout(config))),
                "weighted": In(1),
                "gate_weight": In(config.numerics.gate_weight.width),
                "values": Out(values_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moves = occupancy(m, self.group.valid, self.LATENCY - 1)
        weighted = Signal()
        with m.If(moves[0]):
            m.d.sync += weighted.eq(self.weighted)
        group = []
        for lane, value in enumerate(self.group.payload.value):
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
        # Groups are shifted in from above, so that lanes need no multiplexer.
        bits = Cat(*group)
        with m.If(moves[2]):
            m.d.sync += self.values.as_value().eq(Cat(self.values.as_value(), bits)[len(bits) :])
        return m
