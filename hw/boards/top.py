"""BoardTop: a system on a board's pins, with its clock and reset."""

from __future__ import annotations

from typing import Any

from amaranth.build import Platform
from amaranth.hdl import ClockDomain, Elaboratable, Module, ResetSignal, Signal, Value
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import connect

from tessera.hw.boards.board import Board, Pin
from tessera.hw.boards.system import System
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.pll import Pll
from tessera.hw.protocol import Identity
from tessera.hw.sdram.chip import SdramChip
from tessera.hw.sdram.pins import SdramPins, chip_clock_delay

CHIP_DOMAIN = "chip"
"""Clock domain of the SDRAM chip's clock pin alone."""
START_DOMAIN = "start"
"""Clock domain of the reset synchroniser alone; its clock is that of the machine."""
CORE_CLOCK = "clk"
"""Name by which nextpnr reports the clock of the machine."""


class BoardTop(Elaboratable):
    """Everything on the FPGA.

    ::

        oscillator ─► Pll ─► sync ─► System ◄─► serial line, lights
                       │ │             ▲ │
                       │ └─► chip ──┐  │ ▼
                       └─ locked    └► SdramPins ◄─► chip
                            │
        button ─────────────┴─► ResetSynchronizer ─► clock network ─► reset of sync

    The machine has one clock. Only two signals cross between clocks, because they come from outside: the serial line,
    which its receiver synchronises, and the reset. The reset begins at once; it ends in step with the clock, once the
    PLL has locked.

    Parameters
    ----------
    board:
        Pins and devices.
    config:
        Sizes of the machine.
    identity:
        Description that the device gives of itself; it has the clock.
    accelerator:
        See :class:`tessera.hw.boards.system.System`.

    Raises
    ------
    ValueError
        PLL, memory or serial line cannot do what the clock asks.
    """

    def __init__(
        self,
        board: Board,
        config: AcceleratorConfig,
        identity: Identity,
        *,
        accelerator: wiring.Component | None = None,
    ) -> None:
        self._board, clock_hz = board, identity.clock_hz
        delay = None
        if isinstance(board.memory, SdramChip):
            delay = chip_clock_delay(clock_hz, board.memory.timing(clock_hz).cas_latency)
        input_hz = board.platform().default_clk_frequency
        self._pll = Pll(round(input_hz), clock_hz, delay)
        self._system = System(
            config,
            board.memory_for(config, clock_hz),
            baud=board.baud,
            identity=identity,
            accelerator=accelerator,
        )

    def elaborate(self, platform: Platform) -> Module:
        """Clocks, reset, pins."""
        m = Module()
        pins = _Pins(platform)
        m.submodules.pll = pll = self._pll
        m.submodules.system = system = self._system
        _domain(m, "sync", pll.clock)
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.submodules.reset_button = button = io.Buffer("i", pins.port(self._board.reset))
        _domain(m, START_DOMAIN, pll.clock)
        # The reset holds as long as the PLL has not locked, or the button is pressed.
        m.submodules.reset = ResetSynchronizer(~pll.locked | button.i, domain=START_DOMAIN)
        m.d.comb += ResetSignal("sync").eq(platform.clock_network(m, "reset", ResetSignal(START_DOMAIN)))
        m.d.comb += pll.input.eq(oscillator.i)
        self._serial_line(m, platform)
        self._lights(m, pins)
        if isinstance(self._board.memory, SdramChip):
            # Nothing but the clock pin is clocked by the chip's clock, so its domain needs no reset.
            _domain(m, CHIP_DOMAIN, pll.delayed_clock, reset_less=True)
            m.submodules.sdram_pins = chip = SdramPins(platform.request("sdram", dir="-"), CHIP_DOMAIN)
            connect(m, system.pads, chip.pads)
        return m

    def _serial_line(self, m: Module, platform: Platform) -> None:
        """Connect the line to the USB converter on the board, which is the host's end of it."""
        uart = platform.request("uart", dir="-")
        m.submodules.rx = receive = io.Buffer("i", uart.rx)
        m.submodules.tx = transmit = io.FFBuffer("o", uart.tx)
        # Pads lie far from the unit that drives them, so there is a register on the way.
        line = Signal(init=1)
        m.d.sync += line.eq(self._system.tx)
        m.d.comb += [self._system.rx.eq(receive.i), transmit.o.eq(line)]

    def _lights(self, m: Module, pins: _Pins) -> None:
        """Drive as many lights as the board names; others of its lights are left alone."""
        # There are registers on the way and in the pad, because the way may be long and nobody sees the delay.
        for number, (pin, state) in enumerate(zip(self._board.lights, Value.cast(self._system.lights), strict=False)):
            m.submodules[f"light_{number}"] = light = io.FFBuffer("o", pins.port(pin))
            m.d.sync += light.o.eq(state)


class _Pins:
    """Ports of single pins. A platform gives out each resource once, even if several pins are parts of it."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._resources: dict[tuple[str, int], Any] = {}

    def port(self, pin: Pin) -> io.PortLike:
        """The port of a pin."""
        place = pin.resource, pin.number
        if place not in self._resources:
            self._resources[place] = self._platform.request(*place, dir="-")
        resource = self._resources[place]
        return getattr(resource, pin.part) if pin.part else resource


def _domain(m: Module, name: str, clock: Value, *, reset_less: bool = False) -> None:
    """Make a clock domain whose net keeps its name; nextpnr reports a net by the first of its names in the alphabet."""
    domain = ClockDomain(name, reset_less=reset_less)
    domain.clk.attrs["keep"] = "true"
    m.domains += domain
    m.d.comb += domain.clk.eq(clock)


def board_platform(board: Board, family: type) -> Platform:
    """The platform of a board that also makes what ``family`` offers (``tessera.hw.ecp5.platform.Ecp5``)."""
    return type(board.platform.__name__, (family, board.platform), {})()
