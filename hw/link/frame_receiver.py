"""FrameReceiver: bytes from the line to checked requests."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.interfaces.link import received_frame_layout, request_header_layout
from hw.interfaces.strobe import Strobe
from hw.protocol import CRC_BYTES, PAYLOAD_BYTES, REQUEST_HEADER_BYTES, REQUEST_MARKER, Status

SLOTS = 2
"""Payloads held: one is executed while the next arrives."""
SLOT_BITS = exact_log2(PAYLOAD_BYTES)


class FrameReceiver(wiring.Component):
    """Looks for markers, collects frames, and passes on what may be believed.

    Nothing that arrives can hold it up: a header that promises too much is refused at once, silence in the middle of a
    frame ends it, and a frame for which there is no room is dropped, for the host to send again.

    Parameters
    ----------
    idle_cycles:
        Silence that ends a frame.

    Members
    -------
    byte:
        From the line.
    write:
        Payload on its way to the buffer: slot and place in it.
    frame:
        Requests in order of arrival, and what the host should know of those that were not right.
    release:
        Payload slot that is free again.
    good, bad:
        Pulses: a request was passed on; something was refused, given up or dropped.
    """

    QUEUE = 4
    """Requests that wait: more than the host may have unanswered reads, and refused ones beside them."""

    def __init__(self, idle_cycles: int) -> None:
        self._idle_cycles = idle_cycles
        address = range(SLOTS * PAYLOAD_BYTES)
        super().__init__(
            {
                "byte": In(Strobe(8)),
                "write": Out(Strobe(data.StructLayout({"address": address, "data": 8}))),
                "frame": Out(stream.Signature(received_frame_layout())),
                "release": In(Strobe(1)),
                "good": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The queue of requests, the slots of their payloads, and the search for frames."""
        m = Module()
        header, check = Signal(request_header_layout()), Signal(8 * CRC_BYTES)
        index, slot, occupied = Signal(SLOT_BITS), Signal(), Signal(SLOTS)
        found, status, lost = Signal(), Signal(Status), Signal()
        m.submodules.queue = queue = SyncFIFO(width=received_frame_layout().size, depth=self.QUEUE)
        m.d.comb += [
            queue.w_data.eq(Cat(header, check, slot, status)),
            queue.w_en.eq(found),
            self.frame.payload.eq(queue.r_data),
            self.frame.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.frame.ready),
            self.good.eq(found & queue.w_rdy & (status == Status.OK)),
            self.bad.eq(lost | (found & ~self.good)),
            self.write.payload.address.eq(Cat(index, slot)),
            self.write.payload.data.eq(self.byte.payload),
        ]
        filled = Mux(self.good & header.operation[0], 1 << slot, 0)
        freed = Mux(self.release.valid, 1 << self.release.payload, 0)
        m.d.sync += [occupied.eq((occupied | filled) & ~freed), slot.eq(slot ^ filled.any())]
        full = occupied.bit_select(slot, 1)
        self._search(m, header, check, index, full, found, status, lost)
        return m

    def _silence(self, m: Module) -> Signal:
        """Whether no byte has come for ``idle_cycles``."""
        left, silent = Signal(range(self._idle_cycles + 1)), Signal()
        m.d.sync += silent.eq(left == 0)
        with m.If(self.byte.valid):
            m.d.sync += [left.eq(self._idle_cycles), silent.eq(0)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return silent

    def _search(
        self,
        m: Module,
        header: data.View,
        check: Signal,
        index: Signal,
        full: Value,
        found: Signal,
        status: Signal,
        lost: Signal,
    ) -> None:
        """Marker, header, payload, CRC: ``found`` a frame with its status, or ``lost`` one."""
        byte, silent = self.byte, self._silence(m)
        crc = m.submodules.crc = catalog.CRC32_ETHERNET().create()
        m.d.comb += crc.data.eq(byte.payload)
        with m.FSM(name="state"):
            with m.State("HUNT"), m.If(byte.valid & (byte.payload == REQUEST_MARKER[0])):
                m.next = "MARK"
            with m.State("MARK"), m.If(byte.valid):
                m.d.comb += crc.start.eq(1)
                m.d.sync += index.eq(0)
                with m.If(byte.payload == REQUEST_MARKER[1]):
                    m.next = "HEADER"
                with m.Elif(byte.payload != REQUEST_MARKER[0]):
                    m.next = "HUNT"
            with m.State("HEADER"):
                with m.If(byte.valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += [header.eq(Cat(header.as_value()[8:], byte.payload)), index.eq(index + 1)]
                    with m.If(index == REQUEST_HEADER_BYTES - 1):
                        m.next = "CHECK"
                with m.Elif(silent):
                    m.d.comb += lost.eq(1)
                    m.next = "HUNT"
            with m.State("CHECK"):
                m.d.sync += index.eq(0)
                writes = header.operation[0]
                with m.If((header.length > PAYLOAD_BYTES) | (writes & (header.length == 0))):
                    m.d.comb += [found.eq(1), status.eq(Status.BAD_LENGTH)]
                    m.next = "HUNT"
                with m.Elif(writes & full):
                    m.d.comb += lost.eq(1)
                    m.next = "HUNT"
                with m.Elif(writes):
                    m.next = "PAYLOAD"
                with m.Else():
                    m.next = "CRC"
            with m.State("PAYLOAD"):
                with m.If(byte.valid):
                    m.d.comb += [crc.valid.eq(1), self.write.valid.eq(1)]
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == (header.length - 1)[:SLOT_BITS]):
                        m.d.sync += index.eq(0)
                        m.next = "CRC"
                with m.Elif(silent):
                    m.d.comb += lost.eq(1)
                    m.next = "HUNT"
            with m.State("CRC"):
                with m.If(byte.valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += [check.eq(Cat(check[8:], byte.payload)), index.eq(index + 1)]
                    with m.If(index == CRC_BYTES - 1):
                        m.next = "VERDICT"
                with m.Elif(silent):
                    m.d.comb += lost.eq(1)
                    m.next = "HUNT"
            with m.State("VERDICT"):
                m.d.comb += [found.eq(1), status.eq(Mux(crc.match_detected, Status.OK, Status.BAD_CRC))]
                m.next = "HUNT"
