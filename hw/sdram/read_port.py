"""ReadPort: one client's AXI4 read channels."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Const, Module, Mux, ResetSignal, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.axi import DECERR, OKAY, Axi4Read
from hw.interfaces.sdram import SIZE_BYTES, WORD_BITS, burst_request_layout, words_per_beat
from hw.interfaces.strobe import Strobe
from hw.sdram.buffer import BeatBuffer


class ReadPort(wiring.Component):
    """Asks for a burst when there is room for all of it, and keeps its words until the client takes them.

    Parameters
    ----------
    config:
        Width of the bus.
    size_bytes:
        Of the memory, a power of two.

    Members
    -------
    bus:
        From the client. A burst that begins beyond the memory is answered with DECERR, after all bursts before it.
    request:
        Bursts, each as soon as there is room.
    word:
        Words of those bursts, in order; ``last`` with a burst's last one.

    Timing: AR transfer to ``request`` 2 cycles; a burst every 3 cycles; ``word`` to R 3 cycles.
    """

    def __init__(self, config: AcceleratorConfig, size_bytes: int = SIZE_BYTES) -> None:
        self._address_bits = exact_log2(size_bytes)
        self._config = config
        self._words = words_per_beat(config)
        self._beat = data.StructLayout({"data": 8 * config.memory_bytes, "last": 1, "failed": 1})
        self._depth = 1024 if self._words == 1 else 512
        super().__init__(
            {
                "bus": In(Axi4Read(config)),
                "request": Out(stream.Signature(burst_request_layout(config))),
                "word": In(Strobe(data.StructLayout({"data": WORD_BITS, "last": 1}))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A burst at a time in front, a buffer of beats behind."""
        m = Module()
        r = self.bus.r
        m.submodules.beats = self._buffer = buffer = BeatBuffer(self._beat, self._depth)
        # Beats of refused bursts are made here.
        self._refusing, self._last_refused = Signal(), Signal()
        m.d.comb += [
            r.valid.eq(buffer.out.valid),
            r.payload.data.eq(buffer.out.payload.data),
            r.payload.last.eq(buffer.out.payload.last),
            r.payload.resp.eq(Mux(buffer.out.payload.failed, DECERR, OKAY)),
            buffer.out.ready.eq(r.ready),
        ]
        self._requests(m)
        self._beats(m)
        return m

    def _requests(self, m: Module) -> None:
        """Keep one burst until it may be asked for, or refuse it."""
        ar, r, request, refusing = self.bus.ar, self.bus.r, self.request, self._refusing
        asked, outside, fits, granted = Signal(), Signal(), Signal(), Signal()
        beats_minus_one = Signal(8)
        free, change = Signal(range(self._depth + 1), init=self._depth), Signal(signed(10))
        m.d.comb += [
            ar.ready.eq(~asked),
            request.valid.eq(fits),
            request.payload.words_minus_one.eq(Cat(Const(self._words - 1, exact_log2(self._words)), beats_minus_one)),
            granted.eq(request.valid & request.ready),
            self._last_refused.eq(beats_minus_one == 0),
        ]
        # Room only grows while a burst waits, and the burst before is taken off before the next one asks. One outside
        # waits until everything before it is delivered.
        m.d.sync += [
            change.eq((r.valid & r.ready) - Mux(granted, beats_minus_one + 1, refusing)),
            free.eq(free + change),
            fits.eq(asked & ~outside & ~granted & (free > beats_minus_one)),
        ]
        with m.If(ar.valid & ar.ready):
            m.d.sync += [
                asked.eq(1),
                outside.eq(ar.payload.addr[self._address_bits :].any()),
                request.payload.address.eq(ar.payload.addr[exact_log2(WORD_BITS // 8) :]),
                beats_minus_one.eq(ar.payload.len),
            ]
        with m.If(granted):
            m.d.sync += asked.eq(0)
        with m.If(asked & outside & (free == self._depth)):
            m.d.sync += refusing.eq(1)
        with m.If(refusing):
            m.d.sync += beats_minus_one.eq(beats_minus_one - 1)
            with m.If(self._last_refused):
                m.d.sync += [asked.eq(0), refusing.eq(0)]

    def _beats(self, m: Module) -> None:
        """Put words together to beats, the first in the low bits."""
        into, word = self._buffer.into, self.word
        complete: Value = Const(1)
        m.d.comb += into.payload.data.eq(word.payload.data)
        if self._words > 1:
            part, earlier = Signal(range(self._words)), Signal(8 * self._config.memory_bytes - WORD_BITS)
            complete = part == self._words - 1
            m.d.comb += into.payload.data.eq(Cat(earlier, word.payload.data))
            with m.If(word.valid):
                m.d.sync += [part.eq(part + 1), earlier.eq(Cat(earlier, word.payload.data)[WORD_BITS:])]
        m.d.comb += [
            into.payload.last.eq(Mux(self._refusing, self._last_refused, word.payload.last)),
            into.payload.failed.eq(self._refusing),
            into.valid.eq((word.valid & complete) | self._refusing),
        ]
        with m.If(into.valid & ~ResetSignal()):
            m.d.sync += Assert(into.ready, "a word was read for which there is no room")
