"""WritePort: one client's AXI4 write channels."""

from __future__ import annotations

from amaranth.hdl import Assert, Cat, Const, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.axi import DECERR, OKAY, Axi4Write
from hw.interfaces.sdram import SIZE_BYTES, WORD_BITS, burst_request_layout, words_per_beat, write_word_layout
from hw.sdram.buffer import BeatBuffer


class WritePort(wiring.Component):
    """Asks for a burst when all of its beats are here, so that a slow client never makes the chip wait.

    Parameters
    ----------
    config:
        Width of the bus.
    size_bytes:
        Of the memory, a power of two.

    Members
    -------
    bus:
        From the client. A burst that begins beyond the memory writes nothing and is answered with DECERR, after all
        bursts before it.
    request:
        Bursts, each once it is complete.
    word:
        The words of those bursts, in order.
    finished:
        The last word of the oldest burst asked for is written: it is answered, and whoever asks later reads it.

    Timing: WLAST to ``request`` 2 cycles; ``finished`` to B 1 cycle.
    """

    OUTSTANDING = 7
    """Bursts asked for and not yet answered."""

    def __init__(self, config: AcceleratorConfig, size_bytes: int = SIZE_BYTES) -> None:
        self._address_bits = exact_log2(size_bytes)
        self._words = words_per_beat(config)
        self._beat = data.StructLayout({"data": 8 * config.memory_bytes, "strobes": config.memory_bytes})
        self._depth = 1024 if self._words == 1 else 512
        super().__init__(
            {
                "bus": In(Axi4Write(config)),
                "request": Out(stream.Signature(burst_request_layout(config))),
                "word": Out(stream.Signature(write_word_layout())),
                "finished": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A burst at a time in front, a buffer of beats behind, answers counted."""
        m = Module()
        w = self.bus.w
        m.submodules.beats = self._buffer = buffer = BeatBuffer(self._beat, self._depth)
        self._granted, self._refusing, self._refused = Signal(), Signal(), Signal()
        self._settled, self._idle = Signal(), Signal()
        complete = Signal(range(self._depth + 1))
        m.d.comb += [
            w.ready.eq(buffer.into.ready),
            buffer.into.valid.eq(w.valid),
            buffer.into.payload.data.eq(w.payload.data),
            buffer.into.payload.strobes.eq(w.payload.strb),
        ]
        m.d.sync += complete.eq(complete + (w.valid & w.ready & w.payload.last) - (self._granted | self._refused))
        self._requests(m, complete != 0)
        self._take_words(m)
        self._answers(m)
        return m

    def _requests(self, m: Module, complete: Value) -> None:
        """Keep one burst until it is complete; then ask for it, or refuse it and throw its beats away."""
        aw, request = self.bus.aw, self.request
        asked, outside, ready = Signal(), Signal(), Signal()
        beats_minus_one = Signal(8)
        m.d.comb += [
            aw.ready.eq(~asked),
            request.valid.eq(ready),
            request.payload.words_minus_one.eq(Cat(Const(self._words - 1, exact_log2(self._words)), beats_minus_one)),
            self._granted.eq(request.valid & request.ready),
            self._refused.eq(self._refusing & self._buffer.out.valid & (beats_minus_one == 0)),
        ]
        m.d.sync += [
            ready.eq(asked & ~outside & complete & self._settled & ~self._granted),
            self._refusing.eq(asked & outside & complete & self._idle & ~self._refused),
        ]
        with m.If(aw.valid & aw.ready):
            m.d.sync += [
                asked.eq(1),
                outside.eq(aw.payload.addr[self._address_bits :].any()),
                request.payload.address.eq(aw.payload.addr[exact_log2(WORD_BITS // 8) :]),
                beats_minus_one.eq(aw.payload.len),
            ]
        with m.If(self._granted | self._refused):
            m.d.sync += asked.eq(0)
        with m.If(self._refusing & self._buffer.out.valid):
            m.d.sync += beats_minus_one.eq(beats_minus_one - 1)

    def _take_words(self, m: Module) -> None:
        """Take beats apart, the low bits first."""
        beat, word = self._buffer.out, self.word
        last: Value = Const(1)
        part = Signal(range(max(2, self._words)))
        m.d.comb += [
            word.valid.eq(beat.valid),
            word.payload.data.eq(beat.payload.data.word_select(part, WORD_BITS)),
            word.payload.mask.eq(~beat.payload.strobes.word_select(part, WORD_BITS // 8)),
        ]
        if self._words > 1:
            last = part == self._words - 1
            with m.If(word.valid & word.ready):
                m.d.sync += part.eq(part + 1)
        m.d.comb += beat.ready.eq((word.ready & last) | self._refusing)

    def _answers(self, m: Module) -> None:
        """Count bursts without an answer, and answers not yet taken; a refusal is always the oldest."""
        b = self.bus.b
        open_bursts, written = Signal(range(self.OUTSTANDING + 1)), Signal(range(self.OUTSTANDING + 1))
        refusal, taken = Signal(), Signal()
        m.d.comb += [
            self._settled.eq(open_bursts != self.OUTSTANDING),
            self._idle.eq(open_bursts == 0),
            b.valid.eq(refusal | (written != 0)),
            b.payload.resp.eq(Mux(refusal, DECERR, OKAY)),
            taken.eq(b.valid & b.ready),
        ]
        m.d.sync += [
            open_bursts.eq(open_bursts + (self._granted | self._refused) - taken),
            written.eq(written + self.finished - (taken & ~refusal)),
            refusal.eq(self._refused | (refusal & ~taken)),
        ]
        with m.If(self.finished & ~ResetSignal()):
            m.d.sync += Assert(open_bursts != 0, "a burst was finished that nobody asked for")
