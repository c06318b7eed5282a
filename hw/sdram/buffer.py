"""BeatBuffer: a queue of beats in block RAM."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.register_slice import RegisterSlice
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.sdram import words_per_beat


def buffered_beats(config: AcceleratorConfig) -> int:
    """Depth of a port's buffer in beats: two bursts of 256 beats, or as many beats of one word as a block RAM holds."""
    return 1024 if words_per_beat(config) == 1 else 512


class BeatBuffer(wiring.Component):
    """A queue whose output comes from flip-flops, because block RAM is slow to answer.

    No beat is ever read in the cycle that writes it, so synthesis may leave out the logic for that case.

    Parameters
    ----------
    layout:
        Layout of a beat.
    depth:
        Capacity in beats, a power of two.

    Members
    -------
    into, out:
        Beats, before and behind.

    Timing: in to out 4 cycles; one beat per cycle.
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
        # Both counts have a bit more than an address: it tells a full buffer from an empty one.
        written, fetched = Signal(bits + 1), Signal(bits + 1)
        shown, moves = Signal(), Signal()
        # The client stands far from the block RAM, so a slice makes the way between them two cycles.
        m.submodules.slice = slice_ = RegisterSlice(self._layout)
        out = slice_.source
        connect(m, slice_.target, flipped(self.out))
        waiting = written != fetched
        m.d.comb += [
            self.into.ready.eq(~((written[:bits] == fetched[:bits]) & (written[bits] != fetched[bits]))),
            write.en.eq(self.into.valid & self.into.ready),
            write.addr.eq(written[:bits]),
            write.data.eq(self.into.payload),
            moves.eq(~out.valid | out.ready),
            read.en.eq(~shown | moves),
            read.addr.eq(fetched[:bits]),
        ]
        # ``waiting`` sees this register, so a beat is fetched in the cycle after it was written at the earliest.
        m.d.sync += written.eq(written + write.en)
        with m.If(read.en):
            m.d.sync += [shown.eq(waiting), fetched.eq(fetched + waiting)]
        with m.If(moves):
            m.d.sync += [out.valid.eq(shown), out.payload.eq(read.data)]
        check(m, write.en & read.en & waiting, write.addr != read.addr, "a beat is read while it is written")
        return m
