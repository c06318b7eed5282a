"""RefreshSequencer: power-up and auto refresh, the commands that concern the chip as a whole."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.sdram.chip import POWER_UP_REFRESHES, ChipCommand, SdramTiming


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
        count, last = self._calendar(m, due)
        m.d.comb += [waited.eq(wait == 0), self.command.eq(ChipCommand.NOTHING)]
        with m.If(~waited):
            m.d.sync += wait.eq(wait - 1)
        # Power-up and every later refresh share PRECHARGE and REFRESH: closing all banks first is right in both cases.
        # The traffic stops for the whole sequence, so only the chip's own minimum times have to be counted here.
        with m.FSM() as fsm:
            with m.State("PRECHARGE"):
                with m.If(waited & self.may_precharge):
                    m.d.comb += self.command.eq(ChipCommand.PRECHARGE)
                    m.d.sync += wait.eq(timing.rp - 1)
                    m.next = "REFRESH"
            with m.State("REFRESH"):
                with m.If(waited):
                    m.d.comb += self.command.eq(ChipCommand.REFRESH)
                    m.d.sync += [wait.eq(timing.rfc - 1), due.eq(0), refreshes.eq(refreshes + ~self.initialised)]
                    m.next = "REFRESHING"
            # The chip takes no command until a refresh is over; at power-up another one or the mode register follows.
            with m.State("REFRESHING"):
                with m.If(self.initialised):
                    with m.If(wait[1:] == 0):  # the next cycle is the traffic's
                        m.d.sync += self.hold.eq(0)
                        m.next = "TRAFFIC"
                with m.Elif(waited):
                    with m.If(refreshes == POWER_UP_REFRESHES):
                        m.d.comb += self.command.eq(ChipCommand.LOAD_MODE)
                        m.d.sync += [wait.eq(timing.mrd - 1), self.initialised.eq(1)]
                    with m.Else():
                        m.next = "REFRESH"
            # A refresh does not wait for an idle moment: a stream that never ends must not starve it.
            with m.State("TRAFFIC"):
                with m.If(due):
                    m.d.sync += self.hold.eq(1)
                    m.next = "PRECHARGE"
        state = {name: fsm.ongoing(name) for name in ("PRECHARGE", "REFRESH", "REFRESHING", "TRAFFIC")}
        self._claims(m, state, due, count, last, wait)
        return m

    def _calendar(self, m: Module, due: Signal) -> tuple[Signal, Signal]:
        """Let a refresh fall due at even intervals; returns the cycles since it did, and whether it does next cycle."""
        timing = self._timing
        period, start = timing.refresh_period, timing.rfc + 1
        count, last = Signal(range(period), init=start), Signal()
        m.d.sync += [count.eq(count + 1), last.eq(count == period - 2)]
        with m.If(last):
            m.d.sync += [count.eq(0), due.eq(1)]
        with m.If(~self.initialised):  # counts from the last refresh of power-up, then
            m.d.sync += [count.eq(start), due.eq(0)]
        return count, last

    def _claims(
        self, m: Module, state: dict[str, Value], due: Signal, count: Signal, last: Signal, wait: Signal
    ) -> None:
        """The first claim is the point; with the others, which say what else never happens, induction proves it."""
        timing, ready = self._timing, self.initialised
        period, delay = timing.refresh_period, timing.refresh_delay
        elapsed = Signal((timing.refi + timing.rfc).bit_length(), init=-1)
        with m.If(self.command == ChipCommand.REFRESH):
            m.d.sync += elapsed.eq(1)
        with m.Elif(~elapsed.all()):
            m.d.sync += elapsed.eq(elapsed + 1)
        claims = [
            (ready, elapsed <= timing.refi),
            (ready, elapsed <= count + Mux(due, period, 0)),
            (ready & due, count <= delay),
            (ready, (count < period) & (last == (count == period - 1))),
            (~ready, (count == timing.rfc + 1) & ~last & ~due),
            (~ready & state["REFRESHING"], elapsed + wait == timing.rfc),
            (state["TRAFFIC"], ready & (wait == 0) & (~due | (count == 0))),
            (Const(1), self.hold == ~state["TRAFFIC"]),
            (ready & state["PRECHARGE"], due & (wait == 0) & (count >= 1) & (count <= delay - timing.rp)),
            (ready & state["REFRESH"], due & (count + wait <= delay)),
            (ready & state["REFRESHING"], ~due & (count + wait <= max(delay, timing.mrd) + timing.rfc)),
        ]
        for number, (when, holds) in enumerate(claims):
            check(m, when, holds, "claim {} about refresh does not hold", number)
