"""The simulated board: accelerator and host link as on a real one, with a pseudo-terminal for a serial port.

Every bit goes over the pins ``rx`` and ``tx``. What is behind the pads is the business of ``board.sv``.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.accelerator import Accelerator
from hw.boards.link.link import HostLink
from hw.boards.link.protocol import Identity
from hw.config import AcceleratorConfig
from hw.interfaces import Axi4Read, Axi4Write
from hw.sleep import lasting, sleeping
from sim import memory
from sim.build import BUILD_ROOT, BuildOptions, Simulator, build_simulator
from sim.machine import MEMORY_BYTES, MemorySettings
from sim.tools import ToolError
from sim.verilog import Design, export_cached

CYCLES_PER_BIT = 8
"""Short bits: simulating the line is what takes the time."""
CLOCK_HZ = 100_000_000
"""What the simulated board says that its clock is."""
IDLE_CYCLES = 10_000
"""Silence that ends a frame; board_main.cpp slows its clock down within it."""
BUILD = "simulated"
REGISTER_CYCLES = 16
"""From an access to the registers to the end of what it sets in motion, but for a run."""
WAKE_CYCLES = 3
_HERE = Path(__file__).parent


def _memory_port(config: AcceleratorConfig) -> wiring.Signature:
    """All AXI4 channels of a master under one name."""
    return wiring.Signature({**dict(Axi4Read(config).members), **dict(Axi4Write(config).members)})


class LinkedMachine(wiring.Component):
    """Accelerator and host link.

    Parameters
    ----------
    config:
        Sizes of the machine.
    cycles_per_bit:
        Of the serial line.

    Members
    -------
    rx, tx, activity, error:
        As of the link.
    core, link:
        The memory ports of accelerator and link.
    core_busy:
        The accelerator computes; otherwise it sleeps but for accesses to its registers, so that loading is simulated
        several times as fast.
    """

    def __init__(self, config: AcceleratorConfig, cycles_per_bit: int) -> None:
        self._config = config
        identity = Identity.of(config, clock_hz=CLOCK_HZ, build=BUILD)
        self._link = HostLink(
            config, baud=CLOCK_HZ // cycles_per_bit, identity=identity, idle_seconds=IDLE_CYCLES / CLOCK_HZ
        )
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "activity": Out(1),
                "error": Out(1),
                "core_busy": In(1),
                "core": Out(_memory_port(config)),
                "link": Out(_memory_port(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wires."""
        m = Module()
        accelerator = Accelerator(self._config)
        m.submodules.host_link = link = self._link
        control = link.control
        asked = Cat(control.awvalid, control.wvalid, control.arvalid, control.bvalid, control.rvalid).any()
        awake = Signal()
        m.d.comb += awake.eq(self.core_busy | lasting(m, asked, REGISTER_CYCLES, name="asked"))
        m.submodules.accelerator = sleeping(m, "accelerator", accelerator, awake)
        self._wake(m, awake, link.control, accelerator.control)
        for port, unit in ((self.core, accelerator), (self.link, link)):
            for bus in (unit.read, unit.write):
                for name, member in bus.signature.members.items():
                    ends = getattr(port, name), getattr(bus, name)
                    m.d.comb += ends[0].eq(ends[1]) if member.flow == Out else ends[1].eq(ends[0])
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        m.d.comb += [self.activity.eq(link.activity), self.error.eq(link.error)]
        return m

    def _wake(self, m: Module, awake: Value, host: wiring.PureInterface, registers: wiring.PureInterface) -> None:
        """Pass accesses on once the accelerator, and in it the registers, which sleep too, have had time to wake up."""
        woken = Signal(WAKE_CYCLES)
        m.d.sync += woken.eq(Cat(awake, woken) & awake.replicate(WAKE_CYCLES))
        for name, member in host.signature.members.items():
            source, target = (host, registers) if member.flow == Out else (registers, host)
            value = getattr(source, name)
            if name.endswith(("awvalid", "wvalid", "arvalid", "awready", "wready", "arready")):
                value = value & woken[-1]
            m.d.comb += getattr(target, name).eq(value)


@lru_cache(maxsize=4)
def _design(config: AcceleratorConfig, cycles_per_bit: int) -> Design:
    return export_cached(
        lambda: LinkedMachine(config, cycles_per_bit),
        name="linked_machine",
        key=json.dumps([config.to_dict(), cycles_per_bit, Path(__file__).read_text()]),
        folder=BUILD_ROOT.parent / "verilog",
    )


def build_board(config: AcceleratorConfig, *, cycles_per_bit: int = CYCLES_PER_BIT) -> Simulator:
    """Build the board's simulator, or return the cached one; errors as of :func:`sim.build.build_simulator`."""
    options = BuildOptions(
        top="board",
        sources=(_HERE / "board.sv", _HERE / "axi_share.sv", memory.SOURCE),
        parameters={"BYTES": config.memory_bytes, "DEPTH": MEMORY_BYTES // config.memory_bytes},
        optimise=True,
        main=_HERE / "board_main.cpp",
    )
    return build_simulator(_design(config, cycles_per_bit), options)


class SimulatedBoard:
    """A running board; a context manager. Its clock stands still while nobody talks to it.

    Parameters
    ----------
    config:
        Sizes of the machine.
    cycles_per_bit:
        Of the serial line.
    memory_settings:
        Behaviour of its DRAM.
    accesses:
        File for every write that the host link makes; complete once the board is closed.

    Members
    -------
    port: str
        The terminal that stands for the serial port.

    Raises
    ------
    sim.tools.ToolError
        The simulation did not start.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        cycles_per_bit: int = CYCLES_PER_BIT,
        memory_settings: MemorySettings | None = None,
        accesses: Path | None = None,
    ) -> None:
        simulator = build_board(config, cycles_per_bit=cycles_per_bit)
        command = [str(simulator.executable), f"+cycles_per_bit={cycles_per_bit}"]
        command += (memory_settings or MemorySettings()).plusargs()
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
        """Pull the plug: the port goes away in the middle of whatever there is."""
        self._process.kill()
        self.close()

    def log(self) -> str:
        """What the simulation has said of itself so far."""
        self._log.seek(0)
        return self._log.read()

    def __enter__(self) -> SimulatedBoard:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._log.close()
