"""Factors: the residual values that a step's outputs are multiplied by."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.arithmetic import pick
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.queue import Queue
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import factors_layout, residual_request_layout
from tessera.hw.interfaces.memory import RESIDUAL_LATENCY, residual_read
from tessera.hw.interfaces.strobe import Strobe


class Factors(wiring.Component):
    """Reads the word of a step again for each of its groups, which saves a register for a column.

    Parameters
    ----------
    config:
        Sizes.
    depth:
        Most steps that have come and whose last group has not.

    Members
    -------
    step: In(Strobe(residual_request))
        Place of a step whose outputs are multiplied.
    group: In(Strobe(1))
        The next R outputs of the oldest step; 1 with its last group.
    read: Out(MemoryRead)
        Read port of the residual memory, in the cycle of the group.
    values: Out(factors)
        The group's residual values, LATENCY cycles after it.

    Timing: LATENCY cycles, initiation interval 1.
    """

    LATENCY = RESIDUAL_LATENCY + 1

    def __init__(self, config: AcceleratorConfig, depth: int) -> None:
        self._config, self._depth = config, depth
        super().__init__(
            {
                "step": In(Strobe(residual_request_layout(config))),
                "group": In(Strobe(1)),
                "read": Out(residual_read(config)),
                "values": Out(factors_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.places = places = Queue(residual_request_layout(config), self._depth)
        column_bits, group_bits = exact_log2(config.columns), exact_log2(config.elements // config.requantise_lanes)
        group, oldest = Signal(group_bits), places.target.payload
        with m.If(self.group.valid):
            m.d.sync += group.eq(group + 1)
        m.d.comb += [
            *same_fields(places.source.payload, self.step.payload),
            places.source.valid.eq(self.step.valid),
            places.target.ready.eq(self.group.valid & self.group.payload),
            self.read.enable.eq(self.group.valid),
            self.read.address.eq(oldest.address),
        ]
        index = delay(m, Cat(group, oldest.column[:column_bits]), RESIDUAL_LATENCY, name="index")
        word, size = self.read.data.as_value(), len(self.values.as_value())
        groups = [word[first : first + size] for first in range(0, len(word), size)]
        m.d.sync += self.values.as_value().eq(pick(groups, index))
        check(m, self.step.valid, places.source.ready, "more steps than the queue of places holds")
        check(m, self.group.valid, places.target.valid, "a group without a step")
        return m
