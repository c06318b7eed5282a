"""ComputeEngine: turns jobs into beats for the array, and everything around them into its proper order."""

from __future__ import annotations

from amaranth.hdl import Assert, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.blocks.register_slice import HalfSlice
from hw.compute.issuer import BeatIssuer
from hw.compute.job_control import JobControl
from hw.compute.loader import RowLoader
from hw.compute.lookup import QueueLookup
from hw.compute.phase import AttentionPhases, LinearPhases
from hw.config import AcceleratorConfig
from hw.interfaces.compute import Wait, beat_layout, job_constants_layout, phase_layout, step_layout
from hw.interfaces.gate import queue_address_layout, queue_entry_layout
from hw.interfaces.jobs import engine_job_layout, softmax_job_layout
from hw.interfaces.memory import bank_hold_layout, lanes_layout
from hw.interfaces.strobe import Strobe


class ComputeEngine(wiring.Component):
    """The unified compute unit's control: linear jobs (plain, swapped, gathering, scattering, wide) and attention jobs.

    Within a job exactly one beat is issued every cycle, except while one of the stall outputs says why not. The next
    job is taken with the last beat of a linear one, whose results are still on their way; one job may be behind like
    that. Attention, and a job without work (a zero among its lengths, no tile consumed), are done before the next.

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    job:
        The next job.
    rows_ready:
        Broadcast rows, from the first one of the job in progress on, that can be read; for jobs that follow rows.
    job_written:
        Pulse from write-back: a step with ``job_last`` has been written.
    done:
        Pulse: every result of the oldest job has been written.
    beat, broadcast_address, broadcast_enable:
        One beat: to the array, and to the scratchpad's broadcast port in the same cycle.
    step:
        What becomes of a step's accumulators, with its last beat.
    constants:
        Requantiser constants; a job with other GELU constants waits until those before it are done.
    load, load_data, hold:
        Scratchpad rows on their way into the banks, see :class:`RowLoader`.
    tile_filled, tile_freed:
        Pulses: a weight tile is complete in the banks; the oldest one has been read for the last time.
    queue_address, queue_entry:
        Token queues' read port, MEMORY_LATENCY.
    softmax, softmax_done:
        A tile of scores to turn into exponentials, sent once all of its scores are in the score buffer; done, in
        order.
    score_written:
        Pulse: write-back has written one word of scores to the score buffer.
    writeback_idle:
        Every step issued so far has been written, from the cycle after the step.
    parameters_level:
        Parameter sets that have come; a linear job waits for all of its own. (Its first weight tile would tell, but
        with swapped roles none is streamed.)
    parameters_release:
        Parameter sets of the oldest job that are no longer needed, at its end.
    busy, stall_weights, stall_activations, stall_softmax, stall_drain:
        A job is in progress; and when it issued no beat in this cycle, exactly one of: waits for a weight tile or
        parameters; for held rows or broadcast rows; for exponentials; for room in the drain (also: start-up, looked-up
        rows, and the end of attention).

    Timing: first beat ``FIRST_BEAT`` cycles after the job was taken if its first tile is there (gathering or
    scattering: ``FIRST_BEAT - 2 + QueueLookup.LATENCY``); tile changes cost nothing; the next job is taken ``NEXT_JOB``
    cycles after the last beat.
    """

    FIRST_BEAT = 6
    NEXT_JOB = 3

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(engine_job_layout(config))),
                "rows_ready": In(16),
                "job_written": In(1),
                "done": Out(1),
                "beat": Out(Strobe(beat_layout(config))),
                "broadcast_address": Out(16),
                "broadcast_enable": Out(1),
                "step": Out(Strobe(step_layout(config))),
                "constants": Out(job_constants_layout(config)),
                "load": Out(stream.Signature(16)),
                "load_data": In(Strobe(lanes_layout(config))),
                "hold": Out(Strobe(bank_hold_layout(config))),
                "tile_filled": In(1),
                "tile_freed": Out(1),
                "queue_address": Out(queue_address_layout(config)),
                "queue_entry": In(queue_entry_layout(config)),
                "softmax": Out(stream.Signature(softmax_job_layout(config))),
                "softmax_done": In(1),
                "score_written": In(1),
                "writeback_idle": In(1),
                "parameters_level": In(16),
                "parameters_release": Out(Strobe(16)),
                "busy": Out(1),
                "stall_weights": Out(1),
                "stall_activations": Out(1),
                "stall_softmax": Out(1),
                "stall_drain": Out(1),
            }
        )

    def elaborate(self, platform):
        """Wire job control, generators, loader, look-up and issuer."""
        m = Module()
        config = self.config
        m.submodules.control = control = JobControl(config)
        job, start = control.job, control.start
        m.submodules.linear = linear = LinearPhases(config)
        m.submodules.attention = attention = AttentionPhases(config)
        m.submodules.loader = loader = RowLoader(config)
        lookup = QueueLookup(config)
        m.submodules.lookup = ResetInserter(~control.running)(lookup)
        m.submodules.issuer = issuer = BeatIssuer(config)
        m.submodules.next_phase = next_phase = HalfSlice(phase_layout(config))
        listed = next_phase.source
        connect(m, next_phase.target, issuer.phases)
        for unit in (linear, attention, loader, lookup, issuer):
            m.d.comb += unit.job.eq(job)
        # The loader is large, and its first words take longer to come than one more cycle.
        holds_rows = Signal()
        m.d.sync += holds_rows.eq(start & (job.attention | job.swapped))
        m.d.comb += [
            linear.start.eq(start & ~job.attention),
            linear.parameter_base.eq(control.parameter_base),
            issuer.start.eq(start),
            issuer.rows_ready.eq(self.rows_ready),
            attention.start.eq(start & job.attention),
            loader.start.eq(holds_rows),
            loader.freed.eq(issuer.ended[Wait.ROWS]),
            lookup.run.eq(control.running & (job.gather | job.scatter)),
            listed.valid.eq(linear.phases.valid | attention.phases.valid),
            listed.payload.eq(Mux(job.attention, attention.phases.payload, linear.phases.payload)),
            linear.phases.ready.eq(listed.ready & ~job.attention),
            attention.phases.ready.eq(listed.ready & job.attention),
            self.broadcast_address.eq(issuer.broadcast_address),
            self.broadcast_enable.eq(issuer.beat.valid),
        ]
        m.d.comb += [
            control.issuing.eq(listed.valid | issuer.phases.valid | issuer.active),
            control.job_written.eq(self.job_written),
            control.writeback_idle.eq(self.writeback_idle),
            control.parameters_level.eq(self.parameters_level),
            self.constants.eq(control.constants),
            self.done.eq(control.done),
            self.busy.eq(control.busy),
        ]
        connect(m, flipped(self.job), control.next)
        connect(m, control.parameters_release, flipped(self.parameters_release))
        connect(m, issuer.beat, flipped(self.beat))
        connect(m, issuer.step, flipped(self.step))
        connect(m, lookup.rows, issuer.rows)
        connect(m, loader.load, flipped(self.load))
        connect(m, loader.hold, flipped(self.hold))
        connect(m, flipped(self.load_data), loader.load_data)
        m.d.comb += [self.queue_address.eq(lookup.queue_address), lookup.queue_entry.eq(self.queue_entry)]
        self._count_tiles(m, issuer, loader)
        self._send_softmax(m, job, start)
        self._explain(m, control, issuer)
        return m

    def _count_tiles(self, m: Module, issuer: BeatIssuer, loader: RowLoader) -> None:
        """What lies complete in the banks and has not been started on."""
        m.d.comb += self.tile_freed.eq(issuer.ended[Wait.WEIGHTS])
        for kind, arrives, name in (
            (Wait.WEIGHTS, self.tile_filled, "weights"),
            (Wait.ROWS, loader.loaded, "rows"),
            (Wait.EXPONENTIALS, self.softmax_done, "exponentials"),
        ):
            count = Signal(range(3), name=f"{name}_available")
            m.d.sync += count.eq(count + arrives - issuer.started[kind])
            m.d.comb += issuer.available[kind].eq(count != 0)
            m.d.sync += Assert(~((count == 2) & arrives) | issuer.started[kind], f"{name}: a third tile in two buffers")

    def _send_softmax(self, m: Module, job, start) -> None:
        """Count the scores as they are written; a complete tile makes a softmax job."""
        scores, complete, buffer = Signal(16), Signal(range(3)), Signal()
        written = self.score_written & job.attention
        tile_written = written & (scores == job.tokens - 1)
        sent = self.softmax.valid & self.softmax.ready
        m.d.comb += [
            self.softmax.valid.eq(complete != 0),
            self.softmax.payload.buffer.eq(buffer),
            *(
                getattr(self.softmax.payload, name).eq(getattr(job, name))
                for name in ("tokens", "output_multiplier", "output_shift")
            ),
        ]
        with m.If(start):
            m.d.sync += [scores.eq(0), buffer.eq(0)]
        with m.Else():
            m.d.sync += [
                complete.eq(complete + tile_written - sent),
                buffer.eq(buffer ^ sent),
                scores.eq(Mux(tile_written, 0, scores + written)),
            ]

    def _explain(self, m: Module, control: JobControl, issuer: BeatIssuer) -> None:
        """Why a cycle of a job has no beat."""
        silent = self.busy & ~self.beat.valid
        wait = issuer.phases.payload.wait
        missing = ~issuer.active & issuer.phases.valid & ~issuer.available.bit_select(wait, 1)
        weights = control.unparametrised | (missing & (wait == Wait.WEIGHTS))
        softmax = missing & (wait == Wait.EXPONENTIALS)
        activations = (missing & (wait == Wait.ROWS)) | issuer.starved
        m.d.comb += [
            self.stall_weights.eq(silent & weights),
            self.stall_softmax.eq(silent & softmax),
            self.stall_activations.eq(silent & activations & ~weights),
            self.stall_drain.eq(silent & ~(weights | softmax | activations)),
        ]
