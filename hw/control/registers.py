"""The AXI4-Lite register file, generated from ``hw.isa.REGISTERS``."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.interfaces.axi import Axi4Lite
from hw.isa import REGISTERS

_WIDTHS = {"task": 4, "interrupt_enable": 2, "stamp_select": 16}


def access(name: str) -> str:
    """Return how the host may use a register: "ro", "rw" or "wo"."""
    return REGISTERS[name][1].split(":")[0]


def register_width(name: str) -> int:
    """Bits that an rw register keeps; the others read 0."""
    return _WIDTHS.get(name, 32)


class RegisterFile(wiring.Component):
    """AXI4-Lite slave over the register table.

    Addresses and data of writes may come in any order; each request gets one OKAY answer. Byte strobes are honoured by
    rw registers. Writes to read-only and unknown addresses change nothing; unknown addresses and wo registers read 0.

    Members
    -------
    bus:
        The host.
    NAME (rw registers):
        Out: the value.
    NAME (ro registers):
        In: what the host reads.
    NAME_written, NAME_data (wo registers):
        Out: a pulse with the word written.

    Timing: write answered 2 cycles after the later of address and data; read data 2 cycles after its address.
    """

    def __init__(self) -> None:
        members = {}
        for name in REGISTERS:
            if access(name) == "rw":
                members[name] = Out(register_width(name))
            elif access(name) == "ro":
                members[name] = In(32)
            else:
                members |= {f"{name}_written": Out(1), f"{name}_data": Out(32)}
        super().__init__({"bus": In(Axi4Lite()), **members})

    def elaborate(self, platform: object) -> Module:
        """Write side and read side."""
        m = Module()
        self._writes(m)
        self._reads(m)
        return m

    def _writes(self, m: Module) -> None:
        """Hold address and data until both are here and the last answer has left."""
        bus = self.bus
        address, has_address = Signal(8), Signal()
        word, strobes, has_word = Signal(32), Signal(4), Signal()
        execute = Signal()
        m.d.comb += [
            bus.awready.eq(~has_address),
            bus.wready.eq(~has_word),
            execute.eq(has_address & has_word & (~bus.bvalid | bus.bready)),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address.eq(bus.awaddr), has_address.eq(1)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [word.eq(bus.wdata), strobes.eq(bus.wstrb), has_word.eq(1)]
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(execute):
            m.d.sync += [has_address.eq(0), has_word.eq(0), bus.bvalid.eq(1)]
        for name, (offset, _) in REGISTERS.items():
            here = execute & (address[2:] == offset >> 2)
            if access(name) == "rw":
                register = getattr(self, name)
                for index in range(0, len(register), 8):
                    with m.If(here & strobes[index // 8]):
                        m.d.sync += register[index : index + 8].eq(word[index : index + 8])
            elif access(name) == "wo":
                m.d.comb += [
                    getattr(self, f"{name}_written").eq(here),
                    getattr(self, f"{name}_data").eq(word),
                ]

    def _reads(self, m: Module) -> None:
        """Hold the address, then answer from a register."""
        bus = self.bus
        address, asked = Signal(8), Signal()
        m.d.comb += bus.arready.eq(~asked)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [address.eq(bus.araddr), asked.eq(1)]
        with m.If(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        with m.If(asked & (~bus.rvalid | bus.rready)):
            m.d.sync += [asked.eq(0), bus.rvalid.eq(1), bus.rdata.eq(0)]
            with m.Switch(address[2:]):
                for name, (offset, _) in REGISTERS.items():
                    if access(name) != "wo":
                        with m.Case(offset >> 2):
                            m.d.sync += bus.rdata.eq(getattr(self, name))
