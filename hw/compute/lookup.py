"""QueueLookup: turns the entries of a token queue or list into row addresses, ahead of the steps that use them."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.pipeline import delay
from tessera.hw.blocks.queue import Queue
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import looked_up_layout
from tessera.hw.interfaces.gate import queue_read
from tessera.hw.interfaces.jobs import engine_job_layout
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.hw.interfaces.strobe import Work
from tessera.hw.isa import ADDRESS_WIDTH, COUNT_WIDTH


class QueueLookup(wiring.Component):
    """Read ``steps`` entries from the job's ``list`` on once per tile, as far ahead as there is room.

    One multiplier makes ``row * stride``: of the broadcast rows when gathering, of the destination rows when
    scattering. A job does one of the two.

    Members
    -------
    run: In(1)
        1 while a job with ``gather`` or ``scatter`` is in progress. The parent holds the unit in reset between jobs.
    work: In(Work(engine_job))
        The job, stable while ``run``.
    queue_read: Out(TableRead)
        Read port of the token queues.
    rows: Out(stream(looked_up))
        The rows, in order.

    Timing: one entry per cycle; the first one comes ``LATENCY`` cycles after ``run`` rises.
    """

    DEPTH = 16
    """Rows that are looked up ahead: more than the cycles from a request to its row."""

    LATENCY = MEMORY_LATENCY + 4

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
        """Position counter, memory, multiplier, buffer; credits keep the buffer from overflowing."""
        m = Module()
        job, entry, layout = self.work.job, self.queue_read.data, looked_up_layout(self._config)
        m.submodules.buffer = buffer = Queue(layout, self.DEPTH, buffered=True)
        connect(m, buffer.target, flipped(self.rows))
        position, credits = Signal(COUNT_WIDTH), Signal(range(self.DEPTH + 1), init=self.DEPTH)
        request, taken = Signal(), Signal()
        m.d.comb += [
            request.eq(self.run & (credits != 0)),
            taken.eq(buffer.target.valid & buffer.target.ready),
            Value.cast(self.queue_read.address).eq(job.list + position),
        ]
        # A request takes a place of the buffer at once: entries cannot be held up on their way.
        m.d.sync += credits.eq(credits - request + taken)
        with m.If(request):
            m.d.sync += position.eq(Mux(position == job.steps - 1, 0, position + 1))
        arriving = Signal(MEMORY_LATENCY + 2)
        m.d.sync += arriving.eq((arriving << 1) | request)
        # A token has gate weight behind it, which is a part of longer rows.
        row = Mux(job.routed, entry.token, Value.cast(entry)[:ADDRESS_WIDTH])
        # Two stages: the multiplication, then the addition of the base.
        product, offset = Signal(ADDRESS_WIDTH), Signal(ADDRESS_WIDTH)
        m.d.sync += [
            product.eq(row * Mux(job.gather, job.broadcast_stride, job.destination_stride)),
            offset.eq(product + Mux(job.gather, job.broadcast_base, 0)),
        ]
        m.d.comb += [
            buffer.source.valid.eq(arriving[-1]),
            *assign(
                buffer.source.payload,
                offset=offset,
                weight=delay(m, entry.weight, 2, name="weight"),
                padded=0,
                new_row=0,
            ),
        ]
        check(m, self.run, ~(job.gather & job.scatter), "a job cannot both gather and scatter")
        return m
