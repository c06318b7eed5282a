"""ReadPort: one client's AXI4 read channels."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.jobs import hand_over
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import DECERR, OKAY, Axi4Read
from tessera.hw.interfaces.sdram import SIZE_BYTES, WORD_BITS, burst_request_layout, words_per_beat
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.sdram.buffer import BeatBuffer, buffered_beats
from tessera.hw.sdram.front import BurstFront


class ReadPort(wiring.Component):
    """Asks for a burst when there is room for all of it, and keeps its words until the client takes them.

    ::

        bus.ar ─► BurstFront ─► request
        bus.r  ◄─ BeatBuffer ◄─ beats put together ◄─ word

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus.
    size_bytes:
        Size of the memory, a power of two.

    Members
    -------
    bus:
        The client. A burst that begins beyond the memory is answered with DECERR, after all bursts before it.
    request:
        Bursts, each as soon as there is room.
    word:
        Words of those bursts, in order; ``last`` with a burst's last one.

    Timing: AR transfer to ``request`` 2 cycles; a burst every 3 cycles; ``word`` to R 3 cycles.
    """

    def __init__(self, config: AcceleratorConfig, size_bytes: int = SIZE_BYTES) -> None:
        self._config, self._size_bytes = config, size_bytes
        self._depth = buffered_beats(config)
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
        beat = data.StructLayout({"data": 8 * self._config.memory_bytes, "last": 1, "failed": 1})
        m.submodules.beats = buffer = BeatBuffer(beat, self._depth)
        m.submodules.front = front = BurstFront(self._config, self._size_bytes)
        connect(m, flipped(self.bus).ar, front.burst)
        connect(m, front.request, flipped(self.request))
        # Beats carry the mark of a refusal through the buffer, so R answers good and refused bursts in their order.
        hand_over(m, buffer.out, r)
        m.d.comb += [
            *same_fields(r.payload, buffer.out.payload, "data", "last"),
            r.payload.resp.eq(Mux(buffer.out.payload.failed, DECERR, OKAY)),
        ]
        refusing = Signal()
        self._room(m, front, refusing)
        self._beats(m, buffer.into, front, refusing)
        return m

    def _room(self, m: Module, front: BurstFront, refusing: Signal) -> None:
        """Count free places, and decide when the burst in front may be asked for or refused.

        ``free`` is a cycle late. That is safe: room only grows while a burst waits, and the burst before is taken off
        before the next one asks. A burst outside the memory waits until everything before it is delivered, because R
        keeps the order of the bursts.
        """
        r = self.bus.r
        free, change = Signal(range(self._depth + 1), init=self._depth), Signal(signed(10))
        m.d.sync += [
            change.eq((r.valid & r.ready) - Mux(front.granted, front.beats_minus_one + 1, refusing)),
            free.eq(free + change),
        ]
        m.d.comb += [front.may_ask.eq(free > front.beats_minus_one), front.drop.eq(refusing)]
        with m.If(front.refused):
            m.d.sync += refusing.eq(0)
        with m.Elif(front.outside & (free == self._depth)):
            m.d.sync += refusing.eq(1)

    def _beats(self, m: Module, into: stream.Interface, front: BurstFront, refusing: Signal) -> None:
        """Put words together to beats, the first in the low bits; make the beats of refused bursts."""
        word, words = self.word, words_per_beat(self._config)
        complete: Value = Const(1)
        content: Value = word.payload.data
        if words > 1:
            # The last word needs no register: the beat enters the buffer in the cycle in which that word comes.
            part, earlier = Signal(range(words)), Signal(8 * self._config.memory_bytes - WORD_BITS)
            complete = part == words - 1
            content = Cat(earlier, word.payload.data)
            with m.If(word.valid):
                m.d.sync += [part.eq(part + 1), earlier.eq(content[WORD_BITS:])]
        m.d.comb += [
            into.payload.data.eq(content),
            into.payload.last.eq(Mux(refusing, front.beats_minus_one == 0, word.payload.last)),
            into.payload.failed.eq(refusing),
            into.valid.eq((word.valid & complete) | refusing),
        ]
        check(m, into.valid, into.ready, "a word was read for which there is no room")
