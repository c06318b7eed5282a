"""Performance counters of a run, and the watchdog."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.control import beat_events_layout, run_counts_layout
from hw.isa import CycleCause


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
        What this cycle is spent on, a ``CycleCause``.
    beats:
        Beats transferred in this cycle; :func:`hw.interfaces.control.beat_events_layout`.
    counts:
        The counters: cycles and beats before this cycle; :func:`hw.interfaces.control.run_counts_layout`.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "running": In(1),
                "cause": In(3),
                "beats": In(beat_events_layout()),
                "counts": Out(run_counts_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build one counter per register."""
        m = Module()
        counts, beat_bytes = self.counts, exact_log2(self._config.memory_bytes)
        # Beats are counted in bytes here, so the host needs to know nothing about the width of the bus.
        increments = (
            (counts.cycles, 1),
            *((counts.causes[cause], self.cause == cause) for cause in CycleCause),
            (counts.read_bytes, self.beats.read << beat_bytes),
            (counts.write_bytes, self.beats.write << beat_bytes),
        )
        for value, increment in increments:
            with m.If(self.clear):
                m.d.sync += value.eq(0)
            with m.Elif(self.running):
                m.d.sync += value.eq(value + increment)
        return m


class Watchdog(wiring.Component):
    """Strikes when a running machine makes no progress for ``limit`` cycles.

    Members
    -------
    running:
        The machine runs.
    progress:
        1 in a cycle that has some.
    limit:
        Cycles without progress; 0 for never.
    strike:
        1 from ``LATENCY`` cycles after the last of them, until there is progress or the run ends.
    """

    LATENCY = 2

    def __init__(self) -> None:
        super().__init__({"running": In(1), "progress": In(1), "limit": In(32), "strike": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Count idle cycles."""
        m = Module()
        moved, quiet, expired = Signal(init=1), Signal(32, init=1), Signal()
        # The comparison of 32 bits has a cycle of its own; ``quiet`` starts at 1 to make up for it.
        m.d.sync += [moved.eq(self.progress), expired.eq(0)]
        with m.If(~self.running | moved | self.strike):
            m.d.sync += quiet.eq(1)
        with m.Else():
            m.d.sync += [quiet.eq(quiet + 1), expired.eq((self.limit != 0) & (quiet >= self.limit))]
        m.d.comb += self.strike.eq(self.running & expired)
        return m
