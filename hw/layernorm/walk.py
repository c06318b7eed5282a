"""RowWalk: the order in which LayerNorm goes through its rows."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.fields import assign
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import layernorm_job_layout
from tessera.hw.interfaces.layernorm import layernorm_beat_layout, wide_channels
from tessera.hw.interfaces.strobe import Strobe, Work
from tessera.hw.isa import ADDRESS_WIDTH, COUNT_WIDTH


class RowWalk(wiring.Component):
    """Addresses and beats of all passes, one beat per cycle: statistics run ahead, outputs follow row by row.

    A pass reads a row for its statistics or for an output. Output passes (narrow, then wide) and statistics passes of
    later rows take turns. If one kind has nothing to do the other goes on. So statistics get as far ahead as their
    latency needs, and the read port idles only when there is nothing to read. With ``scaled`` at 0 there are only
    statistics passes, with ``rows_ready`` at 0 only output passes. With ``copies`` rows are output as they become
    ready.

    Parameters
    ----------
    config:
        Sizes of the machine.
    interval:
        Least number of cycles from the end of one statistics pass to the end of the next.

    Members
    -------
    work: In(Work(layernorm_job))
        Begins with row 0. The job is stable until the next one.
    rows_ready: In(COUNT_WIDTH)
        Rows that may be read for their statistics; takes effect a cycle later. From the start on it never falls below
        what it allowed.
    scaled: In(COUNT_WIDTH)
        Rows whose statistics can be looked up.
    copies: In(1)
        The job's rows need no statistics. Stable like the job.
    room: In(1)
        The output has room for another word.
    wanted: Out(stream(ADDRESS_WIDTH))
        Residual words to read. One is read in cycles with both ``valid`` and ``ready``.
    row: Out(COUNT_WIDTH)
        Row of the output pass in progress, or of the last one; 0 before.
    beat: Out(Strobe(layernorm_beat))
        What to do with the word, when it is read.
    """

    def __init__(self, config: AcceleratorConfig, interval: int) -> None:
        self._config, self._interval = config, interval
        super().__init__(
            {
                "work": In(Work(layernorm_job_layout())),
                "rows_ready": In(COUNT_WIDTH),
                "scaled": In(COUNT_WIDTH),
                "copies": In(1),
                "room": In(1),
                "wanted": Out(stream.Signature(ADDRESS_WIDTH)),
                "row": Out(COUNT_WIDTH),
                "beat": Out(Strobe(layernorm_beat_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job, beat = self.work.job, self.beat.payload
        base, word, part = Signal(ADDRESS_WIDTH), Signal(10), Signal.like(beat.part)
        running, statistics, wide, next_row = Signal(), Signal(), Signal(), Signal()
        spacing, spaced = Signal(range(self._interval)), Signal(init=1)
        last_part, emit = self._parts(wide, part)
        row_last, held, taken, at_last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            row_last.eq(last_part & at_last),
            held.eq(Mux(statistics, row_last & ~spaced, emit & ~self.room)),
            self.wanted.valid.eq(running & ~held),
            taken.eq(self.wanted.valid & self.wanted.ready),
            next_row.eq(~running | (taken & row_last)),
            self.wanted.payload.eq(base + word),
            self.beat.valid.eq(taken),
            *assign(
                beat,
                statistics=statistics,
                wide=wide,
                part=part,
                channel=self._channel(word, part),
                first=(word == 0) & (part == 0),
                last=row_last,
                emit=emit,
            ),
        ]
        # A statistics pass may not end before the unit behind is ready for its sums: its last beat waits.
        with m.If(~spaced):
            m.d.sync += [spacing.eq(spacing - 1), spaced.eq(spacing == 1)]
        with m.If(taken):
            m.d.sync += part.eq(Mux(last_part, 0, part + 1))
            with m.If(last_part):
                m.d.sync += [
                    word.eq(Mux(at_last, 0, word + 1)),
                    at_last.eq(Mux(at_last, job.words == 1, word + 2 == job.words)),
                ]
            with m.If(row_last & statistics):
                m.d.sync += [spacing.eq(self._interval - 1), spaced.eq(0)]
        with m.If(self.work.start):
            m.d.sync += at_last.eq(job.words == 1)
        self._choose(m, next_row, running, statistics, wide, base)
        return m

    def _choose(
        self, m: Module, next_row: Signal, running: Signal, statistics: Signal, wide: Signal, base: Signal
    ) -> None:
        """What follows when a row's pass ends, or while there is none."""
        job = self.work.job
        summed, normalised, limit = (Signal.like(self.scaled, name=n) for n in ("summed", "normalised", "limit"))
        summed_base, normalised_base = Signal(ADDRESS_WIDTH), Signal(ADDRESS_WIDTH)
        may_sum, may_normalise, output_ends = Signal(), Signal(), Signal()
        # Neither count overtakes what bounds it: that they differ is enough.
        m.d.sync += limit.eq(Mux(self.rows_ready < job.rows, self.rows_ready, job.rows))
        m.d.comb += [
            output_ends.eq(running & ~statistics),
            may_sum.eq((summed != limit) & ~self.copies),
            may_normalise.eq(Mux(self.copies, limit, self.scaled) != normalised),
        ]
        with m.If(self.work.start):
            m.d.sync += [
                self.row.eq(0),
                summed.eq(0),
                normalised.eq(0),
                summed_base.eq(job.source_base),
                normalised_base.eq(job.source_base),
            ]
        with m.Elif(next_row):
            m.d.sync += running.eq(1)
            # A row's wide output follows its narrow one. Statistics come next after an output, and while no row is
            # ready to be normalised.
            with m.If(output_ends & ~wide & job.wide):
                m.d.sync += wide.eq(1)
            with m.Elif(may_sum & (output_ends | ~may_normalise)):
                m.d.sync += [
                    statistics.eq(1),
                    wide.eq(0),
                    base.eq(summed_base),
                    summed.eq(summed + 1),
                    summed_base.eq(summed_base + job.source_stride),
                ]
            with m.Elif(may_normalise):
                m.d.sync += [
                    statistics.eq(0),
                    wide.eq(0),
                    self.row.eq(normalised),
                    base.eq(normalised_base),
                    normalised.eq(normalised + 1),
                    normalised_base.eq(normalised_base + job.source_stride),
                ]
            with m.Else():
                m.d.sync += running.eq(0)

    def _parts(self, is_wide: Signal, part: Signal) -> tuple[Value, Value]:
        """Whether ``part`` is the last of its word, and whether it completes an output word."""
        config = self._config
        narrow, wide = config.lanes // config.layernorm_lanes, config.lanes // wide_channels(config)
        last = part == Mux(is_wide, wide - 1, narrow - 1)
        # A wide pass fills two words for one: the half's last part completes one.
        half_bits = exact_log2(wide // 2)
        return last, Mux(is_wide, part[:half_bits].all() if half_bits else 1, last)

    def _channel(self, word: Signal, part: Signal) -> Value:
        """Number of the beat's first channel."""
        config = self._config
        part_bits, size = exact_log2(config.lanes // wide_channels(config)), wide_channels(config)
        return Cat(Const(0, exact_log2(size)), part[:part_bits], word)
