"""Performance counters of a run, and the watchdog."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.control import CycleReport, beat_events_layout, run_counts_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import CycleCause


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
        Beats transferred in this cycle; :func:`tessera.hw.interfaces.control.beat_events_layout`.
    counts:
        The counters: cycles and beats before this cycle; :func:`tessera.hw.interfaces.control.run_counts_layout`.
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
    found: In(CycleReport)
        Cycles with progress, and what the machine waits for.
    limit:
        Cycles without progress; 0 for never.
    strike: Out(Strobe(3))
        The machine makes no progress. It is valid from ``LATENCY`` cycles after the last of those cycles, until there
        is progress or the run ends. The payload is ``stalled_on`` of the cycle before.
    """

    LATENCY = 2

    def __init__(self) -> None:
        super().__init__({"running": In(1), "found": In(CycleReport()), "limit": In(32), "strike": Out(Strobe(3))})

    def elaborate(self, platform: object) -> Module:
        """Count idle cycles."""
        m = Module()
        moved, quiet, expired = Signal(init=1), Signal(32, init=1), Signal()
        # The comparison of 32 bits has a cycle of its own; ``quiet`` starts at 1 to make up for it.
        m.d.sync += [moved.eq(self.found.progress), expired.eq(0), self.strike.payload.eq(self.found.stalled_on)]
        with m.If(~self.running | moved | self.strike.valid):
            m.d.sync += quiet.eq(1)
        with m.Else():
            m.d.sync += [quiet.eq(quiet + 1), expired.eq((self.limit != 0) & (quiet >= self.limit))]
        m.d.comb += self.strike.valid.eq(self.running & expired)
        return m
