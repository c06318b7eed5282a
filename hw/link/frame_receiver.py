"""FrameReceiver: bytes from the line to checked requests."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.queue import Queue
from tessera.hw.interfaces.link import payload_byte_layout, received_frame_layout, request_header_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.protocol import CRC_BYTES, PAYLOAD_BYTES, REQUEST_HEADER_BYTES, REQUEST_MARKER, Status

SLOTS = 2
"""Payloads that the device holds: one is executed while the next arrives."""
SLOT_BITS = exact_log2(PAYLOAD_BYTES)


class _Frame:
    """The frame that is being received, and the verdict on it.

    Members
    -------
    header, check:
        What has arrived of header and CRC.
    index:
        Bytes of the current part that have arrived.
    slot, full:
        Payload slot that a payload goes to, and whether it is still occupied.
    found, status:
        The frame is complete, or refused, with this status.
    lost:
        The frame is given up, or there is no room for it.
    """

    def __init__(self) -> None:
        self.header, self.check = Signal(request_header_layout(), name="header"), Signal(8 * CRC_BYTES, name="check")
        self.index, self.slot, self.full = Signal(SLOT_BITS, name="index"), Signal(name="slot"), Signal(name="full")
        self.found, self.status = Signal(name="found"), Signal(Status, name="status")
        self.lost = Signal(name="lost")


class FrameReceiver(wiring.Component):
    """Looks for markers, collects frames, and passes on those with a good CRC.

    Nothing that arrives can hold the receiver up. It refuses a header that promises too much at once, silence in the
    middle of a frame ends the frame, and a frame without room is dropped; the host sends it again.

    Parameters
    ----------
    idle_cycles:
        Silence that ends a frame, in cycles.

    Members
    -------
    byte:
        Bytes from the line.
    write:
        Payload on its way to the buffer: slot and place in it.
    frame:
        Requests in order of arrival; also those that are refused, with the status that the host is to see.
    release:
        Payload slot that is free again.
    good, bad:
        Pulses: a request was passed on; something was refused, given up or dropped.
    """

    QUEUE = 4
    """Requests that wait: more than the host may have unanswered reads, and refused ones beside them."""

    def __init__(self, idle_cycles: int) -> None:
        self._idle_cycles = idle_cycles
        super().__init__(
            {
                "byte": In(Strobe(8)),
                "write": Out(Strobe(payload_byte_layout(SLOTS * PAYLOAD_BYTES))),
                "frame": Out(stream.Signature(received_frame_layout())),
                "release": In(Strobe(1)),
                "good": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The queue of requests, the slots of their payloads, and the search for frames."""
        m = Module()
        seen = _Frame()
        occupied = Signal(SLOTS)
        m.submodules.queue = queue = Queue(received_frame_layout(), self.QUEUE)
        connect(m, queue.target, flipped(self.frame))
        m.d.comb += [
            queue.source.payload.eq(Cat(seen.header, seen.check, seen.slot, seen.status)),
            queue.source.valid.eq(seen.found),
            self.good.eq(seen.found & queue.source.ready & (seen.status == Status.OK)),
            self.bad.eq(seen.lost | (seen.found & ~self.good)),
            self.write.payload.address.eq(Cat(seen.index, seen.slot)),
            self.write.payload.data.eq(self.byte.payload),
            seen.full.eq(occupied.bit_select(seen.slot, 1)),
        ]
        # A slot is occupied only by a good frame. A bad one leaves it, so the next payload overwrites its bytes.
        filled = Mux(self.good & seen.header.operation[0], 1 << seen.slot, 0)
        freed = Mux(self.release.valid, 1 << self.release.payload, 0)
        m.d.sync += [occupied.eq((occupied | filled) & ~freed), seen.slot.eq(seen.slot ^ filled.any())]
        self._search(m, seen)
        return m

    def _silence(self, m: Module) -> Signal:
        """Whether no byte has come for ``idle_cycles``."""
        # Silence is a register, because the count is wide and the search decides by it in the same cycle.
        left, silent = Signal(range(self._idle_cycles + 1)), Signal()
        m.d.sync += silent.eq(left == 0)
        with m.If(self.byte.valid):
            m.d.sync += [left.eq(self._idle_cycles), silent.eq(0)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return silent

    def _search(self, m: Module, seen: _Frame) -> None:
        """Walk through marker, header, payload and CRC of a frame.

        Every state that waits for a byte gives the frame up after a silence, because the rest of a broken frame may
        never come. The search then starts anew, so a good frame behind a broken one is found.
        """
        byte, silent = self.byte, self._silence(m)
        crc = m.submodules.crc = catalog.CRC32_ETHERNET().create()
        m.d.comb += crc.data.eq(byte.payload)
        with m.FSM(name="state"):
            with m.State("HUNT"), m.If(byte.valid & (byte.payload == REQUEST_MARKER[0])):
                m.next = "MARK"
            # The marker's first byte may come twice: the second of them may be the one that counts.
            with m.State("MARK"), m.If(byte.valid):
                m.d.comb += crc.start.eq(1)
                m.d.sync += seen.index.eq(0)
                with m.If(byte.payload == REQUEST_MARKER[1]):
                    m.next = "HEADER"
                with m.Elif(byte.payload != REQUEST_MARKER[0]):
                    m.next = "HUNT"
            with m.State("HEADER"):
                with m.If(byte.valid):
                    m.d.comb += crc.valid.eq(1)
                    header = Cat(seen.header.as_value()[8:], byte.payload)
                    m.d.sync += [seen.header.eq(header), seen.index.eq(seen.index + 1)]
                    with m.If(seen.index == REQUEST_HEADER_BYTES - 1):
                        m.next = "CHECK"
                with m.Elif(silent):
                    self._give_up(m, seen)
            # The header is complete in a register only now, so its check has a cycle of its own; bytes come far apart.
            with m.State("CHECK"):
                self._check(m, seen)
            # A payload is stored before its CRC is known, because it is too long to be held anywhere else.
            with m.State("PAYLOAD"):
                with m.If(byte.valid):
                    m.d.comb += [crc.valid.eq(1), self.write.valid.eq(1)]
                    m.d.sync += seen.index.eq(seen.index + 1)
                    with m.If(seen.index == (seen.header.length - 1)[:SLOT_BITS]):
                        m.d.sync += seen.index.eq(0)
                        m.next = "CRC"
                with m.Elif(silent):
                    self._give_up(m, seen)
            with m.State("CRC"):
                with m.If(byte.valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += [seen.check.eq(Cat(seen.check[8:], byte.payload)), seen.index.eq(seen.index + 1)]
                    with m.If(seen.index == CRC_BYTES - 1):
                        m.next = "VERDICT"
                with m.Elif(silent):
                    self._give_up(m, seen)
            # The CRC unit answers a cycle after its last byte.
            with m.State("VERDICT"):
                verdict = Mux(crc.match_detected, Status.OK, Status.BAD_CRC)
                m.d.comb += [seen.found.eq(1), seen.status.eq(verdict)]
                m.next = "HUNT"

    def _give_up(self, m: Module, seen: _Frame) -> None:
        """Drop the frame and look for the next marker."""
        m.d.comb += seen.lost.eq(1)
        m.next = "HUNT"

    def _check(self, m: Module, seen: _Frame) -> None:
        """Decide after the header, before a payload that does not fit can overwrite one that waits."""
        writes, length = seen.header.operation[0], seen.header.length
        m.d.sync += seen.index.eq(0)
        with m.If((length > PAYLOAD_BYTES) | (writes & (length == 0))):
            m.d.comb += [seen.found.eq(1), seen.status.eq(Status.BAD_LENGTH)]
            m.next = "HUNT"
        with m.Elif(writes & seen.full):
            self._give_up(m, seen)
        with m.Elif(writes):
            m.next = "PAYLOAD"
        with m.Else():
            m.next = "CRC"
