"""RefreshSequencer: power-up and auto refresh, the commands that concern the chip as a whole."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.boards.sdram.chip import POWER_UP_REFRESHES, SdramTiming
from hw.boards.sdram.interfaces import Command


class RefreshSequencer(wiring.Component):
    """Takes the chip through power-up, then interrupts the traffic for a refresh whenever one falls due.

    Parameters
    ----------
    timing:
        The chip in cycles.

    Members
    -------
    may_precharge:
        All banks may be closed in this cycle.
    hold:
        The traffic must issue no command in this cycle.
    command:
        What is issued instead while ``hold``: NOTHING, PRECHARGE (of all banks), REFRESH or LOAD_MODE.
    initialised:
        Power-up is over.

    A refresh falls due every ``timing.refresh_period`` cycles, whatever happens, and is issued at most
    ``timing.refresh_delay`` cycles later: once ``hold`` is 1, only tRAS and tWR of commands already issued can put off
    the PRECHARGE. So two refreshes are never more than ``timing.refi`` apart, and none is ever left out.
    """

    def __init__(self, timing: SdramTiming) -> None:
        self._timing = timing
        super().__init__({"may_precharge": In(1), "hold": Out(1, init=1), "command": Out(3), "initialised": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """A calendar, and the sequence of commands."""
        m = Module()
        timing = self._timing
        due, refreshes = Signal(), Signal(range(POWER_UP_REFRESHES + 1))
        wait = Signal(range(max(timing.power_up, timing.rp, timing.rfc, timing.mrd)), init=timing.power_up - 1)
        waited = Signal()
        self._calendar(m, due)
        m.d.comb += [waited.eq(wait == 0), self.command.eq(Command.NOTHING)]
        with m.If(~waited):
            m.d.sync += wait.eq(wait - 1)
        with m.FSM():
            with m.State("PRECHARGE"):
                with m.If(waited & self.may_precharge):
                    m.d.comb += self.command.eq(Command.PRECHARGE)
                    m.d.sync += wait.eq(timing.rp - 1)
                    m.next = "REFRESH"
            with m.State("REFRESH"):
                with m.If(waited):
                    m.d.comb += self.command.eq(Command.REFRESH)
                    m.d.sync += [wait.eq(timing.rfc - 1), due.eq(0), refreshes.eq(refreshes + ~self.initialised)]
                    m.next = "REFRESHING"
            with m.State("REFRESHING"):
                with m.If(self.initialised):
                    with m.If(wait[1:] == 0):  # the next cycle is the traffic's
                        m.d.sync += self.hold.eq(0)
                        m.next = "TRAFFIC"
                with m.Elif(waited):
                    with m.If(refreshes == POWER_UP_REFRESHES):
                        m.d.comb += self.command.eq(Command.LOAD_MODE)
                        m.d.sync += [wait.eq(timing.mrd - 1), self.initialised.eq(1)]
                    with m.Else():
                        m.next = "REFRESH"
            with m.State("TRAFFIC"):
                with m.If(due):
                    m.d.sync += self.hold.eq(1)
                    m.next = "PRECHARGE"
        return m

    def _calendar(self, m: Module, due: Signal) -> None:
        """Let a refresh fall due at even intervals."""
        period = self._timing.refresh_period
        count = Signal(range(period))
        last = Signal()
        m.d.sync += last.eq(count == period - 2)
        m.d.sync += count.eq(count + 1)
        with m.If(last):
            m.d.sync += [count.eq(0), due.eq(1)]
