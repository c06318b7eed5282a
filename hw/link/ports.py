"""What requests act on: registers and memory, as streams of bytes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.bus.bursts import BurstSplitter, longest_burst
from hw.bus.read_master import INCREMENTING
from hw.config import AcceleratorConfig
from hw.interfaces.axi import Axi4Lite, Axi4Read, Axi4Write
from hw.interfaces.link import BytePort
from hw.protocol import PAYLOAD_BYTES

BURST_BYTES = 256
"""Most of a burst: others on the bus should not wait long for a payload that comes byte by byte."""


class RegisterPort(wiring.Component):
    """AXI4-Lite master: one register after the other.

    Members
    -------
    bytes:
        Four a register, least significant first.
    bus:
        To the registers.
    """

    def __init__(self) -> None:
        super().__init__({"bytes": In(BytePort()), "bus": Out(Axi4Lite())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        port, bus = self.bytes, self.bus
        address, left = Signal(8), Signal(PAYLOAD_BYTES.bit_length() - 2)
        word, count = Signal(32), Signal(2)
        m.d.comb += [
            bus.awaddr.eq(address),
            bus.araddr.eq(address),
            bus.wdata.eq(word),
            bus.wstrb.eq(-1),
            bus.bready.eq(1),
            bus.rready.eq(1),
            port.taken.payload.eq(word[:8]),
        ]
        for valid, ready in ((bus.awvalid, bus.awready), (bus.wvalid, bus.wready), (bus.arvalid, bus.arready)):
            with m.If(ready):
                m.d.sync += valid.eq(0)
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += port.access.ready.eq(1)
                m.d.sync += [port.failed.eq(0), count.eq(0)]
                with m.If(port.access.valid):
                    wanted = port.access.payload
                    m.d.sync += [address.eq(wanted.address), left.eq(wanted.length >> 2), bus.arvalid.eq(~wanted.write)]
                    with m.If(wanted.write):
                        m.next = "COLLECT"
                    with m.Else():
                        m.next = "READ"
            with m.State("COLLECT"):
                m.d.comb += port.given.ready.eq(1)
                with m.If(port.given.valid):
                    m.d.sync += [word.eq(Cat(word[8:], port.given.payload)), count.eq(count + 1)]
                    with m.If(count == 3):
                        m.d.sync += [bus.awvalid.eq(1), bus.wvalid.eq(1)]
                        m.next = "WRITE"
            with m.State("WRITE"), m.If(bus.bvalid):
                m.d.sync += [port.failed.eq(port.failed | bus.bresp[1]), address.eq(address + 4), left.eq(left - 1)]
                m.next = "COLLECT"
                with m.If(left == 1):
                    m.next = "DONE"
            with m.State("READ"), m.If(bus.rvalid):
                m.d.sync += [word.eq(bus.rdata), port.failed.eq(port.failed | bus.rresp[1])]
                m.next = "DELIVER"
            with m.State("DELIVER"):
                m.d.comb += port.taken.valid.eq(1)
                with m.If(port.taken.ready):
                    m.d.sync += [word.eq(word >> 8), count.eq(count + 1)]
                    with m.If(count == 3):
                        m.d.sync += [address.eq(address + 4), left.eq(left - 1), bus.arvalid.eq(left != 1)]
                        m.next = "READ"
                        with m.If(left == 1):
                            m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += port.done.eq(1)
                m.next = "IDLE"
        return m


class MemoryPort(wiring.Component):
    """AXI4 master: one burst after the other, beats put together and taken apart byte by byte.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus.

    Members
    -------
    bytes:
        ``memory_bytes`` a beat. After a burst that failed, the rest of the access is carried out all the same.
    read, write:
        To memory: INCR bursts of full-width beats, of at most ``BURST_BYTES``, within 4 KiB.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__({"bytes": In(BytePort()), "read": Out(Axi4Read(config)), "write": Out(Axi4Write(config))})

    def elaborate(self, platform: object) -> Module:
        """Bursts from the splitter; each waits for its end before the next."""
        m = Module()
        port, read, write, width = self.bytes, self.read, self.write, self._config.memory_bytes
        shift = exact_log2(width)
        wanted = max(1, BURST_BYTES // width)
        m.submodules.splitter = splitter = BurstSplitter(self._config, longest_burst(self._config, wanted))
        burst, run = splitter.burst, splitter.run
        writing, beat, held, last = Signal(), Signal(8 * width), Signal(range(width + 1)), Signal()
        left = Signal(8)
        m.d.comb += [
            run.payload.address.eq(port.access.payload.address),
            run.payload.beats_minus_one.eq((port.access.payload.length >> shift) - 1),
            port.taken.payload.eq(beat[:8]),
            write.wdata.eq(beat),
            write.wstrb.eq(-1),
            write.wlast.eq(left == 0),
            write.bready.eq(1),
        ]
        for channel in ("ar", "aw"):
            bus = read if channel == "ar" else write
            m.d.comb += [
                getattr(bus, f"{channel}size").eq(shift),
                getattr(bus, f"{channel}burst").eq(INCREMENTING),
            ]
            with m.If(getattr(bus, f"{channel}ready")):
                m.d.sync += getattr(bus, f"{channel}valid").eq(0)
            with m.If(burst.valid & burst.ready):
                m.d.sync += [
                    getattr(bus, f"{channel}addr").eq(burst.payload.address),
                    getattr(bus, f"{channel}len").eq(burst.payload.beats_minus_one),
                    getattr(bus, f"{channel}valid").eq(writing if channel == "aw" else ~writing),
                ]
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += [run.valid.eq(port.access.valid), port.access.ready.eq(run.ready)]
                m.d.sync += [port.failed.eq(0), writing.eq(port.access.payload.write)]
                with m.If(run.valid & run.ready):
                    m.next = "BURST"
            with m.State("BURST"):
                m.d.comb += burst.ready.eq(1)
                m.d.sync += [left.eq(burst.payload.beats_minus_one), held.eq(0), last.eq(0)]
                with m.If(~splitter.busy):
                    m.d.comb += port.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(burst.valid & writing):
                    m.next = "WRITE"
                with m.Elif(burst.valid):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += [read.rready.eq(held == 0), port.taken.valid.eq(held != 0)]
                with m.If(read.rready & read.rvalid):
                    m.d.sync += [beat.eq(read.rdata), held.eq(width), last.eq(read.rlast)]
                    m.d.sync += port.failed.eq(port.failed | read.rresp[1])
                with m.If(port.taken.valid & port.taken.ready):
                    m.d.sync += [beat.eq(beat >> 8), held.eq(held - 1)]
                    with m.If((held == 1) & last):
                        m.next = "BURST"
            with m.State("WRITE"):
                m.d.comb += [write.wvalid.eq(held == width), port.given.ready.eq(held != width)]
                with m.If(port.given.valid & port.given.ready):
                    m.d.sync += [beat.eq(Cat(beat[8:], port.given.payload)), held.eq(held + 1)]
                with m.If(write.wvalid & write.wready):
                    m.d.sync += [held.eq(0), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.next = "ANSWER"
            with m.State("ANSWER"), m.If(write.bvalid):
                m.d.sync += port.failed.eq(port.failed | write.bresp[1])
                m.next = "BURST"
        return m
