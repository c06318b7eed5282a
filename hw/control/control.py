"""Control and status: the host's view of the machine, and the life of a run from start to done, error or abort."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from tessera.hw.blocks.fields import same_fields
from tessera.hw.blocks.sleep import extend_pulse, sleeping
from tessera.hw.config import AcceleratorConfig
from tessera.hw.control.counters import Watchdog
from tessera.hw.control.guards import Guards
from tessera.hw.control.measure import OBSERVED, RunEvents, measure_run
from tessera.hw.control.outcome import Turns, keep_error, keep_interrupt, keep_results
from tessera.hw.control.registers import RegisterFile
from tessera.hw.interfaces.axi import Axi4Lite, any_valid
from tessera.hw.interfaces.control import CycleReport, beat_events_layout
from tessera.hw.interfaces.errors import Guard, error_record_layout
from tessera.hw.interfaces.jobs import run_state_layout
from tessera.hw.interfaces.sequencer import ProgramProgress, RunOrder
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import COMMAND_INDEX_WIDTH

IDENTITY = 0x54455353
INTERFACE_VERSION = 2


class ControlRegisters(wiring.Component):
    """AXI4-Lite registers of ``tessera.hw.register_map.REGISTERS``, and everything behind them.

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
        What register ``status`` shows; :func:`tessera.hw.interfaces.jobs.run_state_layout`.
    interrupt:
        Level: done or error (as enabled) since the last write to ``interrupt_clear``.
    run:
        Order to run; see :class:`tessera.hw.interfaces.sequencer.RunOrder`. Writing the registers of its settings
        during a run prepares the next one.
    running:
        1 from ``run.start`` to ``finished``, both included, or until the machine halts. Counters count.
    guard:
        Units that touch memory. Their ``quiescent`` is looked at from ``HALT_CYCLES`` after the halt began.
    clear:
        Pulse during a halt: reset every unit (for ResetInserter).
    progress: In(ProgramProgress)
        The run ends with ``finished``. Commands are stamped when they are ``started``.
    saturated:
        Pulse or level: a residual value saturated; sticky in status until the next start.
    error:
        Errors of the other units. They are kept with the value of ``command_index`` in the same cycle.
    command_index:
        Command in progress, or the one to blame for an error of this cycle.
    found: In(CycleReport)
        What each cycle is spent on, for counters and stamps, and whether the machine gets on, for the watchdog. What
        the watchdog reports is ``stalled_on`` of the cycle before it strikes.
    ended:
        One strobe per unit with the index of a command that it has ended, stamped with the cycle of the run.
    beats:
        Beats transferred in this cycle; :func:`tessera.hw.interfaces.control.beat_events_layout`.
    """

    HALT_CYCLES = 4

    def __init__(self, config: AcceleratorConfig, *, guards: int, errors: int, units: int) -> None:
        if guards + errors < 1:
            raise ValueError("guards and errors are both 0; the registers need at least one source of errors")
        self._config, self._guards = config, Guards(guards, errors)
        super().__init__(
            {
                "bus": In(Axi4Lite()),
                "state": Out(run_state_layout()),
                "interrupt": Out(1),
                "run": Out(RunOrder()),
                "running": Out(1),
                "guard": Out(Guard()).array(guards),
                "clear": Out(1),
                "progress": In(ProgramProgress(config)),
                "saturated": In(1),
                "error": In(Strobe(error_record_layout())).array(errors),
                "command_index": In(COMMAND_INDEX_WIDTH),
                "found": In(CycleReport()),
                "ended": In(Strobe(COMMAND_INDEX_WIDTH)).array(units),
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
        begin, abort, busy = Signal(), Signal(), Signal()
        m.submodules.watchdog = watchdog = Watchdog()
        failed = self._watch(m, registers, watchdog)
        turns = Turns(begin=begin, abort=abort, failed=failed, running=self.running, finished=self.progress.finished)
        self._life(m, turns, busy, extend_pulse(m, self.running, OBSERVED, name="watched"))
        self._start(m, registers, turns, busy)
        error = keep_error(
            m,
            turns,
            registers,
            self._guards.first,
            command_index=self.command_index,
            stalled_on=watchdog.strike.payload,
        )
        done, saturated = keep_results(m, turns, self.saturated)
        keep_interrupt(m, turns, registers, self.interrupt)
        events = RunEvents(progress=self.progress, ended=self.ended, beats=self.beats)
        measure_run(m, self._config, registers, events, self.found, clear=begin, running=self.running)
        shown = registers.shown
        m.d.comb += [
            shown.identity.eq(IDENTITY),
            shown.version.eq(INTERFACE_VERSION),
            shown.configuration.eq(configuration_word(self._config)),
            self.state.eq(Cat(busy, done, error, saturated)),
        ]
        m.d.sync += shown.status.eq(self.state)
        return m

    def _watch(self, m: Module, registers: RegisterFile, watchdog: Watchdog) -> Signal:
        """Put guards and watchdog between the units and the run; returns when a running machine fails."""
        m.submodules.guards = guards = self._guards
        for outer, inner in zip(self.guard, guards.guard, strict=True):
            connect(m, inner, flipped(outer))
        for outer, inner in zip(self.error, guards.error, strict=True):
            connect(m, flipped(outer), inner)
        failed = Signal()
        connect(m, flipped(self.found), watchdog.found)
        m.d.comb += [
            watchdog.running.eq(self.running),
            watchdog.limit.eq(registers.settings.watchdog_limit),
            failed.eq(self.running & (watchdog.strike.valid | guards.first.valid)),
        ]
        return failed

    def _start(self, m: Module, registers: RegisterFile, turns: Turns, busy: Signal) -> None:
        """Turn what the host writes into the starts and aborts of runs."""
        settings, command, window = registers.settings, registers.word, self._guards.window
        # The host's command reaches hundreds of registers, so it comes from a register.
        m.d.sync += [
            turns.abort.eq(registers.written.control & command[1]),
            turns.begin.eq(registers.written.control & (command[:2] == 1) & ~busy & ~turns.begin),
            self.run.start.eq(turns.begin),
        ]
        with m.If(turns.begin):
            m.d.sync += [
                self.run.settings.task_index.eq(settings.task),
                self.run.settings.image_base.eq(settings.image_address),
                self.run.settings.output_base.eq(settings.output_address),
                *same_fields(self.run.settings, settings, "program_address", "weight_address"),
                window.base.eq(settings.window_base),
                window.limit.eq(settings.window_limit),
            ]

    def _life(self, m: Module, turns: Turns, busy: Signal, watched: Signal) -> None:
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
                with m.If(turns.begin):
                    m.next = "RUNNING"
            with m.State("RUNNING"):
                m.d.comb += self.running.eq(1)
                m.d.sync += waited.eq(0)
                with m.If(turns.stop):
                    m.next = "HALTING"
                with m.Elif(turns.finished):
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


def configuration_word(config: AcceleratorConfig) -> int:
    """Value of the ``configuration`` register."""
    return (
        exact_log2(config.elements)
        | exact_log2(config.lanes) << 4
        | exact_log2(config.memory_bytes) << 8
        | config.numerics.activation_width << 16
        | config.numerics.residual_width << 24
    )
