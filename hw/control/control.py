"""Control and status: the host's view of the machine, and the life of a run from start to done, error or abort."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.blocks.pipeline import delay
from hw.blocks.sleep import extend_pulse, sleeping
from hw.config import AcceleratorConfig
from hw.control.counters import Counters, Watchdog
from hw.control.guards import Guards
from hw.control.registers import RegisterFile
from hw.control.stamps import CommandStamps
from hw.interfaces.axi import Axi4Lite, any_valid
from hw.interfaces.control import beat_events_layout
from hw.interfaces.errors import Guard, error_record_layout
from hw.interfaces.jobs import run_state_layout
from hw.interfaces.sequencer import RunOrder
from hw.interfaces.strobe import Strobe
from hw.isa import CycleCause, ErrorCode

IDENTITY = 0x54455353
INTERFACE_VERSION = 2

OBSERVED = 2
"""Cycles from an event to its count and stamp, because events come from far away."""


class ControlRegisters(wiring.Component):
    """AXI4-Lite registers of ``hw.register_map.REGISTERS``, and everything behind them.

    Start and abort are in register ``control``. A write of 1 starts a run and clears done, error, saturation and the
    counters; it is ignored while the machine is busy. A write with bit 1 set aborts a run, or clears the error of an
    idle machine.

    A run ends with ``finished``, or halts on the first error or an abort. Then the guards halt the units that touch
    memory until all are quiescent; ``clear`` pulses, and the machine is idle again, as after reset. Status and
    interrupt show an error at once; busy falls when the machine is quiescent.

    Parameters
    ----------
    config:
        Sizes of the machine.
    guards:
        Number of units that touch memory.
    errors:
        Number of other units that report errors.
    units:
        Number of units that end commands.

    Members
    -------
    bus:
        The host.
    state:
        What register ``status`` shows; :func:`hw.interfaces.jobs.run_state_layout`.
    interrupt:
        Level: done or error (as enabled) since the last write to ``interrupt_clear``.
    run:
        Order to run; see :class:`hw.interfaces.sequencer.RunOrder`. Writing the registers of its settings during a run
        prepares the next one.
    running:
        1 from ``run.start`` to ``finished``, both included, or until the machine halts. Counters count.
    guard:
        Units that touch memory. Their ``quiescent`` is looked at from ``HALT_CYCLES`` after the halt began.
    clear:
        Pulse during a halt: reset every unit (for ResetInserter).
    finished:
        Pulse: END was executed and nothing is under way.
    saturated:
        Pulse or level: a residual value saturated; sticky in status until the next start.
    error:
        Errors of the other units. They are kept with the value of ``command_index`` in the same cycle.
    command_index:
        Command in progress, or the one to blame for an error of this cycle.
    progress, stalled_on:
        For the watchdog: 1 in any cycle in which the machine gets on, and what it waits for otherwise (a StallSource;
        reported is the cycle before the watchdog strikes).
    started, ended:
        Strobes with a command's index, stamped with the cycle of the run; one ``ended`` per unit.
    cause:
        What the cycle before this one is spent on, a CycleCause.
    owner:
        The command that this cycle belongs to; see :class:`hw.control.stamps.CommandStamps`.
    beats:
        Beats transferred in this cycle; :func:`hw.interfaces.control.beat_events_layout`.
    """

    HALT_CYCLES = 4

    def __init__(self, config: AcceleratorConfig, *, guards: int, errors: int, units: int) -> None:
        if guards + errors < 1:
            raise ValueError("guards and errors are both 0; the registers need at least one source of errors")
        self._config, self._units, self._guards = config, units, Guards(guards, errors)
        super().__init__(
            {
                "bus": In(Axi4Lite()),
                "state": Out(run_state_layout()),
                "interrupt": Out(1),
                "run": Out(RunOrder()),
                "running": Out(1),
                "guard": Out(Guard()).array(guards),
                "clear": Out(1),
                "finished": In(1),
                "saturated": In(1),
                "error": In(Strobe(error_record_layout())).array(errors),
                "command_index": In(16),
                "progress": In(1),
                "stalled_on": In(3),
                "started": In(Strobe(16)),
                "ended": In(Strobe(16)).array(units),
                "cause": In(3),
                "owner": In(16),
                "beats": In(beat_events_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Registers, guards, counters, watchdog; the life of a run; what is remembered of it."""
        m = Module()
        registers = RegisterFile()
        # The host looks at the registers rarely, so they sleep in between.
        asked = any_valid(self.bus)
        m.submodules.registers = sleeping(m, platform, "registers", registers, extend_pulse(m, asked, 2, name="host"))
        connect(m, flipped(self.bus), registers.bus)
        settings, shown = registers.settings, registers.shown
        # The host's command and the machine's last words reach hundreds of registers, so they come from registers.
        begin, abort, failed, busy, stalled_on = Signal(), Signal(), Signal(), Signal(), Signal.like(self.stalled_on)
        observed = delay(m, self.running, OBSERVED, name="observed")
        watched = extend_pulse(m, self.running, OBSERVED, name="watched")
        command = registers.word
        m.d.sync += [
            abort.eq(registers.written.control & command[1]),
            begin.eq(registers.written.control & (command[:2] == 1) & ~busy & ~begin),
            stalled_on.eq(self.stalled_on),
            self.run.start.eq(begin),
        ]
        m.submodules.watchdog = watchdog = Watchdog()
        m.submodules.guards = guards = self._guards
        m.d.comb += [
            watchdog.running.eq(self.running),
            watchdog.progress.eq(self.progress),
            watchdog.limit.eq(settings.watchdog_limit),
            failed.eq(self.running & (watchdog.strike | guards.first.valid)),
        ]
        self._life(m, begin, abort | failed, busy, watched)
        for outer, inner in zip(self.guard, guards.guard, strict=True):
            connect(m, inner, flipped(outer))
        for outer, inner in zip(self.error, guards.error, strict=True):
            connect(m, flipped(outer), inner)
        with m.If(begin):
            m.d.sync += [
                self.run.settings.task_index.eq(settings.task),
                self.run.settings.program_address.eq(settings.program_address),
                self.run.settings.weight_address.eq(settings.weight_address),
                self.run.settings.image_base.eq(settings.image_address),
                self.run.settings.output_base.eq(settings.output_address),
                guards.window_base.eq(settings.window_base),
                guards.window_limit.eq(settings.window_limit),
            ]
        error = self._errors(m, failed, abort | begin, stalled_on, shown)
        done, saturated = self._results(m, begin, abort | failed)
        self._interrupt(m, registers, failed, abort)
        counters = self._count(m, begin, observed, shown)
        self._stamp(m, begin, observed, counters, registers)
        m.d.comb += [
            shown.identity.eq(IDENTITY),
            shown.version.eq(INTERFACE_VERSION),
            shown.configuration.eq(configuration_word(self._config)),
            self.state.eq(Cat(busy, done, error, saturated)),
        ]
        m.d.sync += shown.status.eq(self.state)
        return m

    def _life(self, m: Module, begin: Signal, stop: Value, busy: Signal, watched: Signal) -> None:
        """Walk from idle through running, halting and clearing back to idle.

        A halt must not end before the masters have noticed it: what they said of themselves until then is stale. So it
        lasts ``HALT_CYCLES`` at least, and ``clear`` comes only when no answer from memory can meet a reset unit.
        """
        waited = Signal(range(self.HALT_CYCLES + 1))
        guards = self._guards
        m.d.comb += busy.eq(1)
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.comb += busy.eq(watched)
                with m.If(begin):
                    m.next = "RUNNING"
            with m.State("RUNNING"):
                m.d.comb += self.running.eq(1)
                m.d.sync += waited.eq(0)
                with m.If(stop):
                    m.next = "HALTING"
                with m.Elif(self.finished):
                    m.next = "IDLE"
            with m.State("HALTING"):
                m.d.comb += guards.halt.eq(1)
                with m.If(waited != self.HALT_CYCLES):
                    m.d.sync += waited.eq(waited + 1)
                with m.Elif(guards.quiescent):
                    m.next = "CLEARING"
            with m.State("CLEARING"):
                m.d.comb += [guards.halt.eq(1), self.clear.eq(1)]
                m.next = "IDLE"

    def _errors(self, m: Module, failed: Signal, forget: Value, stalled_on: Signal, shown: data.View) -> Signal:
        """Keep the first error; returns whether there is one."""
        error, code, command, address = Signal(), Signal(8), Signal(16), Signal(32)
        first = self._guards.first
        command_index = delay(m, self.command_index, Guards.LATENCY, name="command_index")
        # An error during a halt is a consequence of the first one, so only a running machine takes one.
        with m.If(forget):
            m.d.sync += [error.eq(0), code.eq(ErrorCode.NONE), command.eq(0), address.eq(0)]
        with m.Elif(failed):
            m.d.sync += [error.eq(1), command.eq(command_index)]
            # The watchdog may strike in the same cycle; a unit that reports an error knows more.
            with m.If(first.valid):
                m.d.sync += [code.eq(first.payload.code), address.eq(first.payload.address)]
            with m.Else():
                m.d.sync += [code.eq(ErrorCode.WATCHDOG), address.eq(stalled_on)]
        m.d.comb += [
            shown.error_code.eq(code),
            shown.error_command.eq(command),
            shown.error_address.eq(address),
        ]
        m.d.sync += shown.command_index.eq(command_index)
        return error

    def _results(self, m: Module, begin: Signal, stop: Value) -> tuple[Signal, Signal]:
        """Remember done and saturation until the next start."""
        done, saturated = Signal(), Signal()
        with m.If(begin):
            m.d.sync += [done.eq(0), saturated.eq(0)]
        with m.Elif(self.running):
            m.d.sync += [done.eq(self.finished & ~stop), saturated.eq(saturated | self.saturated)]
        return done, saturated

    def _interrupt(self, m: Module, registers: RegisterFile, failed: Signal, abort: Signal) -> None:
        """Raise the interrupt on done or error, as enabled; lower it when the host clears it."""
        # The reasons are a register, because ``failed`` comes late; an interrupt a cycle later is as good.
        done = self.running & self.finished & ~failed & ~abort
        reasons = Signal(2)
        m.d.sync += reasons.eq(Cat(done, failed & ~abort))
        with m.If((reasons & registers.settings.interrupt_enable).any()):
            m.d.sync += self.interrupt.eq(1)
        with m.Elif(registers.written.interrupt_clear):
            m.d.sync += self.interrupt.eq(0)

    def _count(self, m: Module, begin: Signal, observed: Value, shown: data.View) -> data.View:
        """Count events, and show the counts in their registers; returns the counts."""
        m.submodules.counters = counters = Counters(self._config)
        m.d.comb += [
            counters.clear.eq(begin),
            counters.running.eq(observed),
            counters.beats.eq(delay(m, self.beats, OBSERVED, name="beats")),
        ]
        # ``cause`` comes a cycle after its cycle already; one register makes the OBSERVED.
        m.d.sync += counters.cause.eq(self.cause)
        counts = counters.counts
        m.d.comb += [
            shown.cycles.eq(counts.cycles),
            shown.read_bytes.eq(counts.read_bytes),
            shown.write_bytes.eq(counts.write_bytes),
            *(shown[cause.counter].eq(counts.causes[cause]) for cause in CycleCause),
        ]
        return counts

    def _stamp(self, m: Module, begin: Signal, observed: Value, counts: data.View, registers: RegisterFile) -> None:
        """Stamp strobes, and show the selected command's stamps in their registers."""
        m.submodules.stamps = stamps = CommandStamps(self._config, self._units)
        shown = registers.shown
        # All that is stamped comes equally late, so that stamps and counters belong to the same cycle.
        for outer, inner in zip((self.started, *self.ended), (stamps.started, *stamps.ended), strict=True):
            m.d.comb += [
                inner.valid.eq(delay(m, outer.valid, OBSERVED, name="strobe")),
                inner.payload.eq(delay(m, outer.payload, OBSERVED, name="index")),
            ]
        m.d.comb += [
            stamps.clear.eq(begin),
            stamps.running.eq(observed),
            stamps.owner.eq(delay(m, self.owner, OBSERVED, name="owner")),
            stamps.cycles.eq(counts.cycles),
            stamps.totals.eq(counts.causes),
            stamps.select.eq(registers.settings.stamp_select),
            shown.stamp_start.eq(stamps.start),
            shown.stamp_end.eq(stamps.end),
            shown.stamp_previous.eq(stamps.previous),
            shown.last_owner.eq(stamps.last_owner),
            *(shown[cause.stamp].eq(stamps.shares[cause]) for cause in CycleCause),
        ]


def configuration_word(config: AcceleratorConfig) -> int:
    """Value of the ``configuration`` register."""
    return (
        exact_log2(config.elements)
        | exact_log2(config.lanes) << 4
        | exact_log2(config.memory_bytes) << 8
        | config.numerics.activation_width << 16
        | config.numerics.residual_width << 24
    )
