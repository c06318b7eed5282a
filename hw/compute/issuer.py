"""BeatIssuer: runs phases, one beat a cycle."""

from __future__ import annotations

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.interfaces.compute import StepKind, Wait, beat_layout, looked_up_layout, phase_layout, step_layout
from hw.interfaces.jobs import engine_job_layout
from hw.interfaces.strobe import Strobe


class BeatIssuer(wiring.Component):
    """Walk the words of a step, the steps of a phase, and the phases, without a bubble between any of them.

    A phase starts when what it waits for is in the banks; a step of a gathering or scattering job when its row has
    been looked up, a step of a linear job's first phase when its broadcast row is ready; the last beat of a step is
    held back until the drain has room (``elements / requantise_lanes`` cycles after the previous step).

    Members
    -------
    start, job:
        Pulse: another job begins; the job, stable until the next one.
    phases, rows:
        Work, and looked-up rows.
    rows_ready:
        Broadcast rows, from the job's first on, that have been written. Later phases read the same rows again.
    available:
        One bit for each ``Wait``: what the next phase of that kind needs is in the banks.
    beat, broadcast_address, step:
        To the array, scratchpad and write-back; see :class:`ComputeEngine`.
    started, ended:
        One bit for each ``Wait``: a phase of that kind has been taken, or has issued its last beat.
    active:
        A phase is in progress.
    starved:
        The next step's broadcast row is not ready.

    Timing: the first beat one cycle after the phase is taken; then one a cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "job": In(engine_job_layout(config)),
                "phases": In(stream.Signature(phase_layout(config))),
                "rows": In(stream.Signature(looked_up_layout(config))),
                "rows_ready": In(16),
                "available": In(3),
                "beat": Out(Strobe(beat_layout(config))),
                "broadcast_address": Out(16),
                "step": Out(Strobe(step_layout(config))),
                "started": Out(3),
                "ended": Out(3),
                "active": Out(1),
                "starved": Out(1),
            }
        )

    def elaborate(self, platform):
        """Decide; then the address registers of beats and the fields of steps."""
        m = Module()
        config, job, following = self.config, self.job, self.phases.payload
        current = Signal(phase_layout(config))
        holding, words_left, steps_left, drain = Signal(), Signal(16), Signal(16), Signal(range(config.elements))
        issue, ends, free = Signal(), Signal(), Signal()
        # What decides in a cycle about hundreds of registers is itself a register: no word or no step is left, the
        # drain has room, what the next phase waits for is in the banks (a phase has three beats or costs a cycle more).
        last, more_steps, looks_up = Signal(), Signal(), Signal()
        full, prepared = Signal(), Signal()
        row_known = ~self.starved & (~looks_up | self.rows.valid)
        take, take_phase = Signal(), Signal()
        m.d.comb += [
            issue.eq(holding & ~(last & full)),
            ends.eq(issue & last),
            free.eq(~holding | ends),
            take.eq(free & (more_steps | prepared) & row_known),
            take_phase.eq(take & ~more_steps),
            self.phases.ready.eq(take_phase),
            self.rows.ready.eq(take & looks_up),
            self.active.eq(holding | more_steps),
            self.started.eq(take_phase << following.wait),
            self.ended.eq((ends & ~more_steps) << current.wait),
        ]
        m.d.sync += [
            looks_up.eq(job.gather | job.scatter),
            holding.eq(take | (holding & ~ends)),
            prepared.eq(self.phases.valid & self.available.bit_select(following.wait, 1) & ~take_phase),
        ]
        turns = config.elements // config.requantise_lanes
        with m.If(ends):
            m.d.sync += [drain.eq(turns - 1), full.eq(turns != 1)]
        with m.Elif(full):
            m.d.sync += [drain.eq(drain - 1), full.eq(drain != 1)]
        chosen = Mux(more_steps, current.words, following.words)
        with m.If(take):
            m.d.sync += [
                words_left.eq(chosen - 1),
                last.eq(chosen == 1),
                steps_left.eq(Mux(more_steps, steps_left, following.steps) - 1),
                more_steps.eq(Mux(more_steps, steps_left, following.steps) != 1),
            ]
            with m.If(~more_steps):
                m.d.sync += current.eq(following)
        with m.Elif(issue):
            m.d.sync += [words_left.eq(words_left - 1), last.eq(words_left == 1)]
        self._follow_rows(m, take, take_phase, more_steps)
        with m.If(take_phase):
            m.d.sync += Assert((following.words != 0) & (following.steps != 0), "a phase needs words and steps")
        self._address_beats(m, current, issue, last, take, more_steps)
        self._describe_steps(m, current, ends, more_steps, take)
        return m

    def _follow_rows(self, m: Module, take, take_phase, more_steps) -> None:
        """Count the rows of the first phase; a step is starved while its row has not been written.

        Rows are seen a cycle after they are ready.
        """
        job = self.job
        row, following, first_phase = Signal(16), Signal(16), Signal()
        begun, written = Signal(), Signal()
        m.d.comb += self.starved.eq(first_phase & (~begun | more_steps) & ~written)
        m.d.sync += written.eq(Mux(take, following < self.rows_ready, row < self.rows_ready))
        with m.If(self.start):
            m.d.sync += [
                row.eq(0),
                following.eq(1),
                begun.eq(0),
                written.eq(self.rows_ready != 0),
                first_phase.eq(~(job.attention | job.swapped | job.gather)),
            ]
        with m.Elif(take_phase & begun):
            m.d.sync += first_phase.eq(0)
        with m.Elif(take):
            m.d.sync += [row.eq(following), following.eq(following + 1), begun.eq(1)]

    def _address_beats(self, m: Module, current, issue, last, take, more_steps) -> None:
        """Scratchpad and bank addresses count up within a step; the next row's address is kept ready."""
        job, payload, following = self.job, self.beat.payload, self.phases.payload
        next_row, first = Signal(16), Signal()
        listed = Mux(more_steps, next_row, following.row)
        with m.If(take):
            m.d.sync += [
                self.broadcast_address.eq(Mux(job.gather, self.rows.payload.offset, listed)),
                next_row.eq(listed + Mux(more_steps, current.row_stride, following.row_stride)),
                payload.stationary_address.eq(Mux(more_steps, current.stationary, following.stationary)),
                first.eq(1),
            ]
        with m.Elif(issue):
            m.d.sync += [
                self.broadcast_address.eq(self.broadcast_address + 1),
                payload.stationary_address.eq(payload.stationary_address + 1),
                first.eq(0),
            ]
        m.d.comb += [
            self.beat.valid.eq(issue),
            payload.first.eq(first),
            payload.last.eq(last),
            payload.wide.eq(job.wide),
            payload.broadcast_unsigned.eq(job.broadcast_unsigned),
            payload.stationary_unsigned.eq(current.wait == Wait.EXPONENTIALS),
        ]

    def _describe_steps(self, m: Module, current, ends, more_steps, take) -> None:
        """Destination, parameter set and position of the step in progress."""
        job, payload, following, looked_up_row = self.job, self.step.payload, self.phases.payload, self.rows.payload
        lane = Signal(range(self.config.lanes))
        is_output = current.kind == StepKind.ATTENTION
        advances = more_steps & ~job.scatter
        stride = Mux(advances & ~(is_output & ~payload.flush), current.address_stride, 0)
        base = Mux(advances, payload.address, Mux(more_steps, current.address, following.address))
        with m.If(take):
            m.d.sync += [
                payload.address.eq(base + Mux(job.scatter, looked_up_row.offset, stride)),
                payload.gate_weight.eq(looked_up_row.weight),
                payload.first.eq(~more_steps),
            ]
            with m.If(more_steps):
                m.d.sync += [
                    payload.parameter_index.eq(payload.parameter_index + job.swapped),
                    lane.eq(lane + 1),
                ]
            with m.Else():
                m.d.sync += [payload.parameter_index.eq(following.parameter_index), lane.eq(0)]
        m.d.comb += [
            self.step.valid.eq(ends),
            payload.kind.eq(current.kind),
            payload.mode.eq(current.mode),
            payload.column.eq(current.column),
            payload.gelu.eq(job.gelu),
            payload.weighted.eq(job.scatter),
            payload.attention.eq(job.attention),
            payload.buffer.eq(current.buffer),
            payload.flush.eq(is_output & (lane == self.config.lanes - 1)),
            payload.rows.eq(current.rows),
            payload.row_stride.eq(job.destination_stride),
            payload.row_last.eq(current.last),
            payload.job_last.eq(current.last & ~more_steps),
        ]
