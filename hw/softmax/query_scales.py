"""QueryScales: from sums of exponentials to what requantises a query's attention output."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.arithmetic import round_shift
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.reciprocal import Reciprocal
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import query_scale_layout
from tessera.hw.interfaces.jobs import softmax_job_layout
from tessera.hw.interfaces.strobe import Work


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
    work: In(Work(softmax_job))
        The scales of attention buffer ``buffer`` are replaced: multiplier = round_shift(mantissa * output_multiplier,
        16), shift = min(63, output_shift + exponent). The job is stable until ``done``.
    sums: In(P x unsigned)
        Sums of exponentials, at least 1, stable from the start until ``done``.
    scales: Out(2P x query_scale)
        Index ``buffer * P + element``; kept until replaced.
    done: Out(1)
        Pulse: all P scales are there.

    Timing: done ``P + latency`` cycles after the start (``latency`` is an attribute). One sum is taken per cycle.
    Resources: two multipliers.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._reciprocal = Reciprocal(sum_width(config))
        self.latency = self._reciprocal.latency + 3
        super().__init__(
            {
                "work": In(Work(softmax_job_layout(config))),
                "sums": In(data.ArrayLayout(sum_width(config), config.elements)),
                "scales": Out(data.ArrayLayout(query_scale_layout(config), 2 * config.elements)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.reciprocal = reciprocal = self._reciprocal
        inverse, job = reciprocal.result, self.work.job
        numerics = config.numerics

        # First stage: the sums go one by one through the only reciprocal.
        element, running = Signal(range(config.elements)), Signal()
        last = element == config.elements - 1
        with m.If(self.work.start):
            m.d.sync += [element.eq(0), running.eq(1)]
        with m.Elif(running):
            m.d.sync += [element.eq(element + 1), running.eq(~last)]
        m.d.sync += [
            reciprocal.argument.valid.eq(running),
            reciprocal.argument.payload.eq(self.sums[element]),
        ]

        # Second stage: the product has a cycle for itself, because its multiplier is wide.
        product = Signal(numerics.multiplier_width + numerics.mantissa_fraction + 1)
        shift = Signal(numerics.shift_width + 1)
        valid = delay(m, inverse.valid, 1, name="valid")
        m.d.sync += [
            product.eq(inverse.payload.mantissa * job.output_multiplier),
            shift.eq(job.output_shift + inverse.payload.exponent),
        ]
        stored = Signal(query_scale_layout(config))
        written = Signal.like(element)
        m.d.comb += assign(
            stored,
            multiplier=round_shift(product, numerics.mantissa_fraction),
            shift=Mux(shift > numerics.maximum_shift, numerics.maximum_shift, shift),
        )
        # Third stage: write-back reads all scales at once, so they are registers and not a memory.
        with m.If(valid):
            m.d.sync += [self.scales[Cat(written, job.buffer)].eq(stored), written.eq(written + 1)]
        m.d.sync += self.done.eq(valid & (written == config.elements - 1))
        return m
