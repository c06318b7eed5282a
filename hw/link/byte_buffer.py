"""Bytes of a frame's payload in block RAM, written one at a time and read back as a stream."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.interfaces.link import payload_byte_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.protocol import PAYLOAD_BYTES


class ByteBuffer(wiring.Component):
    """A byte memory with one writer and one reader.

    Parameters
    ----------
    depth:
        Size in bytes.
    init:
        Bytes that it holds at first.

    Members
    -------
    write:
        A byte and where it goes.
    run:
        Order to read ``count`` bytes from ``first`` on; bytes that an earlier run has left are dropped.
    byte:
        The bytes that are read.

    Timing: the first byte 3 cycles after ``run``, then one per cycle.
    """

    def __init__(self, depth: int, init: Sequence[int] = ()) -> None:
        self._depth, self._init = depth, init
        super().__init__(
            {
                "write": In(Strobe(payload_byte_layout(depth))),
                "run": In(Strobe(data.StructLayout({"first": range(depth), "count": range(PAYLOAD_BYTES + 1)}))),
                "byte": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Address, block RAM and output register move on together."""
        m = Module()
        m.submodules.bytes = storage = memory.Memory(shape=8, depth=self._depth, init=self._init)
        write, read = storage.write_port(), storage.read_port()
        address, left = Signal(range(self._depth)), Signal(range(PAYLOAD_BYTES + 1))
        fetched, moves = Signal(), Signal()
        m.d.comb += [
            write.en.eq(self.write.valid),
            write.addr.eq(self.write.payload.address),
            write.data.eq(self.write.payload.data),
            moves.eq(~self.byte.valid | self.byte.ready),
            read.addr.eq(address),
            read.en.eq(moves),
        ]
        # Block RAM and output register stop together when nobody takes a byte, so no byte is lost between them.
        with m.If(moves):
            m.d.sync += [
                fetched.eq(left != 0),
                self.byte.valid.eq(fetched),
                self.byte.payload.eq(read.data),
            ]
            with m.If(left != 0):
                m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
        # A new run drops what was fetched for the last one, because nobody may have wanted that.
        with m.If(self.run.valid):
            m.d.sync += [
                address.eq(self.run.payload.first),
                left.eq(self.run.payload.count),
                fetched.eq(0),
                self.byte.valid.eq(0),
            ]
        return m
