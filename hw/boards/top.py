"""BoardTop: a system on a board's pins, with its clock and reset."""

from __future__ import annotations

from typing import Any

from amaranth.build import Platform
from amaranth.hdl import ClockDomain, Elaboratable, Module, ResetSignal, Signal, Value
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import connect

from hw.boards.board import Board, Pin
from hw.boards.system import System
from hw.config import AcceleratorConfig
from hw.ecp5.pll import Pll
from hw.protocol import Identity
from hw.sdram.chip import SdramChip
from hw.sdram.pins import SdramPins, chip_clock_delay

CHIP_DOMAIN = "chip"
"""Clock domain of nothing but the SDRAM chip's clock pin."""
START_DOMAIN = "start"
"""Clock domain of nothing but the reset's way into step with the clock; the clock is that of all that computes."""
CORE_CLOCK = "clk"
"""What nextpnr calls the clock of all that computes."""


class BoardTop(Elaboratable):
    """Everything on the FPGA.

    ::

        oscillator ─► Pll ─► sync ─► System ◄─► serial line, lights
                       │ │             ▲ │
                       │ └─► chip ──┐  │ ▼
                       └─ locked    └► SdramPins ◄─► chip
                            │
        button ─────────────┴─► ResetSynchronizer ─► clock network ─► reset of sync

    There is one clock for all that computes, so nothing crosses between clocks but what comes from outside: the serial
    line, which its receiver synchronises, and the reset. It begins at once and ends in step with the clock, with the
    PLL locked.

    Parameters
    ----------
    board:
        Pins and devices.
    config:
        Sizes of the machine.
    identity:
        What the device says that it is; has the clock.
    accelerator:
        As of :class:`hw.boards.system.System`.

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
        self._resources: dict[tuple[str, int], Any] = {}
        m.submodules.pll = pll = self._pll
        m.submodules.system = system = self._system
        _domain(m, "sync", pll.clock)
        m.submodules.oscillator = oscillator = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.submodules.reset_button = button = io.Buffer("i", self._port(platform, self._board.reset))
        _domain(m, START_DOMAIN, pll.clock)
        m.submodules.reset = ResetSynchronizer(~pll.locked | button.i, domain=START_DOMAIN)
        m.d.comb += ResetSignal("sync").eq(platform.clock_network(m, "reset", ResetSignal(START_DOMAIN)))
        m.d.comb += pll.input.eq(oscillator.i)
        self._serial_line(m, platform)
        self._lights(m, platform)
        if isinstance(self._board.memory, SdramChip):
            _domain(m, CHIP_DOMAIN, pll.delayed_clock, reset_less=True)
            m.submodules.sdram_pins = pins = SdramPins(platform.request("sdram", dir="-"), CHIP_DOMAIN)
            connect(m, system.pads, pins.pads)
        return m

    def _serial_line(self, m: Module, platform: Platform) -> None:
        """The host's end of it is a USB converter on the board."""
        uart = platform.request("uart", dir="-")
        m.submodules.rx = receive = io.Buffer("i", uart.rx)
        m.submodules.tx = transmit = io.FFBuffer("o", uart.tx)
        # Pads lie far from what is shown on them: a register on the way.
        line = Signal(init=1)
        m.d.sync += line.eq(self._system.tx)
        m.d.comb += [self._system.rx.eq(receive.i), transmit.o.eq(line)]

    def _lights(self, m: Module, platform: Platform) -> None:
        """As many as the board has; others of its lights are left alone."""
        for number, (pin, state) in enumerate(zip(self._board.lights, Value.cast(self._system.lights), strict=False)):
            m.submodules[f"light_{number}"] = light = io.FFBuffer("o", self._port(platform, pin))
            m.d.sync += light.o.eq(state)

    def _port(self, platform: Platform, pin: Pin) -> io.PortLike:
        """A pin's port; a resource of several parts is asked for once."""
        place = pin.resource, pin.number
        if place not in self._resources:
            self._resources[place] = platform.request(*place, dir="-")
        resource = self._resources[place]
        return getattr(resource, pin.part) if pin.part else resource


def _domain(m: Module, name: str, clock: Value, *, reset_less: bool = False) -> None:
    """A clock domain whose net keeps the name by which nextpnr reports it: the first in the alphabet."""
    domain = ClockDomain(name, reset_less=reset_less)
    domain.clk.attrs["keep"] = "true"
    m.domains += domain
    m.d.comb += domain.clk.eq(clock)


def board_platform(board: Board, family: type) -> Platform:
    """The platform of a board that also makes what ``family`` offers (``hw.ecp5.platform.Ecp5``)."""
    return type(board.platform.__name__, (family, board.platform), {})()
