"""The simulated board: a real board's system, with a model of the SDRAM chip and a pseudo-terminal as serial port.

Every bit goes over the pins ``rx`` and ``tx``, and every word of memory over the chip's pins.
"""

from __future__ import annotations

import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from tessera.common.progress import Progress, silent
from tessera.common.tools import ToolError
from tessera.hw.accelerator import Accelerator
from tessera.hw.blocks.sleep import extend_pulse, sleeping
from tessera.hw.boards.on_chip_memory import OnChipMemory
from tessera.hw.boards.system import CLIENTS, System
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import any_valid
from tessera.hw.protocol import Identity
from tessera.hw.sdram.memory import SdramMemory
from tessera.sim.machine.sdram import SOURCE as CHIP
from tessera.sim.machine.sdram import SdramSettings
from tessera.sim.models import MODELS
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions, Simulator
from tessera.sim.verilator.verilog import Design, export_cached

CYCLES_PER_BIT = 8
"""Clock cycles per bit. Bits are short because the simulation of the line takes most of the time."""
SDRAM = SdramSettings()
"""Chip and clock of the board."""
IDLE_CYCLES = 10_000
"""Cycles of silence that end a frame of the host link. ``board_main.cpp`` slows its clock down during them."""
BUILD = "simulated"
REGISTER_CYCLES = 16
"""Cycles from an access to the registers until the accelerator is at rest again, unless it starts a run."""
WAKE_CYCLES = 3
"""Cycles from waking the accelerator until it accepts an access."""


class SleepingAccelerator(wiring.Component):
    """An accelerator that sleeps while it is idle. Loading a program is simulated several times as fast.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members are the accelerator's. It is awake while it is busy and during accesses to its registers; an access waits
    until it is awake.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._accelerator = Accelerator(config)
        super().__init__(self._accelerator.signature)

    def elaborate(self, platform: object) -> Module:
        """Connect the accelerator's ports; its registers only while it is awake."""
        m = Module()
        accelerator, control = self._accelerator, self.control
        asked = any_valid(control)
        awake = Signal()
        m.d.comb += awake.eq(accelerator.state.busy | extend_pulse(m, asked, REGISTER_CYCLES, name="asked"))
        m.submodules.accelerator = sleeping(m, platform, "accelerator", accelerator, awake)
        self._wake(m, awake, control, accelerator.control)
        connect(m, accelerator.read, flipped(self.read))
        connect(m, accelerator.write, flipped(self.write))
        m.d.comb += [self.state.eq(accelerator.state), self.interrupt.eq(accelerator.interrupt)]
        return m

    def _wake(self, m: Module, awake: Value, host: wiring.PureInterface, registers: wiring.PureInterface) -> None:
        """Pass accesses on as soon as the accelerator has woken up; its registers sleep with it."""
        woken = Signal(WAKE_CYCLES)
        m.d.sync += woken.eq(Cat(awake, woken) & awake.replicate(WAKE_CYCLES))
        for request, held in ((host.aw, registers.aw), (host.w, registers.w), (host.ar, registers.ar)):
            m.d.comb += [
                held.payload.eq(request.payload),
                held.valid.eq(request.valid & woken[-1]),
                request.ready.eq(held.ready & woken[-1]),
            ]
        connect(m, registers.b, flipped(host).b)
        connect(m, registers.r, flipped(host).r)


def _system(config: AcceleratorConfig, cycles_per_bit: int, on_chip_bytes: int | None) -> System:
    clients = {"readers": CLIENTS, "writers": CLIENTS}
    return System(
        config,
        OnChipMemory(config, on_chip_bytes, **clients)
        if on_chip_bytes
        else SdramMemory(config, SDRAM.timing, **clients),
        baud=SDRAM.clock_hz // cycles_per_bit,
        identity=Identity.of(config, clock_hz=SDRAM.clock_hz, build=BUILD),
        idle_seconds=IDLE_CYCLES / SDRAM.clock_hz,
        accelerator=SleepingAccelerator(config),
    )


@lru_cache(maxsize=4)
def _design(config: AcceleratorConfig, cycles_per_bit: int, on_chip_bytes: int | None) -> Design:
    return export_cached(
        lambda: _system(config, cycles_per_bit, on_chip_bytes),
        name="system",
        key=[config.to_dict(), cycles_per_bit, on_chip_bytes],
        sources=("hw/**/*.py", "sim/board/*.py"),
    )


def build_board(
    config: AcceleratorConfig,
    *,
    cycles_per_bit: int = CYCLES_PER_BIT,
    on_chip_bytes: int | None = None,
    on_progress: Progress = silent,
) -> Simulator:
    """Build the board's simulator, or return the cached one.

    Errors are those of :func:`~tessera.sim.verilator.build.build_simulator`.
    """
    options = BuildOptions(
        top="board",
        sources=(MODELS / "board.sv", *([] if on_chip_bytes else [CHIP])),
        defines={"ON_CHIP": 1} if on_chip_bytes else None,
        optimise=True,
        main=MODELS / "board_main.cpp",
    )
    return build_simulator(_design(config, cycles_per_bit, on_chip_bytes), options, on_progress)


class SimulatedBoard:
    """A running board, as a context manager. Its clock stands still while nobody talks to it.

    Parameters
    ----------
    config:
        Sizes of the machine.
    cycles_per_bit:
        Clock cycles per bit of the serial line.
    on_chip_bytes:
        Size of a memory in block RAM that takes the SDRAM's place, in bytes.
    chip:
        Settings of the chip's model. By default they are the controller's.
    accesses:
        File for every write of the host link; complete once the board is closed.
    on_progress:
        Called with the stage ``build`` while the simulator is built.

    Members
    -------
    port: str
        Path of the terminal that takes the serial port's place.

    Raises
    ------
    tessera.common.tools.ToolError
        The simulation did not start.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        cycles_per_bit: int = CYCLES_PER_BIT,
        on_chip_bytes: int | None = None,
        chip: SdramSettings = SDRAM,
        accesses: Path | None = None,
        on_progress: Progress = silent,
    ) -> None:
        simulator = build_board(
            config, cycles_per_bit=cycles_per_bit, on_chip_bytes=on_chip_bytes, on_progress=on_progress
        )
        command = [str(simulator.executable), f"+cycles_per_bit={cycles_per_bit}", *chip.plusargs()]
        command += [f"+accesses={accesses}"] if accesses else []
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._process.stdout is not None
        self.port = self._process.stdout.readline().strip()
        if not self.port:
            self.close()
            raise ToolError(f"the simulated board did not start: {self.log().strip() or 'it said nothing'}")

    def close(self) -> None:
        """End the simulation."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def kill(self) -> None:
        """Pull the plug: the port disappears at once, in the middle of a transfer if there is one."""
        self._process.kill()
        self.close()

    def log(self) -> str:
        """Return the simulation's messages so far."""
        self._log.seek(0)
        return self._log.read()

    def __enter__(self) -> SimulatedBoard:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._log.close()
