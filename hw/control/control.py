"""Control and status: the host's view of the machine, and the life of a run from start to done, error or abort."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import exact_log2

from hw.blocks.pipeline import delay
from hw.blocks.sleep import lasting, sleeping
from hw.config import AcceleratorConfig
from hw.control.counters import BEATS, COUNTERS, Counters, Watchdog
from hw.control.registers import RegisterFile, register_width
from hw.control.stamps import CommandStamps
from hw.interfaces.axi import Axi4Lite
from hw.interfaces.errors import error_record_layout
from hw.interfaces.jobs import run_state_layout
from hw.interfaces.strobe import Strobe
from hw.isa import CycleCause, ErrorCode

IDENTITY = 0x54455353
INTERFACE_VERSION = 2
RUN_SETTINGS = (
    "task",
    "program_address",
    "weight_address",
    "image_address",
    "output_address",
    "window_base",
    "window_limit",
)
"""Registers taken over at start: writing them during a run prepares the next."""
SETTING_PORTS = {"task": "task_index"}
"""Ports that cannot be named like their register: ``task`` is a keyword of Verilog."""

OBSERVED = 2
"""Cycles from what happens to its being counted and stamped: it comes from far away."""


class ControlRegisters(wiring.Component):
    """AXI4-Lite registers of ``hw.isa.REGISTERS``, and everything behind them.

    Start and abort are in register ``control``: a write of 1 starts (ignored while busy) and clears done, error,
    saturation and the counters; a write with bit 1 set aborts a run, or clears the error of an idle machine.
    A run ends with ``finished``; or halts on the first error or an abort: ``halt`` stays 1 until ``quiescent``, then
    ``clear`` pulses and the machine is idle again, as after reset. Status and interrupt show an error at once; busy
    falls when the machine is quiescent.

    Parameters
    ----------
    config:
        Sizes of the machine.
    error_sources:
        Number of units that report errors; of errors in one cycle the lower index is kept.
    units:
        Number of units that end commands.

    Members
    -------
    bus:
        The host.
    state:
        What register ``status`` shows.
    interrupt:
        Level: done or error (as enabled) since the last ``interrupt_clear``.
    start:
        Pulse. The settings below are valid in this cycle and stable until the next start.
    task_index, program_address, weight_address, image_address, output_address, window_base, window_limit:
        Settings of the run.
    running:
        From ``start`` to ``finished``, both included, or until the machine halts. Counters count.
    halt:
        Level: stop issuing memory requests.
    quiescent:
        All AXI masters are quiescent. Looked at from ``HALT_CYCLES`` after ``halt`` rose.
    clear:
        Pulse under ``halt``: reset every unit (for ResetInserter).
    finished:
        Pulse: END was executed and nothing is under way.
    saturated:
        Pulse or level: a residual value saturated; sticky in status until the next start.
    error:
        Array of strobes of ``hw.interfaces.errors.error_record_layout``; with the ``command_index`` of that time.
    command_index:
        Command in progress.
    progress, stalled_on:
        For the watchdog: 1 in any cycle in which the machine gets on, and what it waits for otherwise (a StallSource;
        reported is the cycle before the watchdog strikes).
    started, ended:
        Strobes with a command's index, stamped with the cycle of the run; ``ended`` one a unit.
    cause:
        What the cycle before this one is spent on, a CycleCause.
    owner:
        The command that this cycle belongs to; see :class:`hw.control.stamps.CommandStamps`.
    read_beat, write_beat:
        A beat was transferred.
    """

    HALT_CYCLES = 4

    def __init__(self, config: AcceleratorConfig, error_sources: int, units: int) -> None:
        if error_sources < 1:
            raise ValueError(f"error_sources is {error_sources}; the registers need at least one source of errors")
        self._config, self._units = config, units
        super().__init__(
            {
                "bus": In(Axi4Lite()),
                "state": Out(run_state_layout()),
                "interrupt": Out(1),
                "start": Out(1),
                **{SETTING_PORTS.get(name, name): Out(register_width(name)) for name in RUN_SETTINGS},
                "running": Out(1),
                "halt": Out(1),
                "quiescent": In(1),
                "clear": Out(1),
                "finished": In(1),
                "saturated": In(1),
                "error": In(Strobe(error_record_layout())).array(error_sources),
                "command_index": In(16),
                "progress": In(1),
                "stalled_on": In(3),
                "started": In(Strobe(16)),
                "ended": In(Strobe(16)).array(units),
                "cause": In(3),
                "owner": In(16),
                **{name: In(1) for name in BEATS.values()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Registers, counters, watchdog; the life of a run; what is remembered of it."""
        m = Module()
        registers = RegisterFile()
        asked = Cat(self.bus.awvalid, self.bus.wvalid, self.bus.arvalid, self.bus.bvalid, self.bus.rvalid).any()
        m.submodules.registers = sleeping(m, platform, "registers", registers, lasting(m, asked, 2, name="host"))
        m.submodules.counters = counters = Counters(self._config)
        m.submodules.stamps = stamps = CommandStamps(self._config, self._units)
        m.submodules.watchdog = watchdog = Watchdog()
        connect(m, flipped(self.bus), registers.bus)
        # The host's command, and the machine's last words, from registers: they decide about hundreds of others.
        begin, abort, failed, busy, stalled_on = Signal(), Signal(), Signal(), Signal(), Signal.like(self.stalled_on)
        written, command = registers.control_written, registers.control_data
        self._observed = delay(m, self.running, OBSERVED, name="observed")
        watched = lasting(m, self.running, OBSERVED, name="watched")
        m.d.sync += [
            abort.eq(written & command[1]),
            begin.eq(written & (command[:2] == 1) & ~busy & ~begin),
            stalled_on.eq(self.stalled_on),
        ]
        m.d.comb += [
            watchdog.running.eq(self.running),
            watchdog.progress.eq(self.progress),
            watchdog.limit.eq(registers.watchdog_limit),
            failed.eq(self.running & (watchdog.strike | Cat(source.valid for source in self.error).any())),
        ]
        self._life(m, begin, abort | failed, busy, watched)
        m.d.sync += self.start.eq(begin)
        with m.If(begin):
            m.d.sync += [
                getattr(self, SETTING_PORTS.get(name, name)).eq(getattr(registers, name)) for name in RUN_SETTINGS
            ]
        error = self._errors(m, failed, abort | begin, stalled_on, registers)
        done, saturated = self._results(m, begin, abort | failed)
        self._interrupt(m, registers, failed, abort)
        self._count(m, counters, begin, registers)
        self._stamp(m, stamps, counters, begin, registers)
        m.d.comb += [
            registers.identity.eq(IDENTITY),
            registers.version.eq(INTERFACE_VERSION),
            registers.configuration.eq(configuration_word(self._config)),
            self.state.eq(Cat(busy, done, error, saturated)),
        ]
        m.d.sync += [registers.status.eq(self.state), registers.command_index.eq(self.command_index)]
        return m

    def _life(self, m: Module, begin: Signal, stop: Value, busy: Signal, watched: Signal) -> None:
        """Idle, running, halting until nothing is under way, cleared."""
        waited = Signal(range(self.HALT_CYCLES + 1))
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
                m.d.comb += self.halt.eq(1)
                with m.If(waited != self.HALT_CYCLES):
                    m.d.sync += waited.eq(waited + 1)
                with m.Elif(self.quiescent):
                    m.next = "CLEARING"
            with m.State("CLEARING"):
                m.d.comb += [self.halt.eq(1), self.clear.eq(1)]
                m.next = "IDLE"

    def _errors(self, m: Module, failed: Signal, forget: Value, stalled_on: Signal, registers: RegisterFile) -> Signal:
        """Keep the first error; returns whether there is one."""
        error, code, command, address = Signal(), Signal(8), Signal(16), Signal(32)
        with m.If(forget):
            m.d.sync += [error.eq(0), code.eq(ErrorCode.NONE), command.eq(0), address.eq(0)]
        with m.Elif(failed):
            m.d.sync += [
                error.eq(1),
                command.eq(self.command_index),
                code.eq(ErrorCode.WATCHDOG),
                address.eq(stalled_on),
            ]
            for source in reversed(list(self.error)):
                with m.If(source.valid):
                    m.d.sync += [code.eq(source.payload.code), address.eq(source.payload.address)]
        m.d.comb += [
            registers.error_code.eq(code),
            registers.error_command.eq(command),
            registers.error_address.eq(address),
        ]
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
        """Raise on done or error, as enabled; lower when told."""
        done = self.running & self.finished & ~failed & ~abort
        reasons = Signal(2)
        m.d.sync += reasons.eq(Cat(done, failed & ~abort))
        with m.If((reasons & registers.interrupt_enable).any()):
            m.d.sync += self.interrupt.eq(1)
        with m.Elif(registers.interrupt_clear_written):
            m.d.sync += self.interrupt.eq(0)

    def _count(self, m: Module, counters: Counters, begin: Signal, registers: RegisterFile) -> None:
        """Wire the counters between events and registers."""
        m.d.comb += [counters.clear.eq(begin), counters.running.eq(self._observed)]
        m.d.sync += counters.cause.eq(self.cause)
        m.d.comb += [
            getattr(counters, name).eq(delay(m, getattr(self, name), OBSERVED, name=name)) for name in BEATS.values()
        ]
        m.d.comb += [getattr(registers, name).eq(getattr(counters, f"value_{name}")) for name in COUNTERS]

    def _stamp(
        self, m: Module, stamps: CommandStamps, counters: Counters, begin: Signal, registers: RegisterFile
    ) -> None:
        """Wire the stamps between strobes and registers."""
        for outer, inner in zip((self.started, *self.ended), (stamps.started, *stamps.ended), strict=True):
            m.d.comb += [
                inner.valid.eq(delay(m, outer.valid, OBSERVED, name="strobe")),
                inner.payload.eq(delay(m, outer.payload, OBSERVED, name="index")),
            ]
        m.d.comb += stamps.owner.eq(delay(m, self.owner, OBSERVED, name="owner"))
        m.d.comb += [
            stamps.clear.eq(begin),
            stamps.running.eq(self._observed),
            stamps.cycles.eq(counters.value_cycles),
            stamps.select.eq(registers.stamp_select),
            registers.stamp_start.eq(stamps.start),
            registers.stamp_end.eq(stamps.end),
            registers.stamp_previous.eq(stamps.previous),
            registers.last_owner.eq(stamps.last_owner),
        ]
        for cause in CycleCause:
            name = cause.name.lower()
            m.d.comb += [
                getattr(stamps, f"total_{name}").eq(getattr(counters, f"value_{cause.counter}")),
                getattr(registers, cause.stamp).eq(getattr(stamps, f"share_{name}")),
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
