"""What is remembered of a run: its first error, whether it is done, whether anything saturated; and the interrupt."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring

from tessera.hw.blocks.pipeline import delay
from tessera.hw.control.guards import Guards
from tessera.hw.control.registers import RegisterFile
from tessera.hw.interfaces.errors import error_record_layout
from tessera.hw.isa import COMMAND_INDEX_WIDTH, ErrorCode


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Turns in the life of a run.

    Parameters
    ----------
    begin, abort:
        Pulses: the host starts a run; the host aborts one, or clears the error of an idle machine.
    failed:
        Pulse: a running machine has its first error, or makes no progress.
    running:
        The machine runs.
    finished:
        Pulse: END was executed and nothing is under way.
    """

    begin: Value
    abort: Value
    failed: Value
    running: Value
    finished: Value

    @property
    def stop(self) -> Value:
        """The run ends before its end."""
        return self.abort | self.failed


def keep_error(
    m: Module,
    turns: Turns,
    registers: RegisterFile,
    first: wiring.PureInterface,
    *,
    command_index: Value,
    stalled_on: Value,
) -> Signal:
    """Keep the first error and show it; returns whether there is one.

    Parameters
    ----------
    first:
        Error of the guards in this cycle: :class:`Strobe` of ``error_record_layout``.
    command_index:
        The command to blame for an error that a unit reports in this cycle.
    stalled_on:
        The ``StallSource`` to name if the watchdog strikes.
    """
    error, record, blamed = Signal(), Signal(error_record_layout()), Signal(COMMAND_INDEX_WIDTH)
    command, shown = delay(m, command_index, Guards.LATENCY, name="command_index"), registers.shown
    # An error during a halt is a consequence of the first one, so only a running machine takes one.
    with m.If(turns.abort | turns.begin):
        m.d.sync += [error.eq(0), record.code.eq(ErrorCode.NONE), record.address.eq(0), blamed.eq(0)]
    with m.Elif(turns.failed):
        m.d.sync += [error.eq(1), blamed.eq(command)]
        # The watchdog may strike in the same cycle; a unit that reports an error knows more.
        with m.If(first.valid):
            m.d.sync += record.eq(first.payload)
        with m.Else():
            m.d.sync += [record.code.eq(ErrorCode.WATCHDOG), record.address.eq(stalled_on)]
    m.d.comb += [
        shown.error_code.eq(record.code),
        shown.error_command.eq(blamed),
        shown.error_address.eq(record.address),
    ]
    m.d.sync += shown.command_index.eq(command)
    return error


def keep_results(m: Module, turns: Turns, saturates: Value) -> tuple[Signal, Signal]:
    """Remember until the next start whether the run reached its end, and whether a residual saturated."""
    done, saturated = Signal(), Signal()
    with m.If(turns.begin):
        m.d.sync += [done.eq(0), saturated.eq(0)]
    with m.Elif(turns.running):
        m.d.sync += [done.eq(turns.finished & ~turns.stop), saturated.eq(saturated | saturates)]
    return done, saturated


def keep_interrupt(m: Module, turns: Turns, registers: RegisterFile, interrupt: Signal) -> None:
    """Raise the interrupt on done or error, as enabled; lower it when the host clears it."""
    # The reasons are a register, because ``failed`` comes late; an interrupt a cycle later is as good.
    done = turns.running & turns.finished & ~turns.failed & ~turns.abort
    reasons = Signal(2)
    m.d.sync += reasons.eq(Cat(done, turns.failed & ~turns.abort))
    with m.If((reasons & registers.settings.interrupt_enable).any()):
        m.d.sync += interrupt.eq(1)
    with m.Elif(registers.written.interrupt_clear):
        m.d.sync += interrupt.eq(0)
