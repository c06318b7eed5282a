"""RegisterPort and MemoryPort: accesses as streams of bytes, carried out on an AXI bus."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.blocks.jobs import hand_over
from tessera.hw.bus.bursts import BurstSplitter, longest_burst
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import INCREMENTING, Axi4Lite, Axi4Read, Axi4Write
from tessera.hw.interfaces.link import BytePort
from tessera.hw.protocol import PAYLOAD_BYTES

BURST_BYTES = 256
"""Longest burst in bytes, because others on the bus should not wait long for a payload that comes byte by byte."""


class RegisterPort(wiring.Component):
    """AXI4-Lite master: one register after the other.

    Members
    -------
    bytes:
        Accesses; four bytes per register, the least significant first.
    bus:
        The registers.
    """

    def __init__(self) -> None:
        super().__init__({"bytes": In(BytePort()), "bus": Out(Axi4Lite())})

    def elaborate(self, platform: object) -> Module:
        """Five channels that hold their requests, and the walk from register to register."""
        m = Module()
        port, aw, w, ar = self.bytes, self.bus.aw, self.bus.w, self.bus.ar
        address, left = Signal(8), Signal(PAYLOAD_BYTES.bit_length() - 2)
        word, count = Signal(32), Signal(2)
        m.d.comb += [
            aw.payload.addr.eq(address),
            ar.payload.addr.eq(address),
            w.payload.data.eq(word),
            w.payload.strb.eq(-1),
            self.bus.b.ready.eq(1),
            self.bus.r.ready.eq(1),
            port.taken.payload.eq(word[:8]),
        ]
        # Address and data of a write may be taken in different cycles, so each request falls by itself.
        for request in (aw, w, ar):
            with m.If(request.ready):
                m.d.sync += request.valid.eq(0)
        self._walk(m, address, left, word, count)
        return m

    def _walk(self, m: Module, address: Signal, left: Signal, word: Signal, count: Signal) -> None:
        """Carry out one access.

        A write collects the four bytes of a register before it touches the bus; a read fetches a register before it
        hands out the first byte. So one word register serves both, and only one request is ever open.
        """
        port, bus = self.bytes, self.bus
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += port.access.ready.eq(1)
                m.d.sync += [port.failed.eq(0), count.eq(0)]
                with m.If(port.access.valid):
                    wanted = port.access.payload
                    m.d.sync += [
                        address.eq(wanted.address),
                        left.eq(wanted.length >> 2),
                        bus.ar.valid.eq(~wanted.write),
                    ]
                    with m.If(wanted.write):
                        m.next = "COLLECT"
                    with m.Else():
                        m.next = "READ"
            # All four bytes first: a register must never be seen half written.
            with m.State("COLLECT"):
                m.d.comb += port.given.ready.eq(1)
                with m.If(port.given.valid):
                    m.d.sync += [word.eq(Cat(word[8:], port.given.payload)), count.eq(count + 1)]
                    with m.If(count == 3):
                        m.d.sync += [bus.aw.valid.eq(1), bus.w.valid.eq(1)]
                        m.next = "WRITE"
            # The next register is touched only after the answer, so that writes take effect in the order of the bytes.
            with m.State("WRITE"), m.If(bus.b.valid):
                m.d.sync += [
                    port.failed.eq(port.failed | bus.b.payload.resp[1]),
                    address.eq(address + 4),
                    left.eq(left - 1),
                ]
                m.next = "COLLECT"
                with m.If(left == 1):
                    m.next = "DONE"
            with m.State("READ"), m.If(bus.r.valid):
                m.d.sync += [word.eq(bus.r.payload.data), port.failed.eq(port.failed | bus.r.payload.resp[1])]
                m.next = "DELIVER"
            with m.State("DELIVER"):
                m.d.comb += port.taken.valid.eq(1)
                with m.If(port.taken.ready):
                    m.d.sync += [word.eq(word >> 8), count.eq(count + 1)]
                    # The next read goes out with the last byte of this one, which hides its latency behind the line.
                    with m.If(count == 3):
                        m.d.sync += [address.eq(address + 4), left.eq(left - 1), bus.ar.valid.eq(left != 1)]
                        m.next = "READ"
                        with m.If(left == 1):
                            m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += port.done.eq(1)
                m.next = "IDLE"


class _Beat:
    """The beat that is put together or taken apart.

    Members: ``bits``; ``held``, the bytes in it; ``left``, the beats of the burst behind it; ``last``, whether it is
    the last one read.
    """

    def __init__(self, width: int) -> None:
        self.bits = Signal(8 * width, name="beat")
        self.held = Signal(range(width + 1), name="held")
        self.left = Signal(8, name="left")
        self.last = Signal(name="last")


class MemoryPort(wiring.Component):
    """AXI4 master: one burst after the other, with beats put together and taken apart byte by byte.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus.

    Members
    -------
    bytes:
        Accesses; ``memory_bytes`` bytes per beat. After a burst that failed, the rest of the access is carried out all
        the same.
    read, write:
        Memory: INCR bursts of full-width beats, of at most ``BURST_BYTES``, within 4 KiB.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({"bytes": In(BytePort()), "read": Out(Axi4Read(config)), "write": Out(Axi4Write(config))})

    def elaborate(self, platform: object) -> Module:
        """Bursts from the splitter, and the walk from burst to burst."""
        m = Module()
        port, w, width = self.bytes, self.write.w, self._config.memory_bytes
        shift = exact_log2(width)
        wanted = max(1, BURST_BYTES // width)
        m.submodules.splitter = splitter = BurstSplitter(self._config, longest_burst(self._config, wanted))
        burst, run = splitter.burst, splitter.run
        beat = _Beat(width)
        writing = Signal()
        m.d.comb += [
            run.payload.address.eq(port.access.payload.address),
            run.payload.beats_minus_one.eq((port.access.payload.length >> shift) - 1),
            port.taken.payload.eq(beat.bits[:8]),
            w.payload.data.eq(beat.bits),
            w.payload.strb.eq(-1),
            w.payload.last.eq(beat.left == 0),
            self.write.b.ready.eq(1),
        ]
        # Both channels load every burst, whichever shows it: so synthesis keeps one copy of the address.
        for channel, shows in ((self.read.ar, ~writing), (self.write.aw, writing)):
            m.d.comb += [channel.payload.size.eq(shift), channel.payload.burst.eq(INCREMENTING)]
            with m.If(channel.ready):
                m.d.sync += channel.valid.eq(0)
            with m.If(burst.valid & burst.ready):
                m.d.sync += [
                    channel.payload.addr.eq(burst.payload.address),
                    channel.payload.len.eq(burst.payload.beats_minus_one),
                    channel.valid.eq(shows),
                ]
        self._walk(m, splitter, writing, beat)
        return m

    def _walk(self, m: Module, splitter: BurstSplitter, writing: Signal, beat: _Beat) -> None:
        """Carry out one access, burst by burst.

        Each burst waits for the end of the one before. The line brings and takes a byte in the time of many beats, so
        more bursts at a time would gain nothing.
        """
        port, run, burst = self.bytes, splitter.run, splitter.burst
        with m.FSM(name="state"):
            with m.State("IDLE"):
                hand_over(m, port.access, run)
                m.d.sync += [port.failed.eq(0), writing.eq(port.access.payload.write)]
                with m.If(run.valid & run.ready):
                    m.next = "BURST"
            # The splitter knows when the access is over: it is busy until it has no burst left.
            with m.State("BURST"):
                m.d.comb += burst.ready.eq(1)
                m.d.sync += [beat.left.eq(burst.payload.beats_minus_one), beat.held.eq(0), beat.last.eq(0)]
                with m.If(~splitter.busy):
                    m.d.comb += port.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(burst.valid & writing):
                    m.next = "WRITE"
                with m.Elif(burst.valid):
                    m.next = "READ"
            self._read(m, beat)
            self._write(m, beat)

    def _read(self, m: Module, beat: _Beat) -> None:
        """State READ: take a beat once the one before is handed out; its bytes leave from the bottom."""
        port, r = self.bytes, self.read.r
        with m.State("READ"):
            m.d.comb += [r.ready.eq(beat.held == 0), port.taken.valid.eq(beat.held != 0)]
            with m.If(r.ready & r.valid):
                m.d.sync += [
                    beat.bits.eq(r.payload.data),
                    beat.held.eq(self._config.memory_bytes),
                    beat.last.eq(r.payload.last),
                    port.failed.eq(port.failed | r.payload.resp[1]),
                ]
            with m.If(port.taken.valid & port.taken.ready):
                m.d.sync += [beat.bits.eq(beat.bits >> 8), beat.held.eq(beat.held - 1)]
                with m.If((beat.held == 1) & beat.last):
                    m.next = "BURST"

    def _write(self, m: Module, beat: _Beat) -> None:
        """States WRITE and ANSWER: collect a beat's bytes from the top, send it; after the last, await the answer."""
        port, w, b = self.bytes, self.write.w, self.write.b
        # A beat is sent only when it is full, so the bus waits for the line; no strobe is ever needed.
        full = beat.held == self._config.memory_bytes
        with m.State("WRITE"):
            m.d.comb += [w.valid.eq(full), port.given.ready.eq(~full)]
            with m.If(port.given.valid & port.given.ready):
                m.d.sync += [beat.bits.eq(Cat(beat.bits[8:], port.given.payload)), beat.held.eq(beat.held + 1)]
            with m.If(w.valid & w.ready):
                m.d.sync += [beat.held.eq(0), beat.left.eq(beat.left - 1)]
                with m.If(beat.left == 0):
                    m.next = "ANSWER"
        with m.State("ANSWER"), m.If(b.valid):
            m.d.sync += port.failed.eq(port.failed | b.payload.resp[1])
            m.next = "BURST"
