"""SdramController: runs of words to and from the chip, one word a cycle, the next row opened meanwhile."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.pipeline import delay
from tessera.hw.interfaces.sdram import (
    BANK_BITS,
    ROW_BITS,
    WORD_BITS,
    SdramPads,
    WordAccess,
    finished_word_layout,
    row_run_layout,
)
from tessera.hw.sdram.banks import Banks
from tessera.hw.sdram.chip import ALL_BANKS, ChipCommand, SdramTiming
from tessera.hw.sdram.elapsed import Elapsed
from tessera.hw.sdram.refresh import RefreshSequencer


class _Work:
    """Signals of the two runs at work, and of the command that the chip gets in this cycle.

    Members
    -------
    following, waiting, compared, matches:
        The next run; whether there is one; whether it has been compared with its bank's row, and matched.
    current, active, last, able:
        The current run; whether there is one; whether its next word is its last; whether its row is open and ready.
    planned, row_command:
        The row command that was decided in the cycle before; whether it takes this cycle.
    access, origin:
        A word of the current run moves in this cycle; whose it is.
    """

    def __init__(self, clients: int) -> None:
        self.following = Signal(row_run_layout(clients), name="next")
        self.waiting, self.compared, self.matches = Signal(), Signal(), Signal()
        self.current = Signal(row_run_layout(clients), name="current")
        self.active, self.last, self.able = Signal(), Signal(), Signal()
        plan = data.StructLayout({"opens": 1, "closes": 1, "again": 1, "bank": BANK_BITS, "row": ROW_BITS})
        self.planned, self.row_command = Signal(plan, name="planned"), Signal()
        self.access = Signal()
        self.origin = Signal(finished_word_layout(clients), name="origin")


class SdramController(wiring.Component):
    """Executes runs in order.

    Two runs are at work. The *current* one moves its words, one READ or WRITE per cycle. Meanwhile the *next* one has
    its row opened, if that lies in another bank. PRECHARGE and ACTIVE take the command of one cycle each, so a new row
    costs a stream two cycles. A refresh closes all rows; the current run then opens its own again and goes on.

    Parameters
    ----------
    timing:
        The chip in cycles.
    clients:
        Number of clients that a run may belong to.
    extra_latency:
        Cycles that the way to the chip and back adds. It is 0 if ``dq_i`` may be taken CAS latency edges after the one
        at which the chip took READ, as with one clock for both ends.

    Members
    -------
    words:
        Runs of words, each within a row; :class:`tessera.hw.interfaces.sdram.WordAccess`.
    pads:
        To the chip.
    initialised:
        Power-up is over; runs are accepted before, and wait.

    Timing: a run to its first command at the pads 4 cycles if its row is open; from there to ``read`` CAS latency + 1 +
    ``extra_latency`` cycles.
    """

    def __init__(self, timing: SdramTiming, clients: int, extra_latency: int = 0) -> None:
        if extra_latency < 0:
            raise ValueError(f"extra_latency is {extra_latency}; a word cannot be taken before the chip sends it")
        self._timing = timing
        self._clients = clients
        self._extra_latency = extra_latency
        self._banks, self._refresh = Banks(timing), RefreshSequencer(timing)
        super().__init__({"words": In(WordAccess(clients)), "pads": Out(SdramPads()), "initialised": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """The next run, the current run, and which of their commands the chip gets."""
        m = Module()
        m.submodules.banks = banks = self._banks
        m.submodules.refresh = refresh = self._refresh
        work = _Work(self._clients)
        m.d.comb += [
            refresh.may_precharge.eq(banks.may_precharge_all),
            banks.precharge_all.eq(refresh.command == ChipCommand.PRECHARGE),
            self.initialised.eq(refresh.initialised),
        ]
        self._row_commands(m, work)
        self._accesses(m, work)
        self._runs(m, work)
        self._command_pads(m, work)
        self._data_pads(m, work)
        return m

    def _row_commands(self, m: Module, work: _Work) -> None:
        """Open the current run's row again after a refresh; else close and open for the next run.

        Each is decided one cycle and issued the next, unless a refresh comes between; then it is decided anew.
        """
        banks, following, current, planned = self._banks, work.following, work.current, work.planned
        reopen, opens, closes = Signal(), Signal(), Signal()
        following_open = banks.open.bit_select(following.bank, 1)
        busy = work.active & (following.bank == current.bank)
        m.d.comb += [
            reopen.eq(work.active & ~banks.open.bit_select(current.bank, 1)),
            opens.eq(
                Mux(
                    reopen,
                    banks.may_activate.bit_select(current.bank, 1),
                    work.compared & ~busy & ~following_open & banks.may_activate.bit_select(following.bank, 1),
                )
            ),
            closes.eq(
                work.compared
                & ~work.matches
                & ~reopen
                & ~busy
                & following_open
                & banks.may_precharge.bit_select(following.bank, 1)
            ),
        ]
        # The plan is a register, because it looks at the state of four banks; so a row command comes a cycle later.
        m.d.sync += [
            planned.opens.eq(opens & ~work.row_command),
            planned.closes.eq(closes & ~work.row_command),
            planned.again.eq(reopen),
            planned.bank.eq(Mux(reopen, current.bank, following.bank)),
            planned.row.eq(Mux(reopen, banks.row[current.bank], following.row)),
        ]
        m.d.comb += [
            banks.activate.valid.eq(planned.opens & ~self._refresh.hold),
            *same_fields(banks.activate.payload, planned, "bank", "row"),
            banks.precharge.valid.eq(planned.closes & ~self._refresh.hold),
            banks.precharge.payload.eq(planned.bank),
            work.row_command.eq(planned.opens | planned.closes),
        ]

    def _accesses(self, m: Module, work: _Work) -> None:
        """Move a word of the current run unless a row command goes first."""
        banks, current = self._banks, work.current
        # A WRITE waits until the words of earlier READs have left the data pins, which both share.
        read = Elapsed(m, work.access & ~current.write, self._timing.read_to_write, "since_read")
        writes = work.access & current.write
        m.d.comb += [
            work.origin.client.eq(current.client),
            work.origin.last.eq(work.last & current.final),
            work.access.eq(
                work.able
                & (~current.write | (self.words.write_data.valid & read.reached(self._timing.read_to_write)))
                & ~work.row_command
                & ~self._refresh.hold
            ),
            self.words.writer.eq(current.client),
            self.words.write_data.ready.eq(writes),
            self.words.written.valid.eq(writes),
            self.words.written.payload.eq(work.origin),
            banks.written.valid.eq(writes),
            banks.written.payload.eq(current.bank),
        ]

    def _runs(self, m: Module, work: _Work) -> None:
        """Take the next run, compare it, and make it the current one once its row is open and the last one done."""
        banks, following, current = self._banks, work.following, work.current
        opened, moves = Signal(), Signal()
        m.d.comb += [
            opened.eq(work.compared & work.matches & (banks.open & banks.may_access).bit_select(following.bank, 1)),
            moves.eq(opened & (~work.active | (work.access & work.last))),
            self.words.run.ready.eq(~work.waiting),
        ]
        # Only a refresh closes the current run's row. ``able`` is a register because it looks at four banks: it notices
        # the closed row before ``hold`` ends.
        m.d.sync += work.able.eq(
            moves
            | (work.active & ~(work.access & work.last) & (banks.open & banks.may_access).bit_select(current.bank, 1))
        )
        with m.If(work.access):
            m.d.sync += [
                current.column.eq(current.column + 1),
                current.words_minus_one.eq(current.words_minus_one - 1),
                work.last.eq(current.words_minus_one == 1),
                work.active.eq(~work.last),
            ]
        with m.If(moves):
            m.d.sync += [current.eq(following), work.active.eq(1), work.last.eq(following.words_minus_one == 0)]
        with m.If(work.waiting):
            m.d.sync += work.compared.eq(1)
            with m.If(~work.compared):
                m.d.sync += work.matches.eq(banks.row[following.bank] == following.row)
            with m.Elif(banks.activate.valid & ~work.planned.again):
                m.d.sync += work.matches.eq(1)
            with m.If(moves):
                m.d.sync += [work.waiting.eq(0), work.compared.eq(0)]
        with m.Else():
            m.d.sync += [following.eq(self.words.run.payload), work.waiting.eq(self.words.run.valid)]

    def _command_pads(self, m: Module, work: _Work) -> None:
        """Commands and addresses, each from a flip-flop.

        Address and data pins mean nothing without their command, so they may change whenever that saves logic.
        """
        pads, banks, refresh, current = self.pads, self._banks, self._refresh, work.current
        command = Signal(3, init=ChipCommand.NOTHING)
        row = banks.activate.payload.row
        wholesale = Mux(refresh.command == ChipCommand.PRECHARGE, ALL_BANKS, self._timing.mode_register)
        # Until the first cycle after reset the chip is deselected with its clock off.
        deselected = Signal(init=1)
        m.d.comb += [Cat(pads.ras_n, pads.cas_n, pads.we_n).eq(command), pads.cs_n.eq(deselected)]
        # A column is shorter than a row: so there is 0 in the bit that would close the bank afterwards, or all of them.
        m.d.sync += [
            pads.cke.eq(1),
            deselected.eq(0),
            command.eq(Mux(work.access, Mux(current.write, ChipCommand.WRITE, ChipCommand.READ), refresh.command)),
            pads.ba.eq(Mux(refresh.hold, 0, Mux(work.row_command, banks.activate.payload.bank, current.bank))),
            pads.a.eq(Mux(refresh.hold, wholesale, Mux(work.row_command, row, current.column))),
        ]
        with m.If(banks.activate.valid):
            m.d.sync += command.eq(ChipCommand.ACTIVE)
        with m.If(banks.precharge.valid):
            m.d.sync += [command.eq(ChipCommand.PRECHARGE), pads.a[10].eq(0)]

    def _data_pads(self, m: Module, work: _Work) -> None:
        """Words out with their command; words in with a note that travelled along."""
        pads, current, word = self.pads, work.current, self.words.write_data.payload
        writes = self.words.written.valid
        masked, arrived = Signal(WORD_BITS // 8, init=-1), Signal(WORD_BITS)
        m.d.comb += pads.dqm.eq(masked)
        m.d.sync += [
            pads.dq_o.eq(word.data),
            pads.dq_oe.eq(writes),
            masked.eq(Mux(self.initialised, Mux(writes, word.mask, 0), -1)),
            arrived.eq(pads.dq_i),
        ]
        # To the pads, through the chip, into the input register.
        latency, read = self._timing.cas_latency + 2 + self._extra_latency, self.words.read
        m.d.comb += [
            read.valid.eq(delay(m, work.access & ~current.write, latency, name="asked")),
            read.payload.data.eq(arrived),
            *same_fields(read.payload, delay(m, work.origin, latency, name="origin"), "client", "last"),
        ]
