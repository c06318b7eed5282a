"""SdramController: runs of words to and from the chip, one word a cycle, the next row opened meanwhile."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.interfaces.sdram import (
    BANK_BITS,
    ROW_BITS,
    WORD_BITS,
    SdramPads,
    finished_word_layout,
    read_word_layout,
    row_run_layout,
    write_word_layout,
)
from hw.interfaces.strobe import Strobe
from hw.sdram.banks import Banks
from hw.sdram.chip import SdramTiming
from hw.sdram.elapsed import Elapsed
from hw.sdram.interfaces import ALL_BANKS, Command
from hw.sdram.refresh import RefreshSequencer


class SdramController(wiring.Component):
    """Executes runs in order.

    Two runs are at work: the *current* one moves its words, one READ or WRITE a cycle; the *next* one has its row
    opened meanwhile, if that lies in another bank. PRECHARGE and ACTIVE take the command of a cycle each, so a new row
    costs a stream two cycles. A refresh closes all rows; the current run then opens its own again and goes on.

    Parameters
    ----------
    timing:
        The chip in cycles.
    clients:
        Number of clients that a run may belong to.
    extra_latency:
        Cycles that the way to the chip and back adds: 0 when ``dq_i`` may be taken at the edge at which, with one clock
        for both ends, the chip would show the word (CAS latency after the edge at which it took READ).

    Members
    -------
    run:
        Runs of words, each within a row. For a run that reads there must be room for all its words.
    write_data:
        Words to write, in the order of the runs that write; ``writer`` says whose is wanted.
    written:
        A word went to the chip, whose, and whether it ends its burst.
    read:
        A word that was read.
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
        finished = finished_word_layout(clients)
        super().__init__(
            {
                "run": In(stream.Signature(row_run_layout(clients))),
                "write_data": In(stream.Signature(write_word_layout())),
                "writer": Out(finished["client"].shape),
                "written": Out(Strobe(finished)),
                "read": Out(Strobe(read_word_layout(clients))),
                "pads": Out(SdramPads()),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The next run, the current run, and which of their commands the chip gets."""
        m = Module()
        m.submodules.banks = self._banks = banks = Banks(self._timing)
        m.submodules.refresh = self._refresh = refresh = RefreshSequencer(self._timing)
        self._next, self._current = (Signal(row_run_layout(self._clients), name=name) for name in ("next", "current"))
        # A run is compared with its bank's row before anything is done for it.
        self._waiting, self._compared, self._matches = Signal(), Signal(), Signal()
        self._active, self._last, self._able = Signal(), Signal(), Signal()
        self._planned = Signal(
            data.StructLayout({"opens": 1, "closes": 1, "again": 1, "bank": BANK_BITS, "row": ROW_BITS}), name="planned"
        )
        self._row_command, self._access = Signal(), Signal()
        m.d.comb += [
            refresh.may_precharge.eq(banks.may_precharge_all),
            banks.precharge_all.eq(refresh.command == Command.PRECHARGE),
            self.initialised.eq(refresh.initialised),
        ]
        self._row_commands(m)
        self._accesses(m)
        self._runs(m)
        self._command_pads(m)
        self._data_pads(m)
        return m

    def _row_commands(self, m: Module) -> None:
        """Open the current run's row again after a refresh; else close and open for the next run.

        Each is decided one cycle and issued the next, unless a refresh comes between; then it is decided anew.
        """
        banks, following, current, planned = self._banks, self._next, self._current, self._planned
        reopen, opens, closes = Signal(), Signal(), Signal()
        following_open = banks.open.bit_select(following.bank, 1)
        busy = self._active & (following.bank == current.bank)
        m.d.comb += [
            reopen.eq(self._active & ~banks.open.bit_select(current.bank, 1)),
            opens.eq(
                Mux(
                    reopen,
                    banks.may_activate.bit_select(current.bank, 1),
                    self._compared & ~busy & ~following_open & banks.may_activate.bit_select(following.bank, 1),
                )
            ),
            closes.eq(
                self._compared
                & ~self._matches
                & ~reopen
                & ~busy
                & following_open
                & banks.may_precharge.bit_select(following.bank, 1)
            ),
        ]
        m.d.sync += [
            planned.opens.eq(opens & ~self._row_command),
            planned.closes.eq(closes & ~self._row_command),
            planned.again.eq(reopen),
            planned.bank.eq(Mux(reopen, current.bank, following.bank)),
            planned.row.eq(Mux(reopen, banks.row[current.bank], following.row)),
        ]
        m.d.comb += [
            banks.activate.valid.eq(planned.opens & ~self._refresh.hold),
            banks.activate.payload.bank.eq(planned.bank),
            banks.activate.payload.row.eq(planned.row),
            banks.precharge.valid.eq(planned.closes & ~self._refresh.hold),
            banks.precharge.payload.eq(planned.bank),
            self._row_command.eq(planned.opens | planned.closes),
        ]

    def _accesses(self, m: Module) -> None:
        """Move a word of the current run unless a row command goes first."""
        banks, current = self._banks, self._current
        read = Elapsed(m, self._access & ~current.write, self._timing.read_to_write, "since_read")
        m.d.comb += [
            self._access.eq(
                self._able
                & (~current.write | (self.write_data.valid & read.reached(self._timing.read_to_write)))
                & ~self._row_command
                & ~self._refresh.hold
            ),
            self.writer.eq(current.client),
            self.write_data.ready.eq(self._access & current.write),
            self.written.valid.eq(self._access & current.write),
            self.written.payload.client.eq(current.client),
            self.written.payload.last.eq(self._last & current.final),
            banks.written.valid.eq(self.written.valid),
            banks.written.payload.eq(current.bank),
        ]

    def _runs(self, m: Module) -> None:
        """Take the next run, compare it, and make it the current one once its row is open and the last one done."""
        banks, following, current = self._banks, self._next, self._current
        opened, moves = Signal(), Signal()
        m.d.comb += [
            opened.eq(self._compared & self._matches & (banks.open & banks.may_access).bit_select(following.bank, 1)),
            moves.eq(opened & (~self._active | (self._access & self._last))),
            self.run.ready.eq(~self._waiting),
        ]
        # Only a refresh closes the current run's row; by the time that `hold` ends, this has noticed.
        m.d.sync += self._able.eq(
            moves
            | (
                self._active
                & ~(self._access & self._last)
                & (banks.open & banks.may_access).bit_select(current.bank, 1)
            )
        )
        with m.If(self._access):
            m.d.sync += [
                current.column.eq(current.column + 1),
                current.words_minus_one.eq(current.words_minus_one - 1),
                self._last.eq(current.words_minus_one == 1),
                self._active.eq(~self._last),
            ]
        with m.If(moves):
            m.d.sync += [current.eq(following), self._active.eq(1), self._last.eq(following.words_minus_one == 0)]
        with m.If(self._waiting):
            m.d.sync += self._compared.eq(1)
            with m.If(~self._compared):
                m.d.sync += self._matches.eq(banks.row[following.bank] == following.row)
            with m.Elif(banks.activate.valid & ~self._planned.again):
                m.d.sync += self._matches.eq(1)
            with m.If(moves):
                m.d.sync += [self._waiting.eq(0), self._compared.eq(0)]
        with m.Else():
            m.d.sync += [following.eq(self.run.payload), self._waiting.eq(self.run.valid)]

    def _command_pads(self, m: Module) -> None:
        """Commands and addresses, each from a flip-flop. Address and data pins mean nothing without their command."""
        pads, banks, refresh, current = self.pads, self._banks, self._refresh, self._current
        command = Signal(3, init=Command.NOTHING)
        column, row = Signal(len(pads.a)), banks.activate.payload.row
        wholesale = Mux(refresh.command == Command.PRECHARGE, ALL_BANKS, self._timing.mode_register)
        m.d.comb += [
            column.eq(current.column),  # with 0 in the bit that would close the bank afterwards, or all of them
            Cat(pads.ras_n, pads.cas_n, pads.we_n).eq(command),
        ]
        cke, deselected = Signal(), Signal(init=1)
        m.d.comb += [pads.cke.eq(cke), pads.cs_n.eq(deselected)]
        m.d.sync += [
            cke.eq(1),
            deselected.eq(0),
            command.eq(Mux(self._access, Mux(current.write, Command.WRITE, Command.READ), refresh.command)),
            pads.ba.eq(Mux(refresh.hold, 0, Mux(self._row_command, banks.activate.payload.bank, current.bank))),
            pads.a.eq(Mux(refresh.hold, wholesale, Mux(self._row_command, row, column))),
        ]
        with m.If(banks.activate.valid):
            m.d.sync += command.eq(Command.ACTIVE)
        with m.If(banks.precharge.valid):
            m.d.sync += [command.eq(Command.PRECHARGE), pads.a[10].eq(0)]

    def _data_pads(self, m: Module) -> None:
        """Words out with their command; words in with a note that travelled along."""
        pads, current, word = self.pads, self._current, self.write_data.payload
        writes = self.written.valid
        masked, arrived = Signal(WORD_BITS // 8, init=-1), Signal(WORD_BITS)
        m.d.comb += pads.dqm.eq(masked)
        m.d.sync += [
            pads.dq_o.eq(word.data),
            pads.dq_oe.eq(writes),
            masked.eq(Mux(self.initialised, Mux(writes, word.mask, 0), -1)),
            arrived.eq(pads.dq_i),
        ]
        note = data.StructLayout({"valid": 1, "origin": finished_word_layout(self._clients)})
        asked = Signal(note)
        m.d.comb += [
            asked.valid.eq(self._access & ~current.write),
            asked.origin.client.eq(current.client),
            asked.origin.last.eq(self._last & current.final),
        ]
        # To the pads, through the chip, into the input register.
        for step in range(self._timing.cas_latency + 2 + self._extra_latency):
            later = Signal(note, name=f"asked_{step}")
            m.d.sync += later.eq(asked)
            asked = later
        m.d.comb += [
            self.read.valid.eq(asked.valid),
            self.read.payload.data.eq(arrived),
            self.read.payload.origin.eq(asked.origin),
        ]
