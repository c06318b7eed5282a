"""RowWalk: the order in which LayerNorm reads its rows."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.enum import Enum
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces import Strobe
from hw.isa import FIELDS, Opcode
from hw.nonlinear.layernorm_lanes import layernorm_beat, wide_channels

_SEQUENCER_FIELDS = ("opcode", "task_mask", "stream_address", "stream_bytes")


def layernorm_job() -> data.StructLayout:
    """The fields of a LAYERNORM command that concern the unit."""
    fields = FIELDS[Opcode.LAYERNORM]
    return data.StructLayout({field.name: field.width for field in fields if field.name not in _SEQUENCER_FIELDS})


class Pass(Enum, shape=2):
    """What LayerNorm goes through its rows for."""

    STATISTICS = 0
    NORMALISE = 1
    WIDE = 2


class RowWalk(wiring.Component):
    """Addresses and beats of one pass over all rows, a beat a cycle.

    Parameters
    ----------
    config:
        Sizes of the machine.
    interval:
        Cycles from the end of one row to the end of the next, at least, in the statistics pass.

    Members
    -------
    start: In(1)
        Pulse: begin a pass.
    job: In(layernorm_job), current: In(Pass)
        Stable during a pass.
    row: Out, address: Out(16), beat: Out(Strobe(layernorm_beat))
        Row number, residual word and what to do with it, all in the same cycle.
    ended: Out(1)
        Pulse with the last beat.
    """

    def __init__(self, config: AcceleratorConfig, interval: int) -> None:
        self._config, self._interval = config, interval
        super().__init__(
            {
                "start": In(1),
                "job": In(layernorm_job()),
                "current": In(Pass),
                "row": Out(range(config.max_tokens)),
                "address": Out(16),
                "beat": Out(Strobe(layernorm_beat(config))),
                "ended": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job, beat = self.job, self.beat.payload
        base, word, part = Signal(16), Signal(10), Signal.like(beat.part)
        running, spacing = Signal(), Signal(range(self._interval))
        last_part, emit = self._parts(part)
        row_last, waiting, taken = Signal(), Signal(), Signal()
        statistics = self.current == Pass.STATISTICS
        m.d.comb += [
            row_last.eq(last_part & (word == job.words - 1)),
            waiting.eq(row_last & statistics & (spacing != 0)),
            taken.eq(running & ~waiting),
            self.ended.eq(taken & row_last & (self.row == job.rows - 1)),
            self.address.eq(base + word),
            self.beat.valid.eq(taken),
            beat.statistics.eq(statistics),
            beat.wide.eq(self.current == Pass.WIDE),
            beat.part.eq(part),
            beat.channel.eq(self._channel(word, part)),
            beat.first.eq((word == 0) & (part == 0)),
            beat.last.eq(row_last),
            beat.emit.eq(emit),
        ]
        with m.If(spacing != 0):
            m.d.sync += spacing.eq(spacing - 1)
        with m.If(self.start):
            m.d.sync += [running.eq(1), base.eq(job.source_base), self.row.eq(0)]
        with m.Elif(taken):
            m.d.sync += part.eq(Mux(last_part, 0, part + 1))
            with m.If(last_part):
                m.d.sync += word.eq(Mux(row_last, 0, word + 1))
            with m.If(row_last):
                m.d.sync += [base.eq(base + job.source_stride), self.row.eq(self.row + 1)]
                m.d.sync += [spacing.eq(self._interval - 1), running.eq(~self.ended)]
        return m

    def _parts(self, part: Signal) -> tuple[Value, Value]:
        """Whether ``part`` is the last of its word, and whether it completes an output word."""
        config = self._config
        narrow, wide = config.lanes // config.layernorm_lanes, config.lanes // wide_channels(config)
        is_wide = self.current == Pass.WIDE
        last = part == Mux(is_wide, wide - 1, narrow - 1)
        # A wide pass fills two words for one: the half's last part completes one.
        half_bits = exact_log2(wide // 2)
        return last, Mux(is_wide, part[:half_bits].all() if half_bits else 1, last)

    def _channel(self, word: Signal, part: Signal) -> Value:
        """Number of the beat's first channel."""
        config = self._config
        part_bits, size = exact_log2(config.lanes // wide_channels(config)), wide_channels(config)
        return Cat(Const(0, exact_log2(size)), part[:part_bits], word)
