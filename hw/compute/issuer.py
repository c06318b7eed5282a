"""BeatIssuer: runs phases, one beat per cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import StepKind, Wait, beat_layout, looked_up_layout, phase_layout, step_layout
from tessera.hw.interfaces.jobs import engine_job_layout
from tessera.hw.interfaces.strobe import Strobe, Work
from tessera.hw.isa import ADDRESS_WIDTH, COUNT_WIDTH, Function


class BeatIssuer(wiring.Component):
    """Walk the words of a step, the steps of a phase, and the phases, without a bubble between any of them.

    A phase starts when what it waits for is in the banks. A step of a gathering or scattering job starts when its row
    has been looked up, and a tap of a convolution when its address is known. A step of a linear job's first phase
    starts when its broadcast row is ready. The last beat of a step is held back until the drain has room
    (``elements / requantise_lanes`` cycles after the previous step).
    The last words of a key come from the table of bias, which is read from its beginning to its end.

    Members
    -------
    work: In(Work(engine_job))
        The job, stable until the next one.
    phases: In(stream(phase)), rows: In(stream(looked_up))
        Phases to run, and looked-up rows or taps.
    rows_ready: In(COUNT_WIDTH)
        Broadcast rows, from the job's first on, that have been written. Later phases read the same rows again.
    available: In(3)
        One bit per ``Wait``: what the next phase of that kind needs is in the banks.
    beat: Out(Strobe(beat)), broadcast: Out(Strobe(ADDRESS_WIDTH)), step: Out(Strobe(step))
        To the array, scratchpad and write-back; see :class:`ComputeEngine`.
    started, ended: Out(3)
        One bit per ``Wait``: a phase of that kind has been taken, or has issued its last beat.
    active: Out(1)
        A phase is in progress.
    starved: Out(1)
        The next step's broadcast row is not ready.

    Timing: the first beat comes one cycle after the phase is taken; then one per cycle.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(engine_job_layout(config))),
                "phases": In(stream.Signature(phase_layout(config))),
                "rows": In(stream.Signature(looked_up_layout(config))),
                "rows_ready": In(COUNT_WIDTH),
                "available": In(len(Wait)),
                "beat": Out(Strobe(beat_layout(config))),
                "broadcast": Out(Strobe(ADDRESS_WIDTH)),
                "step": Out(Strobe(step_layout(config))),
                "started": Out(len(Wait)),
                "ended": Out(len(Wait)),
                "active": Out(1),
                "starved": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Decide; then the address registers of beats and the fields of steps."""
        m = Module()
        config, job, following = self._config, self.work.job, self.phases.payload
        current = Signal(phase_layout(config))
        holding, words_left, steps_left = Signal(), Signal(COUNT_WIDTH), Signal(COUNT_WIDTH)
        issue, ends, free = Signal(), Signal(), Signal()
        # These conditions have a high fan-out, so they are registered: the step's last word, steps left, room in the
        # drain, and that the next phase may start. Cost: a phase of fewer than three beats takes one cycle more.
        last, more_steps, looks_up = self.beat.payload.last, Signal(), Signal()
        full, prepared, tap_ends = Signal(), Signal(), Signal()
        row_known = ~self.starved & (~looks_up | self.rows.valid)
        take, take_phase = Signal(), Signal()
        m.d.comb += [
            issue.eq(holding & ~((last & full) | (tap_ends & ~self.rows.valid))),
            ends.eq(issue & last),
            free.eq(~holding | ends),
            take.eq(free & (more_steps | prepared) & row_known),
            take_phase.eq(take & ~more_steps),
            self.phases.ready.eq(take_phase),
            self.rows.ready.eq((take & looks_up) | (issue & tap_ends)),
            self.active.eq(holding | more_steps),
            self.started.eq(take_phase << following.wait),
            self.ended.eq((ends & ~more_steps) << current.wait),
        ]
        m.d.sync += [
            looks_up.eq(job.gather | job.scatter | job.convolution),
            holding.eq(take | (holding & ~ends)),
            prepared.eq(self.phases.valid & self.available.bit_select(following.wait, 1) & ~take_phase),
        ]
        self._wait_for_drain(m, ends, full)
        chosen = Mux(more_steps, current.words, following.words)
        bias_words = Mux(take_phase, following.bias_words, current.bias_words)
        biased = self._find_bias(m, take | issue, Mux(take, chosen, words_left), bias_words)
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
        self._count_taps(m, tap_ends, take=take, issue=issue, to_last=Mux(take, chosen, words_left) == 1)
        self._follow_rows(m, take, take_phase, more_steps)
        # Lengths are counted down to 1, so that a length of 0 would mean 2**16.
        check(m, take_phase, (following.words != 0) & (following.steps != 0), "a phase needs words and steps")
        self._address_beats(m, current, issue, take, more_steps, biased, tap_ends)
        self._describe_steps(m, current, ends, more_steps, take)
        return m

    def _wait_for_drain(self, m: Module, ends: Value, full: Signal) -> None:
        """Count the groups of the last step: the drain has room again when the last of them leaves it."""
        groups = self._config.elements // self._config.requantise_lanes
        left = Signal(range(self._config.elements))
        with m.If(ends):
            m.d.sync += [left.eq(groups - 1), full.eq(groups != 1)]
        with m.Elif(full):
            m.d.sync += [left.eq(left - 1), full.eq(left != 1)]

    def _find_bias(self, m: Module, moves: Value, words_left: Value, bias_words: Value) -> Signal:
        """Whether the beat behind the current one is a word of bias: one of the last words of its step.

        When the current beat ``moves``, ``words_left`` counts its successor and the words behind that.
        """
        biased = Signal()
        low = words_left[:3]
        with m.If(moves):
            m.d.sync += biased.eq((words_left >> 3 == 0) & (low > 1) & (low <= bias_words + 1))
        return biased

    def _count_taps(self, m: Module, tap_ends: Signal, *, take: Value, issue: Value, to_last: Value) -> None:
        """Count the words behind a beat in its tap. At the end of a tap, but not of the step, the next tap follows."""
        job, left, one_word = self.work.job, Signal.like(self.work.job.tap_words), Signal()
        m.d.sync += one_word.eq(job.tap_words == 1)
        begins = take | tap_ends
        with m.If(take | issue):
            m.d.sync += [
                left.eq(Mux(begins, job.tap_words, left) - 1),
                tap_ends.eq(job.convolution & ~to_last & Mux(begins, one_word, left == 1)),
            ]

    def _follow_rows(self, m: Module, take: Value, take_phase: Value, more_steps: Value) -> None:
        """Count the rows of the first phase; a step is starved while its row has not been written.

        A row is seen one cycle after it is ready, because the comparison is registered.
        """
        job = self.work.job
        row, following, first_phase = Signal(COUNT_WIDTH), Signal(COUNT_WIDTH), Signal()
        begun, written = Signal(), Signal()
        # The next row's number is kept beside the current one: its comparison is ready when the step is taken.
        m.d.comb += self.starved.eq(first_phase & (~begun | more_steps) & ~written)
        m.d.sync += written.eq(Mux(take, following < self.rows_ready, row < self.rows_ready))
        with m.If(self.work.start):
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

    def _address_beats(
        self,
        m: Module,
        current: data.View,
        issue: Value,
        take: Value,
        more_steps: Value,
        biased: Value,
        tap_ends: Value,
    ) -> None:
        """Scratchpad and bank addresses count up within a step; the next row's address is kept ready."""
        job, payload, following = self.work.job, self.beat.payload, self.phases.payload
        next_row, address, found = Signal(ADDRESS_WIDTH), self.broadcast.payload, self.rows.payload
        bias, element_bits = Signal(ADDRESS_WIDTH), (self._config.elements - 1).bit_length()
        # Rows of a phase are a stride apart; a gathering job reads those of its queue instead, a convolution its taps.
        listed = Mux(more_steps, next_row, following.row)
        with m.If(take):
            m.d.sync += [
                address.eq(Mux(job.gather | job.convolution, found.offset, listed)),
                payload.padded.eq(found.padded & job.convolution),
                next_row.eq(listed + Mux(more_steps, current.row_stride, following.row_stride)),
                payload.stationary_address.eq(Mux(more_steps, current.stationary, following.stationary)),
                payload.first.eq(1),
            ]
        with m.Elif(issue):
            m.d.sync += [
                address.eq(Mux(tap_ends, found.offset, Mux(biased, bias, address + 1))),
                payload.padded.eq(Mux(tap_ends, found.padded, payload.padded)),
                payload.stationary_address.eq(payload.stationary_address + 1),
                payload.first.eq(0),
            ]
        # The table begins with the factors of P elements, which the row loader reads.
        with m.If(take & ~more_steps & following.bias_again):
            m.d.sync += bias.eq(job.bias_base + (job.bias_words << element_bits))
        with m.Elif(issue):
            m.d.sync += bias.eq(bias + biased)
        m.d.comb += [
            self.beat.valid.eq(issue),
            self.broadcast.valid.eq(issue),
            *same_fields(payload, job, "wide", "broadcast_unsigned"),
            payload.stationary_unsigned.eq(current.wait == Wait.EXPONENTIALS),
        ]

    def _describe_steps(self, m: Module, current: data.View, ends: Value, more_steps: Value, take: Value) -> None:
        """Destination, parameter set and position of the step in progress."""
        job, payload = self.work.job, self.step.payload
        following, looked_up_row = self.phases.payload, self.rows.payload
        lane = Signal(range(self._config.lanes))
        is_output = current.kind == StepKind.ATTENTION
        # Only the next lane of a word needs no new address: outputs of attention come channel by channel.
        advances = more_steps & ~job.scatter
        distance = Mux(job.convolution & looked_up_row.new_row, job.destination_jump, current.address_stride)
        stride = Mux(advances & ~(is_output & ~payload.flush), distance, 0)
        base = Mux(advances, payload.address, Mux(more_steps, current.address, following.address))
        with m.If(take):
            m.d.sync += [
                payload.address.eq(base + Mux(job.scatter, looked_up_row.offset, stride)),
                payload.gate_weight.eq(looked_up_row.weight),
                payload.first.eq(~more_steps),
                payload.parameter_index.eq(
                    Mux(more_steps, payload.parameter_index + job.swapped, following.parameter_index)
                ),
                lane.eq(Mux(more_steps, lane + 1, 0)),
            ]
        m.d.comb += [
            self.step.valid.eq(ends),
            *same_fields(payload, current, "kind", "mode", "column", "buffer", "rows"),
            payload.activated.eq((job.function != Function.NONE) | (current.kind == StepKind.RESIDUAL_MULTIPLY)),
            *same_fields(payload, job, "attention"),
            payload.weighted.eq(job.scatter & job.routed),
            payload.flush.eq(is_output & (lane == self._config.lanes - 1)),
            payload.row_stride.eq(job.destination_stride),
            payload.row_last.eq(current.last),
            payload.job_last.eq(current.last & ~more_steps),
        ]
