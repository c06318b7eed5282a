"""LayerNormOutput: gathers normalised channels into scratchpad words."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Module, Mux, ResetSignal, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from hw.blocks.register_slice import RegisterSlice
from hw.config import AcceleratorConfig
from hw.interfaces.jobs import layernorm_job_layout
from hw.interfaces.layernorm import layernorm_beat_layout, wide_channels
from hw.interfaces.memory import RESIDUAL_LATENCY, lanes_layout, scratch_write_layout
from hw.interfaces.strobe import Strobe
from hw.layernorm.lanes import LayerNormLanes

LATENCY = 3
"""Cycles from a word's last channels to the output of the slice behind the queue of words."""


def queue_depth(config: AcceleratorConfig) -> int:
    """Words from a beat's read to the freed place in the queue, when nothing holds them up; a power of two."""
    beats_a_word = max(1, config.lanes // (2 * config.layernorm_lanes))
    cycles = RESIDUAL_LATENCY + LayerNormLanes.LATENCY + LATENCY + 2
    return 1 << (-(-cycles // beats_a_word)).bit_length()


class LayerNormOutput(wiring.Component):
    """Shifts channels into a word and queues it when it is complete; row r goes to ``base + r * stride``.

    The pipeline before it cannot be held up: places of the queue are given away when a beat sets out.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    start: In(1)
        Pulse: the next word is the first of row 0.
    job: In(layernorm_job)
        Stable from ``start`` on. Of each row the narrow words come first, then the wide ones if there are any.
    room: Out(1), reserve: In(1)
        Whether another word has a place; a beat that completes a word has set out.
    result: In(Strobe(layernorm_beat)), values: In(lanes x signed(16))
        Normalised channels. A wide value becomes two lanes: its low bits, then its high bits (sign-extended).
    scratch_write: Out(stream(scratch_write))
        Whole words.
    row_written: Out(1)
        With the transfer of a row's last word.

    Timing: latency 4 cycles. Resources: ``queue_depth`` words in LUT RAM.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        values = data.ArrayLayout(signed(config.numerics.wide.width), config.layernorm_lanes)
        super().__init__(
            {
                "start": In(1),
                "job": In(layernorm_job_layout()),
                "room": Out(1),
                "reserve": In(1),
                "result": In(Strobe(layernorm_beat_layout(config))),
                "values": In(values),
                "scratch_write": Out(stream.Signature(scratch_write_layout(config))),
                "row_written": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, beat, job = self._config, self.result.payload, self.job
        width = config.numerics.activation_width
        narrow = Cat(value[:width] for value in self.values)
        pairs = []
        for index in range(wide_channels(config)):
            pair = Signal(signed(2 * width), name=f"pair_{index}")
            m.d.comb += pair.eq(self.values[index])
            pairs.append(pair)
        wide = Cat(*pairs)

        queued = Signal(data.StructLayout({"address": 16, "data": lanes_layout(config), "row_last": 1}))
        queued_valid = Signal()
        narrow_base, wide_base, word = Signal(16), Signal(16), Signal(16)
        complete, word_bits = self.result.valid & beat.emit, queued.data.as_value()
        m.d.sync += queued_valid.eq(complete)
        with m.If(self.result.valid):
            m.d.sync += [
                word_bits.eq(Mux(beat.wide, Cat(word_bits, wide)[len(wide) :], Cat(word_bits, narrow)[len(narrow) :])),
                queued.address.eq(Mux(beat.wide, wide_base, narrow_base) + word),
                queued.row_last.eq(beat.last & (beat.wide == job.wide)),
            ]
        with m.If(self.start):
            m.d.sync += [narrow_base.eq(job.destination_base), wide_base.eq(job.wide_base), word.eq(0)]
        with m.Elif(complete):
            m.d.sync += word.eq(Mux(beat.last, 0, word + 1))
            with m.If(beat.last & beat.wide):
                m.d.sync += wide_base.eq(wide_base + job.wide_stride)
            with m.If(beat.last & ~beat.wide):
                m.d.sync += narrow_base.eq(narrow_base + job.destination_stride)
        self._queue(m, queued, queued_valid)
        return m

    def _queue(self, m: Module, queued: data.View, queued_valid: Signal) -> None:
        """Words wait here for the scratchpad, the oldest in a slice: who else writes there is far away."""
        depth, write = queue_depth(self._config), self.scratch_write
        m.submodules.queue = queue = SyncFIFOBuffered(width=len(queued.as_value()), depth=depth)
        places, room, taken = Signal(range(depth + 1), init=depth), Signal(init=1), Signal()
        m.submodules.leaving = leaving = RegisterSlice(len(queued.as_value()))
        wiring.connect(m, queue.r_stream, leaving.source)
        oldest = data.View(queued.shape(), leaving.target.payload)
        m.d.comb += [
            queue.w_data.eq(queued),
            queue.w_en.eq(queued_valid),
            leaving.target.ready.eq(write.ready),
            write.valid.eq(leaving.target.valid),
            write.payload.address.eq(oldest.address),
            write.payload.data.eq(oldest.data),
            write.payload.columns.eq(~0),
            taken.eq(write.valid & write.ready),
            self.row_written.eq(taken & oldest.row_last),
            self.room.eq(room),
        ]
        m.d.sync += [
            places.eq(places - self.reserve + taken),
            room.eq(Mux(self.reserve & ~taken, places != 1, taken | (places != 0))),
        ]
        with m.If(~ResetSignal()):
            m.d.sync += [
                Assert(~queued_valid | queue.w_rdy, "LayerNorm's queue of words overflows"),
                Assert(self.room | ~self.reserve, "a place was taken that LayerNorm's queue does not have"),
            ]
