"""The AXI4-Lite register file, generated from ``tessera.hw.register_map.REGISTERS``."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.interfaces.axi import Axi4Lite
from tessera.hw.interfaces.control import register_settings_layout, shown_registers_layout, written_registers_layout
from tessera.hw.register_map import REGISTERS, Access


class RegisterFile(wiring.Component):
    """AXI4-Lite slave over the register table.

    Address and data of a write may come in any order; each request gets one OKAY answer. Read-write registers honour
    byte strobes. Writes to read-only and unknown addresses change nothing. Unknown addresses and write-only registers
    read 0.

    Members
    -------
    bus:
        The host.
    settings:
        Values of the read-write registers; :func:`tessera.hw.interfaces.control.register_settings_layout`.
    shown:
        What the host reads in the read-only registers; :func:`tessera.hw.interfaces.control.shown_registers_layout`.
    written, word:
        A pulse per write-only register, and the word that is written with it.

    Timing: a write is answered 2 cycles after the later of address and data; a read 2 cycles after its address.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "bus": In(Axi4Lite()),
                "settings": Out(register_settings_layout()),
                "shown": In(shown_registers_layout()),
                "written": Out(written_registers_layout()),
                "word": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Write side and read side."""
        m = Module()
        self._writes(m)
        self._reads(m)
        return m

    def _writes(self, m: Module) -> None:
        """Hold address and data until both are here and the last answer has left."""
        aw, w, b = self.bus.aw, self.bus.w, self.bus.b
        address, has_address = Signal(8), Signal()
        strobes, has_word = Signal(4), Signal()
        execute = Signal()
        m.d.comb += [
            aw.ready.eq(~has_address),
            w.ready.eq(~has_word),
            execute.eq(has_address & has_word & (~b.valid | b.ready)),
        ]
        with m.If(aw.valid & aw.ready):
            m.d.sync += [address.eq(aw.payload.addr), has_address.eq(1)]
        with m.If(w.valid & w.ready):
            m.d.sync += [self.word.eq(w.payload.data), strobes.eq(w.payload.strb), has_word.eq(1)]
        with m.If(b.ready):
            m.d.sync += b.valid.eq(0)
        # Waiting for the last answer to leave keeps one answer per write, in order, with a single register for it.
        with m.If(execute):
            m.d.sync += [has_address.eq(0), has_word.eq(0), b.valid.eq(1)]
        for name, register in REGISTERS.items():
            here = execute & (address[2:] == register.offset >> 2)
            if register.access is Access.READ_WRITE:
                self._keep(m, self.settings[name], here, strobes)
            elif register.access is Access.WRITE_ONLY:
                m.d.comb += self.written[name].eq(here)

    def _keep(self, m: Module, value: Value, here: Value, strobes: Signal) -> None:
        """Load the bytes of one register that the host writes."""
        for index, low in enumerate(range(0, len(value), 8)):
            with m.If(here & strobes[index]):
                m.d.sync += value[low : low + 8].eq(self.word[low : low + 8])

    def _reads(self, m: Module) -> None:
        """Hold the address, then answer from a register: the choice among so many takes a cycle of its own."""
        ar, r = self.bus.ar, self.bus.r
        address, asked = Signal(8), Signal()
        m.d.comb += ar.ready.eq(~asked)
        with m.If(ar.valid & ar.ready):
            m.d.sync += [address.eq(ar.payload.addr), asked.eq(1)]
        with m.If(r.ready):
            m.d.sync += r.valid.eq(0)
        readable = {Access.READ_WRITE: self.settings, Access.READ_ONLY: self.shown}
        with m.If(asked & (~r.valid | r.ready)):
            m.d.sync += [asked.eq(0), r.valid.eq(1), r.payload.data.eq(0)]
            with m.Switch(address[2:]):
                for name, register in REGISTERS.items():
                    if register.access in readable:
                        with m.Case(register.offset >> 2):
                            m.d.sync += r.payload.data.eq(readable[register.access][name])
