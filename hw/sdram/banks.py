"""Banks: which row each bank has open, and which commands it may have."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.interfaces.sdram import BANK_BITS, BANKS, ROW_BITS
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.sdram.chip import SdramTiming
from tessera.hw.sdram.elapsed import Elapsed


class Banks(wiring.Component):
    """State and timing of the four banks.

    Parameters
    ----------
    timing:
        The chip in cycles.

    Members
    -------
    activate, precharge, written:
        Commands of this cycle: a row opened, a bank closed, a word written.
    precharge_all:
        1 in a cycle that closes all banks.
    open, row:
        State of each bank after the commands of all earlier cycles. A closed bank's row is the one it had open last.
    may_activate, may_precharge, may_access:
        One bit per bank: the chip's minimum times allow the command in the next cycle if none comes in this one.
    may_precharge_all:
        All banks may be closed in this cycle.
    """

    def __init__(self, timing: SdramTiming) -> None:
        self._timing = timing
        super().__init__(
            {
                "activate": In(Strobe(data.StructLayout({"bank": BANK_BITS, "row": ROW_BITS}))),
                "precharge": In(Strobe(unsigned(BANK_BITS))),
                "precharge_all": In(1),
                "written": In(Strobe(unsigned(BANK_BITS))),
                "open": Out(BANKS),
                "row": Out(data.ArrayLayout(ROW_BITS, BANKS)),
                "may_activate": Out(BANKS),
                "may_precharge": Out(BANKS),
                "may_access": Out(BANKS),
                "may_precharge_all": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep each bank apart; only tRRD counts for all of them."""
        m = Module()
        any_activated = Elapsed(m, self.activate.valid, self._timing.rrd, "since_any_activate")
        closable = [self._bank(m, bank, any_activated) for bank in range(BANKS)]
        # Refresh asks for this cycle, where the others ask for the next: so its condition is a cycle longer.
        m.d.comb += self.may_precharge_all.eq(Cat(*closable).all())
        return m

    def _bank(self, m: Module, bank: int, any_activated: Elapsed) -> Value:
        """Keep one bank; returns whether it may be closed in this cycle."""
        timing, strobe = self._timing, self.activate.payload
        activated, precharged, written = (
            Signal(name=f"{what}_{bank}") for what in ("activated", "precharged", "write")
        )
        m.d.comb += [
            activated.eq(self.activate.valid & (strobe.bank == bank)),
            precharged.eq((self.precharge.valid & (self.precharge.payload == bank)) | self.precharge_all),
            written.eq(self.written.valid & (self.written.payload == bank)),
        ]
        # A row of flip-flops per kind of command, because the minimum times are counted from different commands.
        longest = max(timing.rcd, timing.ras, timing.rc)
        activate = Elapsed(m, activated, longest, f"since_activate_{bank}")
        precharge = Elapsed(m, precharged, timing.rp, f"since_precharge_{bank}")
        write = Elapsed(m, written, timing.wr, f"since_write_{bank}")
        # All of them look one cycle ahead: the controller plans in one cycle and issues in the next.
        m.d.comb += [
            self.may_activate[bank].eq(
                activate.reached(timing.rc - 1)
                & precharge.reached(timing.rp - 1)
                & any_activated.reached(timing.rrd - 1)
            ),
            self.may_precharge[bank].eq(activate.reached(timing.ras - 1) & write.reached(timing.wr - 1)),
            self.may_access[bank].eq(activate.reached(timing.rcd - 1)),
        ]
        # The row outlives its bank's PRECHARGE, because after a refresh the current run opens it again.
        with m.If(activated):
            m.d.sync += [self.open[bank].eq(1), self.row[bank].eq(strobe.row)]
        with m.If(precharged):
            m.d.sync += self.open[bank].eq(0)
        check(m, activated, ~self.open[bank], "ACTIVE for bank {}, which is open", bank)
        check(m, written, self.open[bank], "WRITE to bank {}, which is closed", bank)
        return activate.reached(timing.active_to_close) & write.reached(timing.wr)
