"""ComputeEngine: turns jobs into beats for the array, and everything around them into its proper order."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.register_slice import HalfSlice
from tessera.hw.compute.finder import RowFinder
from tessera.hw.compute.issuer import BeatIssuer
from tessera.hw.compute.job_control import JobControl
from tessera.hw.compute.loader import RowLoader
from tessera.hw.compute.phase import AttentionPhases, LinearPhases
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import (
    ParameterAccount,
    Stalls,
    StepProgress,
    Wait,
    beat_layout,
    job_constants_layout,
    phase_layout,
    step_layout,
)
from tessera.hw.interfaces.gate import queue_read
from tessera.hw.interfaces.jobs import engine_job_layout, softmax_job_layout
from tessera.hw.interfaces.memory import bank_hold_layout, lanes_layout
from tessera.hw.interfaces.stream import WeightTiles
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import ADDRESS_WIDTH, COUNT_WIDTH


class ComputeEngine(wiring.Component):
    """The unified compute unit's control: linear jobs (plain, swapped, gathering, scattering, wide, convolution)
    and attention jobs.

    Within a job one beat is issued in every cycle, except while one of the stall outputs says why not. The next job is
    taken with the last beat of a linear one, whose results are still on their way. One job may be behind like that.
    Attention, and a job without work (a zero among its lengths, no tile consumed), are done before the next.

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    job: In(stream(engine_job))
        The next job.
    rows_ready: In(COUNT_WIDTH)
        Broadcast rows, from the first one of the job in progress on, that can be read; for jobs that follow rows.
    done: Out(1)
        Pulse: every result of the oldest job has been written.
    beat: Out(Strobe(beat)), broadcast: Out(Strobe(ADDRESS_WIDTH))
        One beat: to the array, and in the same cycle to the scratchpad's broadcast port.
    step: Out(Strobe(step))
        What becomes of a step's accumulators, with its last beat.
    progress: In(StepProgress)
        What write-back has written.
    constants: Out(job_constants)
        Requantiser constants; padding, which stays until a job's last word has come. A job with other GELU constants
        waits until those before it are done.
    load: Out(stream(ADDRESS_WIDTH)), load_data: In(Strobe(lanes)), hold: Out(Strobe(bank_hold))
        Scratchpad rows on their way into the banks, see :class:`RowLoader`.
    tiles: Out(WeightTiles)
        Weight tiles in the banks: complete ones, and those that have been read for the last time.
    queue_read: Out(TableRead)
        Read port of the token queues.
    softmax: Out(stream(softmax_job)), softmax_done: In(1)
        A tile of scores to turn into exponentials, sent once all of its scores are in the score buffer. Pulses when
        one is done, in order.
    parameters: Out(ParameterAccount)
        Parameter sets that have come, and those given back at a job's end. A linear job waits for all of its own. (Its
        first weight tile would tell, but with swapped roles none is streamed.)
    busy: Out(1)
        A job is in progress.
    stall: Out(Stalls)
        Why a cycle of a job has no beat.

    Timing: the first beat comes ``FIRST_BEAT`` cycles after the job was taken if its first tile is there (gathering or
    scattering: ``FIRST_BEAT - 2 + RowFinder.QUEUE_LATENCY``; convolution: as much with ``TAP_LATENCY``). Tile changes
    cost nothing. The next job is taken ``NEXT_JOB`` cycles after the last beat.
    """

    FIRST_BEAT = 6
    NEXT_JOB = 3

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(engine_job_layout(config))),
                "rows_ready": In(COUNT_WIDTH),
                "done": Out(1),
                "beat": Out(Strobe(beat_layout(config))),
                "broadcast": Out(Strobe(ADDRESS_WIDTH)),
                "step": Out(Strobe(step_layout(config))),
                "progress": In(StepProgress()),
                "constants": Out(job_constants_layout(config)),
                "load": Out(stream.Signature(ADDRESS_WIDTH)),
                "load_data": In(Strobe(lanes_layout(config))),
                "hold": Out(Strobe(bank_hold_layout(config))),
                "tiles": Out(WeightTiles()),
                "queue_read": Out(queue_read(config)),
                "softmax": Out(stream.Signature(softmax_job_layout(config))),
                "softmax_done": In(1),
                "parameters": Out(ParameterAccount()),
                "busy": Out(1),
                "stall": Out(Stalls()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire job control, generators, loader, look-up and issuer."""
        m = Module()
        config = self._config
        m.submodules.control = control = JobControl(config)
        job, start = control.work.job, control.work.start
        m.submodules.linear = linear = LinearPhases(config)
        m.submodules.attention = attention = AttentionPhases(config)
        m.submodules.loader = loader = RowLoader(config)
        finder = RowFinder(config)
        m.submodules.finder = ResetInserter(~control.running)(finder)
        m.submodules.issuer = issuer = BeatIssuer(config)
        m.submodules.next_phase = next_phase = HalfSlice(phase_layout(config))
        listed = next_phase.source
        connect(m, next_phase.target, issuer.phases)
        m.d.comb += [
            linear.parameter_base.eq(control.parameter_base),
            issuer.rows_ready.eq(self.rows_ready),
            loader.freed.eq(issuer.ended[Wait.ROWS]),
            finder.run.eq(control.running & (job.gather | job.scatter | job.convolution)),
            listed.valid.eq(linear.phases.valid | attention.phases.valid),
            listed.payload.eq(Mux(job.attention, attention.phases.payload, linear.phases.payload)),
            linear.phases.ready.eq(listed.ready & ~job.attention),
            attention.phases.ready.eq(listed.ready & job.attention),
            control.issuing.eq(listed.valid | issuer.phases.valid | issuer.active),
            self.constants.eq(control.constants),
            self.done.eq(control.done),
            self.busy.eq(control.busy),
        ]
        connect(m, flipped(self.job), control.next)
        connect(m, control.work, linear.work, attention.work, loader.work, finder.work, issuer.work)
        connect(m, flipped(self.progress), control.progress)
        connect(m, control.parameters, flipped(self.parameters))
        connect(m, issuer.beat, flipped(self.beat))
        connect(m, issuer.broadcast, flipped(self.broadcast))
        connect(m, issuer.step, flipped(self.step))
        connect(m, finder.queue_read, flipped(self.queue_read))
        connect(m, finder.rows, issuer.rows)
        connect(m, loader.load, flipped(self.load))
        connect(m, loader.hold, flipped(self.hold))
        connect(m, flipped(self.load_data), loader.load_data)
        self._count_tiles(m, issuer, loader)
        self._send_softmax(m, job, start)
        self._explain(m, control, issuer)
        return m

    def _count_tiles(self, m: Module, issuer: BeatIssuer, loader: RowLoader) -> None:
        """Count what is complete in the banks and no phase has begun with: at most two tiles of each kind."""
        m.d.comb += self.tiles.freed.eq(issuer.ended[Wait.WEIGHTS])
        for kind, arrives, name in (
            (Wait.WEIGHTS, self.tiles.filled, "weights"),
            (Wait.ROWS, loader.loaded, "rows"),
            (Wait.EXPONENTIALS, self.softmax_done, "exponentials"),
        ):
            count = Signal(range(3), name=f"{name}_available")
            m.d.sync += count.eq(count + arrives - issuer.started[kind])
            m.d.comb += issuer.available[kind].eq(count != 0)
            check(m, (count == 2) & arrives, issuer.started[kind], f"{name}: a third tile in two buffers")

    def _send_softmax(self, m: Module, job: data.View, start: Value) -> None:
        """Count the scores as they are written; a complete tile makes a softmax job."""
        scores, complete, buffer = Signal(COUNT_WIDTH), Signal(range(3)), Signal()
        written = self.progress.score_written & job.attention
        tile_written = written & (scores == job.keys - 1)
        sent = self.softmax.valid & self.softmax.ready
        m.d.comb += [
            self.softmax.valid.eq(complete != 0),
            *assign(self.softmax.payload, job, buffer=buffer),
        ]
        # Buffers alternate from tile to tile, from 0 at a job's start, as in the list of phases.
        with m.If(start):
            m.d.sync += [scores.eq(0), buffer.eq(0)]
        with m.Else():
            m.d.sync += [
                complete.eq(complete + tile_written - sent),
                buffer.eq(buffer ^ sent),
                scores.eq(Mux(tile_written, 0, scores + written)),
            ]

    def _explain(self, m: Module, control: JobControl, issuer: BeatIssuer) -> None:
        """Say why a cycle of a job has no beat; a missing tile comes before a row that is not written."""
        silent = self.busy & ~self.beat.valid
        wait = issuer.phases.payload.wait
        missing = ~issuer.active & issuer.phases.valid & ~issuer.available.bit_select(wait, 1)
        weights = control.unparametrised | (missing & (wait == Wait.WEIGHTS))
        softmax = missing & (wait == Wait.EXPONENTIALS)
        activations = (missing & (wait == Wait.ROWS)) | issuer.starved
        m.d.comb += [
            self.stall.weights.eq(silent & weights),
            self.stall.softmax.eq(silent & softmax),
            self.stall.activations.eq(silent & activations & ~weights),
            self.stall.drain.eq(silent & ~(weights | softmax | activations)),
        ]
