"""Where the cycles of a run went, command by command: time stamps, and the cycles that each command owned by cause."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.control import cause_shares_layout, cause_totals_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.register_map import SHARE_BITS


class CommandStamps(wiring.Component):
    """Start, end and owned cycles of every command of the last run.

    Commands overlap, so start and end do too; but every cycle has exactly one *owner*. Each time the owner changes,
    the totals by cause go into the old owner's entry together with the owner before it: the entries of a run form a
    chain, from ``last_owner`` back to the first, and the differences along it are the cycles of each command. Entries
    that are not in the chain are of earlier runs: so nothing has to be cleared between runs, and a command that never
    owned a cycle costs nothing.

    Parameters
    ----------
    config:
        Sizes of the machine. Commands from ``max_commands`` on have no entries.
    units:
        Number of units that end commands.

    Members
    -------
    clear:
        Pulse before a run: the chain is empty.
    running:
        Cycles count. The counters below show the cycles before this one.
    cycles, totals:
        Cycles of this run so far, of all causes and of each.
    owner:
        The command that owns this cycle; never falls during a run. Not looked at in a run's first cycle, which belongs
        to command 0.
    started, ended:
        Strobes with a command's index; ``ended`` one a unit. All may come in one cycle; a unit's next must be ``units``
        cycles away (asserted).
    select:
        Command to show, 2 cycles later (3 if an entry is being written).
    start, end:
        Its stamps: the value of ``cycles`` with its strobes.
    entry:
        Its entry. ``shares`` are the totals at the end of its last cycle, modulo 2**SHARE_BITS; ``previous`` is the
        owner before it, or -1.
    last_owner:
        The command that owned cycles last; -1 before the first entry.

    Resources: ``max_commands`` words of 32 bits twice, and of 7 x SHARE_BITS + log2(max_commands) + 1 bits: 2 + 5
    block RAMs at 512 commands.
    """

    def __init__(self, config: AcceleratorConfig, units: int) -> None:
        self._config = config
        link = signed((config.max_commands - 1).bit_length() + 1)
        entry = data.StructLayout({"shares": cause_shares_layout(), "previous": link})
        super().__init__(
            {
                "clear": In(1),
                "running": In(1),
                "cycles": In(32),
                "totals": In(cause_totals_layout()),
                "owner": In(16),
                "started": In(Strobe(16)),
                "ended": In(Strobe(16)).array(units),
                "select": In(16),
                "start": Out(32),
                "end": Out(32),
                "entry": Out(entry),
                "last_owner": Out(link, init=-1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Three memories side by side, each with its writer."""
        m = Module()
        self._write(m, "starts", self.started.valid, self.started.payload, self.cycles, self.start)
        self._write(m, "ends", *self._queue_ends(m), self.end)
        # An entry is written at once when the owner changes, so the shares of all causes are one wide word.
        self._write(m, "shares", *self._leave(m), self.entry)
        return m

    def _write(self, m: Module, name: str, valid: Value, index: Value, value: Value, shown: Value) -> None:
        """A memory that is read only in cycles without a write: block RAM need not return the old word."""
        depth = self._config.max_commands
        memory = m.submodules[name] = Memory(shape=len(Value.cast(value)), depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.addr.eq(index),
            write.data.eq(value),
            write.en.eq(valid & (index < depth)),
            read.addr.eq(self.select),
            read.en.eq(~write.en),
        ]
        m.d.sync += shown.eq(read.data)

    def _queue_ends(self, m: Module) -> tuple[Value, Value, Value]:
        """Hold each unit's end until its turn; the stamp is the cycle of the strobe, not of the turn."""
        valid, index, cycle = Signal(), Signal(16), Signal(32)
        # All units may end a command in one cycle, but block RAM takes one stamp per cycle: ends wait with their age.
        turn_taken: Value = Const(0)
        for number, strobe in enumerate(self.ended):
            waits, held = Signal(name=f"end_waits_{number}"), Signal(16, name=f"end_index_{number}")
            age = Signal(range(2 * len(self.ended) + 2), name=f"end_age_{number}")
            turn = waits & ~turn_taken
            with m.If(turn):
                m.d.comb += [valid.eq(1), index.eq(held), cycle.eq(self.cycles - age)]
            m.d.sync += [waits.eq(strobe.valid | (waits & ~turn)), age.eq(age + self.running)]
            with m.If(strobe.valid):
                m.d.sync += [held.eq(strobe.payload), age.eq(self.running)]
            lost = waits & ((~turn & strobe.valid) | age.all())
            check(m, 1, ~lost, f"end {number} of a command came before the last left")
            turn_taken = turn_taken | waits
        return valid, index, cycle

    def _leave(self, m: Module) -> tuple[Value, Value, Value]:
        """Write the totals of a command that stops being the owner, or with which the run ends."""
        was_running, last, leaves = Signal(), Signal(16), Signal()
        # What is seen of the owner in the first cycle is left over from the last run, so that cycle is command 0's.
        owner = Mux(was_running, self.owner, 0)
        m.d.comb += leaves.eq(was_running & (~self.running | (self.owner != last)))
        m.d.sync += was_running.eq(self.running)
        with m.If(self.running):
            m.d.sync += last.eq(owner)
        check(m, self.running & was_running, owner >= last, "the owner of the cycles went back")
        with m.If(leaves & (last < self._config.max_commands)):
            m.d.sync += self.last_owner.eq(last[: len(self.last_owner) - 1])
        with m.If(self.clear):
            m.d.sync += self.last_owner.eq(-1)
        return leaves, last, Cat(*(total[:SHARE_BITS] for total in self.totals), self.last_owner)
