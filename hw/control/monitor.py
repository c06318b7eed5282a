"""Monitor: what the machine spends each cycle on, and whether it gets on at all."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import Stalls
from tessera.hw.interfaces.control import CycleReport
from tessera.hw.interfaces.sequencer import ProgramProgress
from tessera.hw.isa import CycleCause, StallSource


class Monitor(wiring.Component):
    """Watches the machine for the counters, the stamps and the watchdog.

    Parameters
    ----------
    config:
        Sizes of the machine.
    events:
        Number of events that count as progress.

    Members
    -------
    progress: In(ProgramProgress)
        The sequencer.
    stall: In(Stalls)
        Why the engine has no beat.
    beat, busy: In(1)
        The array takes a beat; the engine has a job.
    engine_awaited, store_busy: In(1)
        The next command waits for the engine; the store unit has jobs.
    events: In
        One bit per event: the machine gets on.
    found: Out(CycleReport)
        What each cycle is spent on, and whether the machine gets on.
    """

    def __init__(self, config: AcceleratorConfig, events: int) -> None:
        super().__init__(
            {
                "progress": In(ProgramProgress(config)),
                "stall": In(Stalls()),
                "beat": In(1),
                "busy": In(1),
                "engine_awaited": In(1),
                "store_busy": In(1),
                "events": In(events),
                "found": Out(CycleReport()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Registers behind everything that comes from afar: a count or a strike a cycle later is as good."""
        m = Module()
        moved = Signal(len(self.events))
        source = Mux(self.stall.weights, StallSource.STREAM, self.progress.stalled_on)
        m.d.sync += [moved.eq(self.events), self.found.progress.eq(moved.any()), self.found.stalled_on.eq(source)]
        m.d.comb += self.found.owner.eq(Mux(self.busy, self.progress.engine_place.command, self.progress.index))
        self._find_cause(m)
        return m

    def _find_cause(self, m: Module) -> None:
        """Name the cause of the cycle before: of several that apply, the one that stands last.

        The units find out late in a cycle why it has no beat, so the choice among the reasons waits for the next one.
        """
        reasons = (
            (self.engine_awaited, CycleCause.DRAIN),
            (self.store_busy, CycleCause.STORE),
            (self.stall.drain, CycleCause.DRAIN),
            (self.stall.softmax, CycleCause.SOFTMAX),
            (self.stall.activations, CycleCause.ACTIVATIONS),
            (self.stall.weights, CycleCause.WEIGHTS),
            (self.beat, CycleCause.BUSY),
        )
        found = Signal(len(reasons))
        m.d.sync += found.eq(Cat(event for event, _ in reasons))
        m.d.comb += self.found.cause.eq(CycleCause.SEQUENCER)
        for bit, (_, cause) in zip(found, reasons, strict=True):
            with m.If(bit):
                m.d.comb += self.found.cause.eq(cause)
