"""JobControl: takes the engine's jobs; the next one begins while the results of the last are on their way."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import ParameterAccount, StepProgress, job_constants_layout
from tessera.hw.interfaces.jobs import engine_job_layout
from tessera.hw.interfaces.strobe import Work
from tessera.hw.isa import COUNT_WIDTH, Destination, Function

LINEAR_FLAGS = ("function", "swapped", "wide", "broadcast_unsigned", "gather", "scatter", "convolution")
"""Fields of linear jobs that must be 0 in attention jobs, whose commands have other contents in their place."""
_FUNCTION_CONSTANTS = ("function", "function_multiplier", "function_shift")


class JobControl(wiring.Component):
    """One job at a time issues beats; at most one linear job before it still has results on their way.

    Parameter sets of jobs lie in the ring in order, so a job waits until those of the job before it and its own have
    come. Attention, and jobs without work (a zero among their lengths), are done before the next is taken.

    Parameters
    ----------
    config:
        Sizes.

    Members
    -------
    next: In(stream(engine_job))
        The next job.
    work: Out(Work(engine_job))
        The job in progress, stable until the next is taken. Flags of linear jobs are 0 in attention jobs. A job without
        work does not start.
    running: Out(1)
        The job's beats are being issued: from the cycle after its start to its last beat.
    issuing: In(1)
        Phases of the job are left or in progress.
    progress: In(StepProgress)
        What write-back has written.
    done: Out(1)
        Pulse: everything of the oldest job has been written.
    constants: Out(job_constants)
        Requantiser constants. A job with a Function of other constants waits until those before it are done, and so
        does one that multiplies the residual, because it reads what they write, at the port at which they read.
    parameters: Out(ParameterAccount), parameter_base: Out(COUNT_WIDTH)
        Sets that have come, and sets given back when their job is done; number of the current job's first set.
    busy: Out(1)
        There is a job in progress.
    unparametrised: Out(1)
        It waits for its parameter sets.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "next": In(stream.Signature(engine_job_layout(config))),
                "work": Out(Work(engine_job_layout(config))),
                "running": Out(1),
                "issuing": In(1),
                "progress": In(StepProgress()),
                "done": Out(1),
                "constants": Out(job_constants_layout(config)),
                "parameters": Out(ParameterAccount()),
                "parameter_base": Out(COUNT_WIDTH),
                "busy": Out(1),
                "unparametrised": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """One state machine; a count of jobs whose results are on their way."""
        m = Module()
        job = self.work.job
        attention = [job.windows, job.queries, job.keys, job.heads, job.head_words, job.value_words]
        lengths = attention, [job.steps, job.words, job.stationary_rows]
        # What decides about the start is registered, because it is a comparison of long numbers. A job waits two cycles
        # before it may start, until these are about itself.
        works, may_start, missing = Signal(), Signal(), Signal()
        has_work = Mux(job.attention, *(Cat(value != 0 for value in group).all() for group in lengths))
        behind, issued, settled = Signal(range(3)), Signal(), Signal()
        m.d.sync += [
            behind.eq(behind + issued - self.progress.job_written),
            works.eq(has_work),
            may_start.eq(~missing & ~self._unsettled(behind)),
            self.unparametrised.eq(missing),
        ]
        # CHECK lets the registers above settle. A linear job goes from RUN to IDLE, so that the next one overlaps its
        # results. The others go by DRAIN, which waits until nothing is under way, and SETTLED, which reports them.
        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                m.d.sync += self.next.ready.eq((behind != 2) & ~(self.next.valid & self.next.ready))
                # The job is loaded whether one is offered or not, which saves its registers a condition.
                m.d.sync += job.eq(self.next.payload)
                with m.If(self.next.payload.attention):
                    m.d.sync += [job[name].eq(0) for name in LINEAR_FLAGS]
                with m.If(self.next.valid & self.next.ready):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "START"
            with m.State("START"):
                self._keep_constants(m)
                with m.If(may_start):
                    m.d.comb += self.work.start.eq(works)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.running.eq(1)
                with m.If(~self.issuing):
                    m.d.comb += issued.eq(works & ~job.attention)
                    m.next = "DRAIN"
                    with m.If(issued):
                        m.next = "IDLE"
            with m.State("DRAIN"):
                with m.If(self.progress.idle & (behind == 0)):
                    m.next = "SETTLED"
            with m.State("SETTLED"):
                m.d.comb += settled.eq(1)
                m.next = "IDLE"
        m.d.comb += [self.busy.eq(~state.ongoing("IDLE")), self.done.eq(self.progress.job_written | settled)]
        self._number_parameters(m, behind, issued, settled, missing)
        check(m, self.progress.job_written, behind != 0, "a job was written that had not been issued")
        return m

    def _multiplies(self) -> Value:
        """The job in progress multiplies the residual."""
        return (self.work.job.destination == Destination.RESIDUAL_MULTIPLY) & ~self.work.job.attention

    def _unsettled(self, behind: Signal) -> Value:
        """Results on their way need other constants than the job that would start, or it needs them."""
        job, kept = self.work.job, self.constants
        differs = Cat(kept[name] != job[name] for name in _FUNCTION_CONSTANTS).any() | kept.multiplies
        return (behind != 0) & (self._multiplies() | (job.function != Function.NONE) & differs)

    def _keep_constants(self, m: Module) -> None:
        """Take over what the starting job brings."""
        job, start = self.work.job, self.work.start
        with m.If(start & (self._multiplies() | (job.function != Function.NONE))):
            m.d.sync += [
                *same_fields(self.constants, job, *_FUNCTION_CONSTANTS),
                self.constants.multiplies.eq(self._multiplies()),
            ]
        with m.If(start & job.convolution):
            m.d.sync += same_fields(self.constants, job, "padding")
        with m.If(start & job.attention):
            m.d.sync += same_fields(self.constants, job, "score_multiplier", "score_shift")

    def _number_parameters(self, m: Module, behind: Signal, issued: Signal, settled: Signal, missing: Signal) -> None:
        """Channels of the jobs behind, oldest first; the current job's sets follow theirs and may be missing."""
        job = self.work.job
        channels = Mux(job.attention, 0, job.channels)
        oldest, latest = Signal(COUNT_WIDTH), Signal(COUNT_WIDTH)
        # At most two issued jobs are not written yet, so that two numbers of channels are enough.
        held = Mux(behind != 0, oldest, 0)
        m.d.comb += [
            self.parameters.release.valid.eq(self.done),
            self.parameters.release.payload.eq(Mux(settled, channels, oldest)),
        ]
        with m.If(self.busy & ~self.running):
            m.d.comb += missing.eq(~job.attention & (self.parameters.level < held + channels))
        with m.If(issued | settled):
            m.d.sync += self.parameter_base.eq(self.parameter_base + channels)
        with m.If(self.progress.job_written):
            m.d.sync += oldest.eq(latest)
        with m.If(issued):
            m.d.sync += latest.eq(channels)
            with m.If(behind - self.progress.job_written == 0):
                m.d.sync += oldest.eq(channels)
