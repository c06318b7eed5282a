"""ReadPort: one client's AXI4 read channels."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Const, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.boards.sdram.chip import SIZE_BYTES, WORD_BITS
from hw.boards.sdram.interfaces import burst_request, words_per_beat
from hw.config import AcceleratorConfig
from hw.interfaces import Axi4Read, Strobe

OKAY, DECERR = 0b00, 0b11
"""AXI responses: done, and no memory there."""


class ReadPort(wiring.Component):
    """Asks for a burst when there is room for all of it, and keeps its words until the client takes them.

    Parameters
    ----------
    config:
        Width of the bus.

    Members
    -------
    bus:
        From the client. A burst that begins beyond the chip is answered with DECERR, after all bursts before it.
    request:
        Bursts, each as soon as there is room.
    word:
        Words of those bursts, in order; ``last`` with a burst's last one.

    Timing: AR transfer to ``request`` 2 cycles; a burst every 3 cycles; ``word`` to R 2 cycles.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._words = words_per_beat(config)
        self._width = 8 * config.memory_bytes
        self._depth = 1024 if self._words == 1 else 512
        super().__init__(
            {
                "bus": In(Axi4Read(config)),
                "request": Out(stream.Signature(burst_request(config))),
                "word": In(Strobe(data.StructLayout({"data": WORD_BITS, "last": 1}))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A burst at a time in front, a buffer of beats behind."""
        m = Module()
        bus, depth = self.bus, self._depth
        self._beat = data.StructLayout({"data": self._width, "last": 1, "failed": 1})
        m.submodules.buffer = buffer = SyncFIFOBuffered(width=self._beat.size, depth=depth)
        taken, refusing = Signal(), Signal()
        out = Signal(self._beat)
        m.d.comb += [
            out.eq(buffer.r_data),
            bus.rvalid.eq(buffer.r_rdy),
            bus.rdata.eq(out.data),
            bus.rlast.eq(out.last),
            bus.rresp.eq(Mux(out.failed, DECERR, OKAY)),
            taken.eq(bus.rvalid & bus.rready),
            buffer.r_en.eq(bus.rready),
        ]
        last_refused = self._requests(m, taken, refusing)
        self._beats(m, buffer, refusing, last_refused)
        return m

    def _requests(self, m: Module, taken: Signal, refusing: Signal) -> Signal:
        """Keep one burst until it may be asked for, or refuse it; returns whether a refused beat is its last."""
        bus, request = self.bus, self.request
        asked, outside, fits, granted, last = Signal(), Signal(), Signal(), Signal(), Signal()
        beats_minus_one = Signal(8)
        free = Signal(range(self._depth + 1), init=self._depth)
        m.d.comb += [
            bus.arready.eq(~asked),
            request.valid.eq(fits),
            request.payload.words_minus_one.eq(Cat(Const(self._words - 1, exact_log2(self._words)), beats_minus_one)),
            granted.eq(request.valid & request.ready),
            last.eq(beats_minus_one == 0),
        ]
        # Room only grows while a burst waits. One outside waits until everything before it is delivered.
        m.d.sync += [
            fits.eq(asked & ~outside & ~granted & (free > beats_minus_one)),
            free.eq(free + taken - Mux(granted, beats_minus_one + 1, refusing)),
        ]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [
                asked.eq(1),
                outside.eq(bus.araddr[exact_log2(SIZE_BYTES) :].any()),
                request.payload.address.eq(bus.araddr[exact_log2(WORD_BITS // 8) :]),
                beats_minus_one.eq(bus.arlen),
            ]
        with m.If(granted):
            m.d.sync += asked.eq(0)
        with m.If(asked & outside & (free == self._depth)):
            m.d.sync += refusing.eq(1)
        with m.If(refusing):
            m.d.sync += beats_minus_one.eq(beats_minus_one - 1)
            with m.If(last):
                m.d.sync += [asked.eq(0), refusing.eq(0)]
        return last

    def _beats(self, m: Module, buffer: SyncFIFOBuffered, refusing: Signal, last_refused: Signal) -> None:
        """Put words together to beats, the first in the low bits."""
        beat = Signal(self._beat)
        word = self.word
        complete: Value = Const(1)
        m.d.comb += beat.data.eq(word.payload.data)
        if self._words > 1:
            part, earlier = Signal(range(self._words)), Signal(self._width - WORD_BITS)
            complete = part == self._words - 1
            m.d.comb += beat.data.eq(Cat(earlier, word.payload.data))
            with m.If(word.valid):
                m.d.sync += [part.eq(part + 1), earlier.eq(Cat(earlier, word.payload.data)[WORD_BITS:])]
        m.d.comb += [
            beat.last.eq(Mux(refusing, last_refused, word.payload.last)),
            beat.failed.eq(refusing),
            buffer.w_data.eq(beat),
            buffer.w_en.eq((word.valid & complete) | refusing),
        ]
        with m.If(buffer.w_en & ~ResetSignal()):
            m.d.sync += Assert(buffer.w_rdy, "a word was read for which there is no room")
