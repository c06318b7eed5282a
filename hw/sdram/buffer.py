"""BeatBuffer: a queue of beats in block RAM."""

from __future__ import annotations

from amaranth.hdl import Assert, Module, ResetSignal, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.blocks.register_slice import RegisterSlice


class BeatBuffer(wiring.Component):
    """A queue whose output comes from flip-flops: block RAM is slow to answer.

    No word is ever read in the cycle that writes it, so synthesis may leave out what would settle that.

    Parameters
    ----------
    layout:
        Of a beat.
    depth:
        Beats that there is room for, a power of two.

    Members
    -------
    into, out:
        Beats.

    Timing: in to out 4 cycles; one beat a cycle.
    """

    def __init__(self, layout: data.StructLayout, depth: int) -> None:
        self._layout = layout
        self._depth = depth
        super().__init__({"into": In(stream.Signature(layout)), "out": Out(stream.Signature(layout))})

    def elaborate(self, platform: object) -> Module:
        """Block RAM and a register behind it; both stand still when the slice behind them is full."""
        m = Module()
        m.submodules.storage = storage = memory.Memory(shape=self._layout, depth=self._depth, init=[])
        write, read = storage.write_port(), storage.read_port()
        bits = exact_log2(self._depth)
        written, fetched = Signal(bits + 1), Signal(bits + 1)
        shown, moves = Signal(), Signal()
        # Whoever takes the beats stands far from the block.
        m.submodules.slice = slice_ = RegisterSlice(self._layout)
        out = slice_.source
        connect(m, slice_.target, flipped(self.out))
        waiting = written != fetched
        valid, payload = Signal(), Signal(self._layout)
        m.d.comb += [
            self.into.ready.eq(~((written[:bits] == fetched[:bits]) & (written[bits] != fetched[bits]))),
            write.en.eq(self.into.valid & self.into.ready),
            write.addr.eq(written[:bits]),
            write.data.eq(self.into.payload),
            moves.eq(~out.valid | out.ready),
            read.en.eq(~shown | moves),
            read.addr.eq(fetched[:bits]),
        ]
        m.d.sync += written.eq(written + write.en)
        with m.If(read.en):
            m.d.sync += [shown.eq(waiting), fetched.eq(fetched + waiting)]
        with m.If(moves):
            m.d.sync += [valid.eq(shown), payload.eq(read.data)]
        m.d.comb += [out.valid.eq(valid), out.payload.eq(payload)]
        with m.If(write.en & read.en & waiting & ~ResetSignal()):
            m.d.sync += Assert(write.addr != read.addr, "a beat is read while it is written")
        return m
