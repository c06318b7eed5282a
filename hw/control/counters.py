"""Performance counters of a run, and the watchdog."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.isa import CycleCause

BEATS = {"read_bytes": "read_beat", "write_bytes": "write_beat"}
"""Registers that count bytes, and their inputs: a beat was transferred."""
COUNTERS = ("cycles", *(cause.counter for cause in CycleCause), *BEATS)
"""Registers that hold counters."""


class Counters(wiring.Component):
    """Counts while a program runs; 32 bits, wrapping.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    clear:
        Set all counters to 0.
    running:
        Count this cycle.
    cause:
        What this cycle is spent on, a CycleCause.
    read_beat, write_beat:
        A beat was transferred.
    value_REGISTER:
        For each of ``COUNTERS`` its value, of the cycles before this one.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "running": In(1),
                "cause": In(3),
                **{name: In(1) for name in BEATS.values()},
                **{f"value_{name}": Out(32) for name in COUNTERS},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build one counter a register."""
        m = Module()
        increments = {"cycles": 1} | {cause.counter: self.cause == cause for cause in CycleCause}
        for name, event in BEATS.items():
            increments[name] = getattr(self, event) << exact_log2(self._config.memory_bytes)
        for name, increment in increments.items():
            value = getattr(self, f"value_{name}")
            with m.If(self.clear):
                m.d.sync += value.eq(0)
            with m.Elif(self.running):
                m.d.sync += value.eq(value + increment)
        return m


class Watchdog(wiring.Component):
    """Strikes when a running machine makes no progress for ``limit`` cycles, ``LATENCY`` cycles after the last of them.

    Members: ``running``; ``progress`` (1 in a cycle that has some); ``limit`` in cycles, 0 for never; ``strike``.
    """

    LATENCY = 2

    def __init__(self) -> None:
        super().__init__({"running": In(1), "progress": In(1), "limit": In(32), "strike": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Count idle cycles."""
        m = Module()
        moved, quiet, expired = Signal(init=1), Signal(32, init=1), Signal()
        m.d.sync += [moved.eq(self.progress), expired.eq(0)]
        with m.If(~self.running | moved | self.strike):
            m.d.sync += quiet.eq(1)
        with m.Else():
            m.d.sync += [quiet.eq(quiet + 1), expired.eq((self.limit != 0) & (quiet >= self.limit))]
        m.d.comb += self.strike.eq(self.running & expired)
        return m
