"""LayerNormOutput: gathers normalised channels into scratchpad words."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import assign
from tessera.hw.blocks.jobs import hand_over
from tessera.hw.blocks.queue import Queue
from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import layernorm_job_layout
from tessera.hw.interfaces.layernorm import normalised_layout, wide_channels
from tessera.hw.interfaces.memory import RESIDUAL_LATENCY, lanes_layout, scratch_write_layout
from tessera.hw.interfaces.strobe import Strobe, Work
from tessera.hw.isa import ADDRESS_WIDTH
from tessera.hw.layernorm.lanes import LayerNormLanes


class LayerNormOutput(wiring.Component):
    """Shifts channels into a word and queues it when it is complete; row r goes to ``base + r * stride``.

    The pipeline before it cannot be held up, so a place of the queue is taken when a beat sets out.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    work: In(Work(layernorm_job))
        The next word is the first of row 0. A row's narrow words come first, then the wide ones if there are any.
    room: Out(1), reserve: In(1)
        Whether another word has a place; a beat that completes a word has set out.
    result: In(Strobe(normalised))
        Normalised channels. A wide value becomes two lanes: its low bits, then its high bits (sign-extended).
    scratch_write: Out(stream(scratch_write))
        Whole words.
    row_written: Out(1)
        With the transfer of a row's last word.

    Timing: latency ``LATENCY`` cycles and one more. Resources: ``queue_depth`` words in LUT RAM.
    """

    LATENCY = 3
    """Cycles from a word's last channels to the output of the slice behind the queue of words."""

    @classmethod
    def queue_depth(cls, config: AcceleratorConfig) -> int:
        """Words that are on their way from a beat's read to the place that it frees; rounded to a power of two."""
        beats_per_word = max(1, config.lanes // (2 * config.layernorm_lanes))
        cycles = RESIDUAL_LATENCY + LayerNormLanes.LATENCY + cls.LATENCY + 2
        return 1 << (-(-cycles // beats_per_word)).bit_length()

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(layernorm_job_layout())),
                "room": Out(1, init=1),
                "reserve": In(1),
                "result": In(Strobe(normalised_layout(config))),
                "scratch_write": Out(stream.Signature(scratch_write_layout(config))),
                "row_written": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, job = self._config, self.work.job
        beat, values = self.result.payload.beat, self.result.payload.values
        width = config.numerics.activation_width
        narrow = Cat(value[:width] for value in values)
        pairs = []
        for index in range(wide_channels(config)):
            pair = Signal(signed(2 * width), name=f"pair_{index}")
            m.d.comb += pair.eq(values[index])
            pairs.append(pair)
        wide = Cat(*pairs)

        queued = Signal(data.StructLayout({"address": ADDRESS_WIDTH, "data": lanes_layout(config), "row_last": 1}))
        queued_valid = Signal()
        narrow_base, wide_base, word = Signal(ADDRESS_WIDTH), Signal(ADDRESS_WIDTH), Signal(ADDRESS_WIDTH)
        complete, word_bits = self.result.valid & beat.emit, queued.data.as_value()
        # Channels are shifted in from above, so that a word needs no multiplexer for the places of its parts.
        m.d.sync += queued_valid.eq(complete)
        with m.If(self.result.valid):
            m.d.sync += [
                word_bits.eq(Mux(beat.wide, Cat(word_bits, wide)[len(wide) :], Cat(word_bits, narrow)[len(narrow) :])),
                queued.address.eq(Mux(beat.wide, wide_base, narrow_base) + word),
                queued.row_last.eq(beat.last & (beat.wide == job.wide)),
            ]
        with m.If(self.work.start):
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
        """Words wait here for the scratchpad, the oldest in a slice, because the scratchpad's arbiter is far away."""
        depth, write = self.queue_depth(self._config), self.scratch_write
        m.submodules.queue = queue = Queue(queued.shape(), depth, buffered=True)
        # `room` is `places != 0` a cycle early: the walk's decisions depend on it.
        places, taken = Signal(range(depth + 1), init=depth), Signal()
        m.submodules.leaving = leaving = RegisterSlice(queued.shape())
        connect(m, queue.target, leaving.source)
        hand_over(m, leaving.target, write)
        oldest = leaving.target.payload
        m.d.comb += [
            queue.source.payload.eq(queued),
            queue.source.valid.eq(queued_valid),
            *assign(write.payload, oldest, columns=~0),
            taken.eq(write.valid & write.ready),
            self.row_written.eq(taken & oldest.row_last),
        ]
        m.d.sync += [
            places.eq(places - self.reserve + taken),
            self.room.eq(Mux(self.reserve & ~taken, places != 1, taken | (places != 0))),
        ]
        check(m, queued_valid, queue.source.ready, "LayerNorm's queue of words overflows")
        check(m, self.reserve, self.room, "a place was taken that LayerNorm's queue does not have")
