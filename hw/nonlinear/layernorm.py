"""LayerNorm: rows of the residual stream to activations, and to the gate's 16-bit input."""

from __future__ import annotations

from amaranth.hdl import Assert, Format, Module, Mux, ResetSignal, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces import MEMORY_LATENCY, Strobe, residual_lanes, scratch_write
from hw.memory.stream import shift_write
from hw.nonlinear.layernorm_lanes import LayerNormLanes
from hw.nonlinear.layernorm_output import LayerNormOutput
from hw.nonlinear.layernorm_walk import Pass, RowWalk, layernorm_job
from hw.nonlinear.pipeline import delay
from hw.nonlinear.row_statistics import MAX_CHANNELS, RowStatistics, row_scale


class LayerNorm(wiring.Component):
    """Layer normalisation without gain and offset, which belong to the next weights (integer golden: ``layernorm``).

    All rows are read once for their statistics, once to be normalised, and once more for the wide output if there is
    one. Every pass takes ``layernorm_lanes`` channels a cycle and uses the same multipliers.

    ::

        residual word ─► LayerNormLanes ─┬─ sums ─► RowStatistics ─► table of rows ─► (back to the lanes)
        channel shifts ──────┘           └─ values ─► LayerNormOutput ─► scratchpad

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    job: In(stream(layernorm_job))
        Rows 1 to max_tokens, words 1 to 1024 / T, channels at most words * T. Taken when idle.
    shift_write: In(Strobe(shift_write))
        Extra precision (0 to 7 bits) of one chunk of channels: channel = address * chunk_bytes + index. Before the job.
    residual_read_enable, residual_read_address: Out, residual_read_data: In(residual_lanes)
        Read port of the residual memory, MEMORY_LATENCY.
    scratch_write: Out(Strobe(scratch_write))
        Whole words of activations; of wide values two words a residual word, a value's low half in lane 2i.
    done: Out(1)
        Pulse: everything has been written.

    Timing: a row takes ``words * T / layernorm_lanes`` cycles a pass (statistics: at least ``RowStatistics.interval``;
    wide: at least two cycles a word), and a pass about 25 more.
    Resources: layernorm_lanes + 3 multipliers; the table of max_tokens rows in block RAM.

    Raises
    ------
    ValueError
        For words of more than 1024 channels.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        if max(config.lanes, config.chunk_bytes) > MAX_CHANNELS:
            raise ValueError(f"lanes is {config.lanes}; LayerNorm takes rows of at most {MAX_CHANNELS} channels")
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(layernorm_job())),
                "shift_write": In(Strobe(shift_write(config))),
                "residual_read_enable": Out(1),
                "residual_read_address": Out(16),
                "residual_read_data": In(residual_lanes(config)),
                "scratch_write": Out(Strobe(scratch_write(config))),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.lanes = lanes = LayerNormLanes(config)
        m.submodules.statistics = statistics = RowStatistics(config)
        m.submodules.output = output = LayerNormOutput(config)
        m.submodules.walk = walk = RowWalk(config, statistics.interval)
        job, current, start = Signal(layernorm_job()), Signal(Pass), Signal()
        for constants in (lanes.constants, statistics.constants):
            m.d.comb += [constants[name].eq(job[name]) for name, _ in constants.shape()]
        wide = current == Pass.WIDE
        m.d.comb += [
            walk.start.eq(start),
            walk.job.eq(job),
            walk.current.eq(current),
            self.residual_read_enable.eq(walk.beat.valid),
            self.residual_read_address.eq(walk.address),
            lanes.beat.valid.eq(delay(m, walk.beat.valid, MEMORY_LATENCY, name="beat_valid")),
            lanes.beat.payload.eq(delay(m, walk.beat.payload, MEMORY_LATENCY, name="beat")),
            lanes.word.eq(self.residual_read_data),
            statistics.sums.valid.eq(lanes.sums.valid),
            statistics.sums.payload.eq(lanes.sums.payload),
            output.start.eq(start),
            output.base.eq(Mux(wide, job.wide_base, job.destination_base)),
            output.stride.eq(Mux(wide, job.wide_stride, job.destination_stride)),
            output.result.valid.eq(lanes.result.valid),
            output.result.payload.eq(lanes.result.payload),
            output.values.eq(lanes.values),
            self.scratch_write.valid.eq(output.scratch_write.valid),
            self.scratch_write.payload.eq(output.scratch_write.payload),
        ]
        self._look_up_shifts(m, walk, lanes)
        rows_out = self._look_up_rows(m, statistics, walk, lanes, start, output.row_written)
        self._sequence(m, job, current, start, walk.ended, rows_out == job.rows)
        return m

    def _sequence(
        self, m: Module, job: data.View, current: Signal, start: Signal, ended: Signal, complete: Signal
    ) -> None:
        """One pass after the other; a pass ends when its last row has come out."""
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += self.job.ready.eq(1)
                with m.If(self.job.valid):
                    m.d.sync += [job.eq(self.job.payload), current.eq(Pass.STATISTICS)]
                    m.next = "START"
            with m.State("START"):
                m.d.comb += start.eq(1)
                m.next = "WALK"
            with m.State("WALK"):
                with m.If(ended):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(complete):
                    m.next = "START"
                    with m.Switch(current):
                        with m.Case(Pass.STATISTICS):
                            m.d.sync += current.eq(Pass.NORMALISE)
                        with m.Default():
                            m.d.sync += current.eq(Pass.WIDE)
                            with m.If(~job.wide | (current == Pass.WIDE)):
                                m.d.comb += self.done.eq(1)
                                m.next = "IDLE"
        with m.If(self.job.valid & ~ResetSignal()):
            given = self.job.payload
            channels = given.words << exact_log2(self._config.lanes)
            m.d.sync += [
                Assert(
                    (given.rows != 0) & (given.rows <= self._config.max_tokens),
                    Format("LayerNorm of {} rows", given.rows),
                ),
                Assert(
                    (channels != 0) & (channels <= MAX_CHANNELS) & (given.channels <= channels),
                    Format("LayerNorm of rows of {} channels in {} words", given.channels, given.words),
                ),
            ]

    def _look_up_rows(
        self, m: Module, statistics: RowStatistics, walk: RowWalk, lanes: LayerNormLanes, start: Signal, written: Signal
    ) -> Signal:
        """The table of rows: filled by the statistics, read beside the residual; returns rows that came out."""
        config = self._config
        m.submodules.rows = rows = memory.Memory(shape=row_scale(config), depth=config.max_tokens, init=[])
        rows_out = Signal(range(config.max_tokens + 1))
        write, read = rows.write_port(), rows.read_port()
        m.d.comb += [
            write.en.eq(statistics.result.valid),
            write.addr.eq(rows_out),
            write.data.eq(statistics.result.payload),
            read.addr.eq(walk.row),
        ]
        m.d.sync += lanes.row.eq(read.data)
        with m.If(start):
            m.d.sync += rows_out.eq(0)
        with m.Elif(statistics.result.valid | written):
            m.d.sync += rows_out.eq(rows_out + 1)
        return rows_out

    def _look_up_shifts(self, m: Module, walk: RowWalk, lanes: LayerNormLanes) -> None:
        """Channel shifts: written by chunks, read beside the residual."""
        config, given = self._config, self.shift_write.payload
        depth = MAX_CHANNELS // config.chunk_bytes
        m.submodules.shifts = shifts = memory.Memory(shape=given.shifts.shape(), depth=depth, init=[])
        write, read = shifts.write_port(), shifts.read_port()
        chunk_bits, lane_bits = exact_log2(config.chunk_bytes), exact_log2(config.layernorm_lanes)
        channel = walk.beat.payload.channel
        group = delay(m, channel[lane_bits:chunk_bits], MEMORY_LATENCY, name="shift_group")
        chunk = Signal(given.shifts.shape())
        groups = data.ArrayLayout(lanes.channel_shifts.shape(), config.chunk_bytes // config.layernorm_lanes)
        m.d.comb += [
            write.en.eq(self.shift_write.valid),
            write.addr.eq(given.address),
            write.data.eq(given.shifts),
            read.addr.eq(channel[chunk_bits:]),
            lanes.channel_shifts.eq(data.View(groups, chunk.as_value())[group]),
        ]
        m.d.sync += chunk.eq(read.data)
        with m.If(self.shift_write.valid & ~ResetSignal()):
            m.d.sync += Assert(given.address < depth, Format("channel shift chunk {} does not exist", given.address))
