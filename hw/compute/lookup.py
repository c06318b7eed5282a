"""QueueLookup: turns the positions of an expert's token queue into row addresses, ahead of the steps that use them."""

from __future__ import annotations

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.blocks.register_slice import RegisterSlice
from hw.config import AcceleratorConfig
from hw.interfaces.compute import looked_up_layout
from hw.interfaces.gate import queue_address_layout, queue_entry_layout
from hw.interfaces.jobs import engine_job_layout
from hw.interfaces.memory import MEMORY_LATENCY


class QueueLookup(wiring.Component):
    """Read positions 0 to ``steps - 1`` of the job's queue over and over (once a tile), as far ahead as there is room.

    One multiplier makes ``token * stride``: of the broadcast rows when gathering, of the destination rows when
    scattering; a job does one of the two.

    Members
    -------
    run:
        1 while a job with ``gather`` or ``scatter`` is in progress; hold it in reset between jobs to discard what is
        left over.
    job:
        The job, stable while ``run``.
    queue_address, queue_entry:
        Read port of the token queues, MEMORY_LATENCY.
    rows:
        The rows, in order.

    Timing: one entry a cycle; the first one ``LATENCY`` cycles after ``run`` rises.
    """

    DEPTH = 16
    LATENCY = MEMORY_LATENCY + 5

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "run": In(1),
                "job": In(engine_job_layout(config)),
                "queue_address": Out(queue_address_layout(config)),
                "queue_entry": In(queue_entry_layout(config)),
                "rows": Out(stream.Signature(looked_up_layout(config))),
            }
        )

    def elaborate(self, platform):
        """Position counter, memory, multiplier, buffer; credits keep the buffer from overflowing."""
        m = Module()
        job = self.job
        m.submodules.buffer = buffer = SyncFIFOBuffered(width=looked_up_layout(self.config).size, depth=self.DEPTH)
        m.submodules.following = following = RegisterSlice(looked_up_layout(self.config))
        connect(m, following.target, flipped(self.rows))
        position, credits = Signal(16), Signal(range(self.DEPTH + 1), init=self.DEPTH)
        request, taken = Signal(), Signal()
        m.d.comb += [
            request.eq(self.run & (credits != 0)),
            taken.eq(buffer.r_rdy & following.source.ready),
            self.queue_address.position.eq(position),
            self.queue_address.expert.eq(job.expert),
        ]
        m.d.sync += credits.eq(credits - request + taken)
        with m.If(request):
            m.d.sync += position.eq(Mux(position == job.steps - 1, 0, position + 1))
        arriving = Signal(MEMORY_LATENCY + 2)
        m.d.sync += arriving.eq((arriving << 1) | request)
        product, row = Signal(looked_up_layout(self.config)), Signal(looked_up_layout(self.config))
        m.d.sync += [
            product.offset.eq(self.queue_entry.token * Mux(job.gather, job.broadcast_stride, job.destination_stride)),
            product.weight.eq(self.queue_entry.weight),
            row.offset.eq(product.offset + Mux(job.gather, job.broadcast_base, 0)),
            row.weight.eq(product.weight),
            Assert(~(self.run & job.gather & job.scatter), "a job cannot both gather and scatter"),
        ]
        m.d.comb += [
            buffer.w_en.eq(arriving[-1]),
            buffer.w_data.eq(row),
            following.source.valid.eq(buffer.r_rdy),
            following.source.payload.eq(buffer.r_data),
            buffer.r_en.eq(following.source.ready),
        ]
        return m
