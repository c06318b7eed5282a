"""LayerNorm: rows of the residual stream to activations, and to the gate's 16-bit input."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.arithmetic import pick
from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.jobs import take_job
from tessera.hw.blocks.pipeline import delay
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import layernorm_job_layout
from tessera.hw.interfaces.layernorm import row_scale_layout, shift_write_layout
from tessera.hw.interfaces.memory import (
    BLOCK_LATENCY,
    RESIDUAL_LATENCY,
    residual_lanes_layout,
    residual_read,
    scratch_write_layout,
)
from tessera.hw.interfaces.sequencer import layernorm_report
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import COUNT_WIDTH
from tessera.hw.layernorm.lanes import LayerNormLanes
from tessera.hw.layernorm.output import LayerNormOutput
from tessera.hw.layernorm.row_statistics import RowStatistics
from tessera.hw.layernorm.walk import RowWalk

_AHEAD = RESIDUAL_LATENCY - BLOCK_LATENCY
"""Cycles by which a residual word must be asked for before what lies in tables of this unit."""


def _copies(job: data.View) -> Value:
    """Whether rows need no statistics (``tessera.hw.isa.NormMode.copies``)."""
    return job.mode[1]


class LayerNorm(wiring.Component):
    """Layer normalisation without gain and offset, which belong to the next weights (integer golden: ``layernorm``).

    It is also an RMS norm, or scales and copies rows without statistics (``tessera.hw.isa.NormMode``).

    A row is read once for its statistics, once to be normalised, and once more for the wide output if there is one.
    While statistics are on their way the rows that follow are read for theirs (``RowWalk``). Every pass takes
    ``layernorm_lanes`` channels per cycle and uses the same multipliers.

    ::

        residual word ─► LayerNormLanes ─┬─ sums ─► RowStatistics ─► table of rows ─► (back to the lanes)
        channel shifts ──────┘           └─ values ─► LayerNormOutput ─► scratchpad

    With ``config.layernorm_row_buffer`` statistics and outputs have lanes of their own and work on different rows at
    once. A residual word is read once, for its row's statistics, and kept until the row is normalised.

    ::

        residual word ─┬─► LayerNormLanes ─ sums ─► RowStatistics ─► table of rows ─┐
                       └─► row buffer ────────────────────► LayerNormLanes ◄────────┴─ channel shifts
                                                                  └─ values ─► LayerNormOutput ─► scratchpad

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job: In(stream(layernorm_job))
        Rows at least 1, words 1 to 1024 / T, channels at most words * T. Taken when idle.
    shift_write: In(Strobe(shift_write))
        Extra precision (0 to 7 bits) of one chunk of channels: channel = address * chunk_bytes + index. Before the job.
    report: Out(layernorm_report)
        ``rows_ready`` counts from the cycle after the job was taken on, and never falls during a job. ``rows_done`` are
        the rows all of whose words were written, narrow and wide; those of the last job when idle.
    residual_read: Out(MemoryRead), residual_read_ready: In(1)
        Read port of the residual memory. A word is read when enabled and ready; data comes RESIDUAL_LATENCY later.
    scratch_write: Out(stream(scratch_write))
        Whole words of activations. Wide values fill two words per residual word, a value's low half in lane 2i.

    Timing, when neither rows, reads nor writes are held up: a pass takes ``words * T / layernorm_lanes`` cycles per row
    (wide: at least two cycles per word; statistics: at least ``RowStatistics.interval`` from one row to the next). A
    row takes the sum of its passes, or with a row buffer the larger of statistics and outputs. A copy has no statistics
    pass. With a row buffer it has one, because that pass reads the words: it takes as long as a norm. A job takes at
    most ``OVERHEAD`` more, with a row buffer beside the first row's statistics.
    Resources: layernorm_lanes + 3 multipliers; a few rows' statistics and words in LUT RAM. A row buffer costs
    layernorm_lanes more multipliers, and ``ROWS_AHEAD`` rows of ``layernorm_channels`` channels of block RAM.

    Raises
    ------
    ValueError
        For words of more than ``layernorm_channels`` channels.
    """

    OVERHEAD = 64
    """Most cycles of a job beside its passes: the latency of the first or last row's statistics and outputs."""

    ROWS_AHEAD = 8
    """Most rows whose statistics are kept or on their way: a power of two, enough for rows of one word."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(layernorm_job_layout())),
                "shift_write": In(Strobe(shift_write_layout(config))),
                "report": Out(layernorm_report()),
                "residual_read": Out(residual_read(config)),
                "residual_read_ready": In(1),
                "scratch_write": Out(stream.Signature(scratch_write_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.lanes = lanes = LayerNormLanes(config)
        m.submodules.statistics = statistics = RowStatistics(config)
        m.submodules.output = output = LayerNormOutput(config)
        m.submodules.walk = walk = RowWalk(config, statistics.interval)
        connect(m, output.scratch_write, flipped(self.scratch_write))
        # Between jobs the walk still compares its rows with those of the last job, so that job has to stay.
        work = take_job(m, self.job, self.report.done, keep_until_next=True)
        if config.layernorm_row_buffer:
            m.submodules.summing_walk = summing_walk = RowWalk(config, statistics.interval)
            m.submodules.summing_lanes = summing_lanes = LayerNormLanes(config)
            self._attach(m, summing_walk, summing_lanes, work.job, name="summing")
            self._buffer_rows(m, summing_walk, walk, lanes)
            connect(m, work, summing_walk.work, walk.work, output.work)
        else:
            summing_walk, summing_lanes = walk, lanes
            m.d.comb += [walk.rows_ready.eq(self.report.rows_ready), walk.copies.eq(_copies(work.job))]
            connect(m, work, walk.work, output.work)
        self._attach(m, walk, lanes, work.job, name="output")
        connect(m, summing_lanes.sums, statistics.sums)
        connect(m, lanes.result, output.result)
        m.d.comb += [
            self.residual_read.enable.eq(summing_walk.wanted.valid),
            self.residual_read.address.eq(summing_walk.wanted.payload),
            summing_walk.wanted.ready.eq(self.residual_read_ready),
            summing_lanes.word.eq(self.residual_read.data),
            walk.room.eq(output.room),
            output.reserve.eq(walk.beat.valid & walk.beat.payload.emit & ~walk.beat.payload.statistics),
        ]
        m.d.comb += [statistics.constants[name].eq(work.job[name]) for name, _ in statistics.constants.shape()]
        self._look_up_shifts(m, walk, lanes)
        self._look_up_rows(m, statistics, walk, lanes, work)
        self._sequence(m, work, output.row_written)
        self._check(m)
        return m

    def _attach(self, m: Module, walk: RowWalk, lanes: LayerNormLanes, job: data.View, *, name: str) -> None:
        """A walk reads words; its beats reach the lanes together with them."""
        m.d.comb += [
            lanes.beat.valid.eq(delay(m, walk.beat.valid, RESIDUAL_LATENCY, name=f"{name}_valid")),
            lanes.beat.payload.eq(delay(m, walk.beat.payload, RESIDUAL_LATENCY, name=f"{name}_beat")),
        ]
        m.d.comb += [lanes.constants[field].eq(job[field]) for field, _ in lanes.constants.shape()]

    def _buffer_rows(self, m: Module, summing_walk: RowWalk, walk: RowWalk, lanes: LayerNormLanes) -> None:
        """Keep the words that are read for their statistics; the output walk reads them here."""
        config = self._config
        words = config.layernorm_channels // config.lanes
        m.submodules.buffer = buffer = memory.Memory(
            shape=residual_lanes_layout(config), depth=self.ROWS_AHEAD * words, init=[]
        )
        write, read = buffer.write_port(), buffer.read_port()
        lane_bits, beat = exact_log2(config.lanes), summing_walk.beat.payload
        slot = Signal(range(self.ROWS_AHEAD))
        with m.If(summing_walk.work.start):
            m.d.sync += slot.eq(0)
        with m.Elif(summing_walk.beat.valid & beat.last):
            m.d.sync += slot.eq(slot + 1)
        limit = Signal(COUNT_WIDTH + 1)
        place = Cat(walk.beat.payload.channel[lane_bits:], walk.row[: len(slot)])
        written = Cat(beat.channel[lane_bits:], slot)
        m.d.comb += [
            # The places of the row in the output pass and of the rows behind it are not free.
            limit.eq(walk.row + self.ROWS_AHEAD),
            summing_walk.rows_ready.eq(Mux(limit < self.report.rows_ready, limit, self.report.rows_ready)),
            write.en.eq(delay(m, summing_walk.beat.valid, RESIDUAL_LATENCY, name="word_valid")),
            write.addr.eq(delay(m, written, RESIDUAL_LATENCY, name="word_address")),
            write.data.eq(self.residual_read.data),
            walk.wanted.ready.eq(1),
            read.addr.eq(delay(m, place, _AHEAD, name="buffer_place")),
        ]
        m.d.sync += lanes.word.eq(read.data)

    def _sequence(self, m: Module, work: wiring.PureInterface, row_written: Signal) -> None:
        """Count the job's rows; it is done when all of them are written."""
        running = Signal()
        # The comparison is registered, because the sequencer's decisions depend on `done`.
        m.d.sync += self.report.done.eq(running & ~self.report.done & (self.report.rows_done == work.job.rows))
        with m.If(row_written):
            m.d.sync += self.report.rows_done.eq(self.report.rows_done + 1)
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += self.report.rows_done.eq(0)
        with m.If(work.start):
            m.d.sync += running.eq(1)
        with m.If(self.report.done):
            m.d.sync += running.eq(0)

    def _look_up_rows(
        self, m: Module, statistics: RowStatistics, walk: RowWalk, lanes: LayerNormLanes, work: wiring.PureInterface
    ) -> None:
        """The table of rows: filled by the statistics, read at the same time as the residual word."""
        m.submodules.rows = rows = memory.Memory(shape=row_scale_layout(self._config), depth=self.ROWS_AHEAD, init=[])
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [
            write.en.eq(statistics.result.valid),
            write.addr.eq(walk.scaled),
            write.data.eq(statistics.result.payload),
            read.addr.eq(delay(m, walk.row[: exact_log2(self.ROWS_AHEAD)], _AHEAD, name="row")),
        ]
        # Rows finish their statistics in order, so that a count says which ones can be looked up.
        scaled = walk.scaled
        m.d.sync += lanes.row.eq(read.data)
        with m.If(_copies(work.job)):
            m.d.sync += assign(lanes.row, scale=work.job.scale_multiplier, mean=0, exponent=0)
        with m.If(work.start):
            m.d.sync += scaled.eq(0)
        with m.Elif(statistics.result.valid):
            m.d.sync += scaled.eq(scaled + 1)
            ahead = scaled - walk.row
            check(m, 1, ahead < self.ROWS_AHEAD, "statistics are {} rows ahead", ahead)

    def _look_up_shifts(self, m: Module, walk: RowWalk, lanes: LayerNormLanes) -> None:
        """Channel shifts: written by chunks, read at the same time as the residual word."""
        config, given = self._config, self.shift_write.payload
        depth = config.layernorm_channels // config.chunk_bytes
        m.submodules.shifts = shifts = memory.Memory(shape=given.shifts.shape(), depth=depth, init=[])
        write, read = shifts.write_port(), shifts.read_port()
        chunk_bits, lane_bits = exact_log2(config.chunk_bytes), exact_log2(config.layernorm_lanes)
        channel = walk.beat.payload.channel
        group = delay(m, channel[lane_bits:chunk_bits], RESIDUAL_LATENCY, name="shift_group")
        chunk = Signal(given.shifts.shape())
        size = lanes.channel_shifts.shape().size
        kept = chunk.as_value()
        groups = (kept[first : first + size] for first in range(0, len(kept), size))
        m.d.comb += [
            write.en.eq(self.shift_write.valid),
            write.addr.eq(given.address),
            write.data.eq(given.shifts),
            read.addr.eq(delay(m, channel[chunk_bits:], _AHEAD, name="shift_chunk")),
            lanes.channel_shifts.eq(pick(groups, group)),
        ]
        m.d.sync += chunk.eq(read.data)
        exists = given.address < depth
        check(m, self.shift_write.valid, exists, "channel shift chunk {} does not exist", given.address)

    def _check(self, m: Module) -> None:
        """What the command's checks guarantee."""
        given = self.job.payload
        channels = given.words << exact_log2(self._config.lanes)
        fits = (channels != 0) & (channels <= self._config.layernorm_channels) & (given.channels <= channels)
        message = "LayerNorm of rows of {} channels in {} words"
        check(m, self.job.valid, given.rows != 0, "LayerNorm of {} rows", given.rows)
        check(m, self.job.valid, fits, message, given.channels, given.words)
