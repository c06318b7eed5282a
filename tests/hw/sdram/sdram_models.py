"""What the SDRAM's tests share: the simulator of memory, chip and traffic, and the chip's settings."""

from __future__ import annotations

from pathlib import Path

from tessera.hw.presets import preset
from tessera.hw.sdram.chip import SdramTiming
from tessera.hw.sdram.memory import SdramMemory
from tessera.sim.bench.run import BenchOptions, run_testbench
from tessera.sim.machine.sdram import ROW_TIMES, SOURCE
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions, Simulator
from tessera.sim.verilator.verilog import export_verilog

CLOCK = SOURCE.with_name("machine_main.cpp")
SYSTEM = Path(__file__).with_name("sdram_system.sv")


def system(timing: SdramTiming, bus: str = "ecp5-wide", extra_latency: int = 0, optimise: bool = False) -> Simulator:
    """Two clients, the memory, the chip; ``bus`` is the preset that gives its width."""
    memory = SdramMemory(preset(bus), timing, readers=2, writers=2, extra_latency=extra_latency)
    options = BuildOptions(
        top="sdram_system",
        sources=[SOURCE, SYSTEM],
        parameters={"BYTES": preset(bus).memory_bytes},
        optimise=optimise,
        main=CLOCK,
    )
    return build_simulator(export_verilog(memory, name="memory"), options)


def exactly(timing: SdramTiming, period: int = 10_000) -> dict[str, int]:
    """Settings of a chip that needs every cycle of a timing; refreshes at most as far apart as it says."""
    times = {f"t{name}": getattr(timing, name) * period for name in (*ROW_TIMES, "mrd")}
    return times | {
        "period": period,
        "tref": 64 * timing.refi * period,
        "rows": 64,
        "gap": timing.refi * period,
        "powerup": timing.power_up * period,
    }


def run(simulator: Simulator, settings: dict[str, int], seed: int = 1, timeout_s: float = 300.0, **traffic: int):
    """Let the traffic of ``sdram_system.sv`` run; returns what it counted."""
    plusargs = [f"+sdram_{name}={value}" for name, value in settings.items()]
    plusargs += [f"+{name}={value}" for name, value in traffic.items()] + [f"+seed={seed}"]
    options = BenchOptions(plusargs=plusargs, timeout_s=timeout_s)
    return run_testbench(simulator, "tests.hw.sdram.sdram_bench", options=options).outputs
