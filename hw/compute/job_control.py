"""JobControl: takes the engine's jobs; the next one begins while the results of the last are on their way."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces.compute import job_constants_layout
from hw.interfaces.jobs import engine_job_layout
from hw.interfaces.strobe import Strobe

LINEAR_FLAGS = ("gelu", "swapped", "wide", "broadcast_unsigned", "gather", "scatter")


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
    next:
        The next job.
    job:
        The job in progress, stable until the next is taken; flags of linear jobs are 0 in attention jobs.
    start, running:
        Pulse: its phases begin (not for a job without work); from the next cycle to its last beat.
    issuing:
        Phases of the job are left or in progress.
    job_written, writeback_idle:
        Pulse: the last step of the oldest linear job has been written; level: every step has.
    done:
        Pulse: everything of the oldest job has been written.
    constants:
        Requantiser constants; a job with other GELU constants waits until those before it are done.
    parameters_level, parameters_release, parameter_base:
        Sets that have come; sets given back when their job is done; number of the current job's first set.
    busy, unparametrised:
        There is a job in progress; it waits for its parameter sets.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "next": In(stream.Signature(engine_job_layout(config))),
                "job": Out(engine_job_layout(config)),
                "start": Out(1),
                "running": Out(1),
                "issuing": In(1),
                "job_written": In(1),
                "writeback_idle": In(1),
                "done": Out(1),
                "constants": Out(job_constants_layout(config)),
                "parameters_level": In(16),
                "parameters_release": Out(Strobe(16)),
                "parameter_base": Out(16),
                "busy": Out(1),
                "unparametrised": Out(1),
            }
        )

    def elaborate(self, platform):
        """One state machine; a count of jobs whose results are on their way."""
        m = Module()
        job = self.job
        lengths = [job.tokens, job.heads, job.head_words], [job.steps, job.words, job.stationary_rows]
        # Settled while the job waits: parameters come, results of the jobs before leave.
        works, may_start, missing = Signal(), Signal(), Signal()
        has_work = Mux(job.attention, *(Cat(value != 0 for value in group).all() for group in lengths))
        behind, issued, settled = Signal(range(3)), Signal(), Signal()
        m.d.sync += [
            behind.eq(behind + issued - self.job_written),
            works.eq(has_work),
            may_start.eq(~missing & ~self._unsettled(behind)),
            self.unparametrised.eq(missing),
        ]
        with m.FSM(name="state") as state:
            with m.State("IDLE"):
                m.d.sync += self.next.ready.eq((behind != 2) & ~(self.next.valid & self.next.ready))
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
                    m.d.comb += self.start.eq(works)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.running.eq(1)
                with m.If(~self.issuing):
                    m.d.comb += issued.eq(works & ~job.attention)
                    m.next = "DRAIN"
                    with m.If(issued):
                        m.next = "IDLE"
            with m.State("DRAIN"):
                with m.If(self.writeback_idle & (behind == 0)):
                    m.next = "SETTLED"
            with m.State("SETTLED"):
                m.d.comb += settled.eq(1)
                m.next = "IDLE"
        m.d.comb += [self.busy.eq(~state.ongoing("IDLE")), self.done.eq(self.job_written | settled)]
        self._number_parameters(m, behind, issued, settled, missing)
        with m.If(self.job_written & ~ResetSignal()):
            m.d.sync += Assert(behind != 0, "a job was written that had not been issued")
        return m

    def _gelu(self) -> tuple[Value, Value]:
        names = [name for name in self.constants.shape().members if name.startswith("gelu")]
        return Cat(self.constants[name] for name in names), Cat(self.job[name] for name in names)

    def _unsettled(self, behind: Signal) -> Value:
        """Results on their way need other GELU constants than the job that would start."""
        kept, wanted = self._gelu()
        return self.job.gelu & (behind != 0) & (kept != wanted)

    def _keep_constants(self, m: Module) -> None:
        """Take over what the starting job brings."""
        kept, wanted = self._gelu()
        with m.If(self.start & self.job.gelu):
            m.d.sync += kept.eq(wanted)
        with m.If(self.start & self.job.attention):
            m.d.sync += [
                self.constants[name].eq(self.job[name])
                for name in self.constants.shape().members
                if name.startswith("score")
            ]

    def _number_parameters(self, m: Module, behind: Signal, issued: Signal, settled: Signal, missing: Signal) -> None:
        """Channels of the jobs behind, oldest first; the current job's sets follow theirs and may be missing."""
        channels = Mux(self.job.attention, 0, self.job.channels)
        oldest, latest = Signal(16), Signal(16)
        held = Mux(behind != 0, oldest, 0)
        m.d.comb += [
            self.parameters_release.valid.eq(self.done),
            self.parameters_release.payload.eq(Mux(settled, channels, oldest)),
        ]
        with m.If(self.busy & ~self.running):
            m.d.comb += missing.eq(~self.job.attention & (self.parameters_level < held + channels))
        with m.If(issued | settled):
            m.d.sync += self.parameter_base.eq(self.parameter_base + channels)
        with m.If(self.job_written):
            m.d.sync += oldest.eq(latest)
        with m.If(issued):
            m.d.sync += latest.eq(channels)
            with m.If(behind - self.job_written == 0):
                m.d.sync += oldest.eq(channels)
