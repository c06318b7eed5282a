"""WritePort: one client's AXI4 write channels."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.jobs import hand_over
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import DECERR, OKAY, Axi4Write
from tessera.hw.interfaces.sdram import SIZE_BYTES, WORD_BITS, burst_request_layout, words_per_beat, write_word_layout
from tessera.hw.sdram.buffer import BeatBuffer, buffered_beats
from tessera.hw.sdram.front import BurstFront


class WritePort(wiring.Component):
    """Asks for a burst when all of its beats are here, so that a slow client never makes the chip wait.

    ::

        bus.aw ─► BurstFront ─► request
        bus.w  ─► BeatBuffer ─► beats taken apart ─► word
        bus.b  ◄─ answers ◄─ finished

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus.
    size_bytes:
        Size of the memory, a power of two.

    Members
    -------
    bus:
        The client. A burst that begins beyond the memory writes nothing and is answered with DECERR, after all bursts
        before it.
    request:
        Bursts, each once it is complete.
    word:
        The words of those bursts, in order.
    finished:
        The last word of the oldest burst asked for is written. The burst is answered, and whoever asks later reads it.

    Timing: WLAST to ``request`` 2 cycles; ``finished`` to B 1 cycle.
    """

    OUTSTANDING = 7
    """Bursts asked for and not yet answered."""

    def __init__(self, config: AcceleratorConfig, size_bytes: int = SIZE_BYTES) -> None:
        self._config, self._size_bytes = config, size_bytes
        self._depth = buffered_beats(config)
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
        w, width = self.bus.w, self._config.memory_bytes
        beat = data.StructLayout({"data": 8 * width, "strb": width})
        m.submodules.beats = buffer = BeatBuffer(beat, self._depth)
        m.submodules.front = front = BurstFront(self._config, self._size_bytes)
        connect(m, flipped(self.bus).aw, front.burst)
        connect(m, front.request, flipped(self.request))
        complete = Signal(range(self._depth + 1))
        over = front.granted | front.refused
        # The buffer takes whole beats ahead of their address, because AXI lets data come first.
        hand_over(m, w, buffer.into)
        m.d.comb += same_fields(buffer.into.payload, w.payload, "data", "strb")
        # A complete burst cannot stall the chip. Beats may come ahead of their address, so the two are counted apart.
        m.d.sync += complete.eq(complete + (w.valid & w.ready & w.payload.last) - over)
        open_bursts = self._answers(m, over, front.refused)
        # A burst outside waits until all bursts before it are answered, because B keeps their order; then its beats are
        # thrown away.
        refusing = Signal()
        m.d.comb += [
            front.may_ask.eq((complete != 0) & (open_bursts != self.OUTSTANDING)),
            front.drop.eq(refusing & buffer.out.valid),
        ]
        m.d.sync += refusing.eq(front.outside & (complete != 0) & (open_bursts == 0) & ~front.refused)
        self._take_words(m, buffer.out, refusing)
        return m

    def _take_words(self, m: Module, beat: stream.Interface, refusing: Signal) -> None:
        """Take beats apart, the low bits first."""
        word, words = self.word, words_per_beat(self._config)
        last: Value = Const(1)
        part = Signal(range(max(2, words)))
        m.d.comb += [
            word.valid.eq(beat.valid),
            word.payload.data.eq(beat.payload.data.word_select(part, WORD_BITS)),
            word.payload.mask.eq(~beat.payload.strb.word_select(part, WORD_BITS // 8)),
        ]
        if words > 1:
            last = part == words - 1
            with m.If(word.valid & word.ready):
                m.d.sync += part.eq(part + 1)
        # A beat leaves with its last word, or at once when its burst is thrown away.
        m.d.comb += beat.ready.eq((word.ready & last) | refusing)

    def _answers(self, m: Module, over: Value, refused: Value) -> Signal:
        """Count answers not yet taken, and bursts without an answer, which are returned.

        A refusal is always the oldest answer, because a burst is refused only when none before it is open.
        """
        b = self.bus.b
        open_bursts, written = Signal(range(self.OUTSTANDING + 1)), Signal(range(self.OUTSTANDING + 1))
        refusal, taken = Signal(), Signal()
        m.d.comb += [
            b.valid.eq(refusal | (written != 0)),
            b.payload.resp.eq(Mux(refusal, DECERR, OKAY)),
            taken.eq(b.valid & b.ready),
        ]
        m.d.sync += [
            open_bursts.eq(open_bursts + over - taken),
            written.eq(written + self.finished - (taken & ~refusal)),
            refusal.eq(refused | (refusal & ~taken)),
        ]
        check(m, self.finished, open_bursts != 0, "a burst was finished that nobody asked for")
        return open_bursts
