"""Performance counters, time stamps of commands, and the watchdog."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces import Strobe

EVENTS = ("mac_busy", "stall_weights", "stall_attention", "stall_drain", "idle_cycles")
"""Registers that count the cycles in which an input of the same name is 1."""
BEATS = {"read_bytes": "read_beat", "write_bytes": "write_beat"}
"""Registers that count bytes, and their inputs: a beat was transferred."""


class Counters(wiring.Component):
    """Counts while a program runs; 32 bits, wrapping.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    clear:
        Set all counters to 0; time stamps stay until their commands run again.
    running:
        Count this cycle.
    mac_busy, stall_weights, stall_attention, stall_drain, idle_cycles, read_beat, write_beat:
        Events; the values are in ``values_`` + register name.
    started, ended:
        Strobes with a command's index; stores the value of ``cycles``. Commands from ``max_commands`` on have none.
    stamp_select:
        Command whose stamps ``stamp_start`` and ``stamp_end`` show, 2 cycles later.

    Resources: two memories of ``max_commands`` x 32 bits.
    """

    STAMP_LATENCY = 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        names = ("cycles", *EVENTS, *BEATS)
        super().__init__(
            {
                "clear": In(1),
                "running": In(1),
                **{name: In(1) for name in (*EVENTS, *BEATS.values())},
                "started": In(Strobe(16)),
                "ended": In(Strobe(16)),
                "stamp_select": In(16),
                **{f"value_{name}": Out(32) for name in names},
                "stamp_start": Out(32),
                "stamp_end": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build one counter an event; two memories written on the strobes."""
        m = Module()
        increments = {"cycles": 1} | {name: getattr(self, name) for name in EVENTS}
        for name, event in BEATS.items():
            increments[name] = getattr(self, event) << exact_log2(self._config.memory_bytes)
        for name, increment in increments.items():
            value = getattr(self, f"value_{name}")
            with m.If(self.clear):
                m.d.sync += value.eq(0)
            with m.Elif(self.running):
                m.d.sync += value.eq(value + increment)

        depth = self._config.max_commands
        for name, strobe, shown in (
            ("starts", self.started, self.stamp_start),
            ("ends", self.ended, self.stamp_end),
        ):
            memory = m.submodules[name] = Memory(shape=32, depth=depth, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.addr.eq(strobe.payload),
                write.data.eq(self.value_cycles),
                write.en.eq(strobe.valid & (strobe.payload < depth)),
                read.addr.eq(self.stamp_select),
            ]
            m.d.sync += shown.eq(read.data)
        return m


class Watchdog(wiring.Component):
    """Strikes when a running machine makes no progress for ``limit`` cycles.

    Members: ``running``; ``progress`` (1 in a cycle that has some); ``limit`` in cycles, 0 for never; ``strike``.
    """

    def __init__(self) -> None:
        super().__init__({"running": In(1), "progress": In(1), "limit": In(32), "strike": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Count idle cycles."""
        m = Module()
        quiet = Signal(32)
        with m.If(~self.running | self.progress | self.strike):
            m.d.sync += quiet.eq(0)
        with m.Else():
            m.d.sync += quiet.eq(quiet + 1)
        m.d.comb += self.strike.eq(self.running & ~self.progress & (self.limit != 0) & (quiet + 1 >= self.limit))
        return m
