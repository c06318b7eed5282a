"""RowFinder: addresses that do not follow from the ones before, found ahead of the beats that use them."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.compute.lookup import QueueLookup
from tessera.hw.compute.taps import TapWalk
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import looked_up_layout
from tessera.hw.interfaces.gate import queue_read
from tessera.hw.interfaces.jobs import engine_job_layout
from tessera.hw.interfaces.strobe import Work


class RowFinder(wiring.Component):
    """Rows of an expert's tokens, or taps of a convolution.

    Members
    -------
    run: In(1)
        1 while a job that gathers, scatters or convolves is in progress. The parent holds the unit in reset between
        jobs, to discard what is left over.
    work: In(Work(engine_job))
        The job, stable while ``run``.
    queue_read: Out(TableRead)
        Read port of the token queues.
    rows: Out(stream(looked_up))
        A row for each step of the job, or a tap for each ``tap_words`` of a step, in order.

    Timing: the first one comes ``QUEUE_LATENCY`` or ``TAP_LATENCY`` cycles after ``run`` rises.
    """

    QUEUE_LATENCY = QueueLookup.LATENCY + RegisterSlice.LATENCY
    TAP_LATENCY = TapWalk.LATENCY + RegisterSlice.LATENCY

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "run": In(1),
                "work": In(Work(engine_job_layout(config))),
                "queue_read": Out(queue_read(config)),
                "rows": Out(stream.Signature(looked_up_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Two sources, of which a job uses one."""
        m = Module()
        m.submodules.lookup = lookup = QueueLookup(self._config)
        m.submodules.taps = taps = TapWalk(self._config)
        m.submodules.found = found = RegisterSlice(looked_up_layout(self._config))
        convolution = self.work.job.convolution
        connect(m, flipped(self.work), lookup.work, taps.work)
        connect(m, lookup.queue_read, flipped(self.queue_read))
        connect(m, found.target, flipped(self.rows))
        m.d.comb += [
            lookup.run.eq(self.run & ~convolution),
            found.source.valid.eq(lookup.rows.valid | taps.taps.valid),
            found.source.payload.eq(Mux(convolution, taps.taps.payload, lookup.rows.payload)),
            Cat(lookup.rows.ready, taps.taps.ready).eq(found.source.ready.replicate(2)),
        ]
        return m
