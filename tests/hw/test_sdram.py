"""WIP."""
from __future__ import annotations

from pathlib import Path

import pytest

from hw.boards.sdram.chip import ANY_CHIP, CHIPS
from hw.boards.sdram.memory import SdramMemory
from hw.config import preset
from sim.bench import run_bench
from sim.build import BuildOptions, build_simulator
from sim.verilog import export_verilog

CHIP = Path(__file__).parents[2] / "sim" / "sdram_chip.sv"
SYSTEM = Path(__file__).parent / "sdram_system.sv"


def simulator(timing, name="ecp5-85f", delay=0, refreshes=8192):
    config = preset(name)
    design = export_verilog(SdramMemory(config, timing, readers=2, writers=2, extra_latency=delay), name="memory")
    options = BuildOptions(
        top="sdram_system",
        sources=[CHIP, SYSTEM],
        parameters={"BYTES": config.memory_bytes, "BOARD_DELAY": delay, "REFRESHES": refreshes},
        optimise=True,
    )
    return build_simulator(design, options)


def sheet(chip, clock_hz):
    picoseconds = {name: round(1000 * getattr(chip, name)) for name in ("rcd", "rp", "ras", "rc", "rrd", "wr", "rfc")}
    period = 10**12 // clock_hz
    names = {f"t{name}": value for name, value in picoseconds.items()}
    names |= {"period": period, "tck2": round(1000 * chip.period_cas2), "tck3": round(1000 * chip.period_cas3)}
    names |= {"tmrd": chip.mode_cycles * period, "tref": round(1000 * chip.refresh_window), "powerup": round(1000 * chip.power_up)}
    return [f"+sdram_{name}={value}" for name, value in names.items()]


def test_traffic():
    chip = CHIPS["IS42S16160G-7"]
    sim = simulator(chip.timing(100_000_000))
    r = run_bench(sim, "tests.hw.sdram_bench", plusargs=[*sheet(chip, 100_000_000), "+accesses=20000"])
    print(r.outputs)


@pytest.mark.parametrize("burst", [256, 64, 16, 4, 1])
@pytest.mark.parametrize("write", [0, 1])
def test_stream(burst, write):
    chip = CHIPS["IS42S16160G-7"]
    sim = simulator(chip.timing(100_000_000))
    r = run_bench(sim, "tests.hw.sdram_bench", plusargs=[*sheet(chip, 100_000_000), f"+accesses={100000//burst}", f"+stream={burst}", f"+stream_write={write}"])
    print(burst, write, r.outputs, r.outputs["beats"]/r.outputs["cycle"])
