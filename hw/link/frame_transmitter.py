"""FrameTransmitter: replies to bytes for the line."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.interfaces.link import reply_header_layout
from tessera.hw.protocol import CRC_BYTES, REPLY_HEADER_BYTES, REPLY_MARKER

_MARKER = int.from_bytes(REPLY_MARKER, "little")
_HEAD_BYTES = len(REPLY_MARKER) + REPLY_HEADER_BYTES


class FrameTransmitter(wiring.Component):
    """Sends marker, header, payload and CRC.

    Members
    -------
    reply:
        Header of the reply to send; taken with the last byte.
    payload:
        The ``length`` bytes of its payload.
    byte:
        Bytes for the line.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "reply": In(stream.Signature(reply_header_layout())),
                "payload": In(stream.Signature(8)),
                "byte": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk through head, payload and CRC."""
        m = Module()
        byte, header = self.byte, self.reply.payload
        crc = m.submodules.crc = catalog.CRC32_ETHERNET().create()
        head = Cat(Const(_MARKER, 8 * len(REPLY_MARKER)), header)
        index, left = Signal(range(_HEAD_BYTES)), Signal(16)
        sent = Signal()
        m.d.comb += [sent.eq(byte.valid & byte.ready), crc.data.eq(byte.payload)]
        # A state per part of the frame, because each takes its bytes from elsewhere. The CRC runs over all that is sent
        # behind the marker, so its own bytes must not be fed into it.
        with m.FSM(name="state"):
            with m.State("HEAD"):
                m.d.sync += left.eq(header.length)
                m.d.comb += [
                    byte.valid.eq(self.reply.valid),
                    byte.payload.eq(head.word_select(index, 8)),
                    crc.start.eq(index < len(REPLY_MARKER)),
                    crc.valid.eq(sent & (index >= len(REPLY_MARKER))),
                ]
                with m.If(sent):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == _HEAD_BYTES - 1):
                        m.d.sync += index.eq(0)
                        m.next = "PAYLOAD"
            with m.State("PAYLOAD"):
                with m.If(left == 0):
                    m.next = "CRC"
                with m.Else():
                    connect(m, flipped(self.payload), flipped(byte))
                    m.d.comb += crc.valid.eq(sent)
                    with m.If(sent):
                        m.d.sync += left.eq(left - 1)
            # The reply is taken only with its last byte, so its header stays in place and needs no copy here.
            with m.State("CRC"):
                m.d.comb += [byte.valid.eq(1), byte.payload.eq(crc.crc.word_select(index[:2], 8))]
                with m.If(sent):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == CRC_BYTES - 1):
                        m.d.comb += self.reply.ready.eq(1)
                        m.d.sync += index.eq(0)
                        m.next = "HEAD"
        return m
