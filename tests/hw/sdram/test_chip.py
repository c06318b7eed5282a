"""The chip model refuses what a chip does not understand; that it measures times is shown in ``test_sdram``."""

from __future__ import annotations

import pytest

from tessera.sim.bench.run import BenchFailure, BenchOptions, run_testbench
from tessera.sim.machine.sdram import SOURCE
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions

PORTS = "clk cke cs_n ras_n cas_n we_n ba a dqm dq_i dq_i_en dq_o".split()
CLOSE, REFRESH, MODE = (
    {"command": "precharge", "address": 1 << 10},
    {"command": "refresh"},
    {"command": "mode", "address": 2 << 4},
)
READY = [CLOSE, REFRESH, REFRESH, MODE]
ACTIVE, READ = {"command": "active", "address": 5}, {"command": "read"}
WRITE = {"command": "write", "drive": 1}


def give(script):
    options = BuildOptions(top="sdram_chip", sources=[SOURCE], public=[("sdram_chip", name) for name in PORTS])
    run_testbench(
        build_simulator(options=options),
        "tests.hw.sdram.chip_bench",
        parameters={"script": script},
        options=BenchOptions(plusargs=["+sdram_powerup=0"]),
    )


def test_what_is_allowed():
    give([*READY, ACTIVE, READ, WRITE, {**ACTIVE, "bank": 3}, {**READ, "bank": 3}, CLOSE, REFRESH])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([REFRESH], "power-up: AUTO REFRESH before all banks are precharged"),
        ([CLOSE, REFRESH, REFRESH, ACTIVE], "power-up: ACTIVE before the mode register is set"),
        ([CLOSE, REFRESH, MODE], "power-up: 1 refreshes before the mode register is set, 2 are needed"),
        ([CLOSE, REFRESH, REFRESH, {**MODE, "address": 2 << 4 | 3}], "mode register .* is not for sequential bursts"),
        ([*READY, ACTIVE, ACTIVE], "ACTIVE in bank 0, which has row 0005 open"),
        ([*READY, ACTIVE, {**READ, "bank": 1}], "READ in bank 1, which has no row open"),
        ([*READY, ACTIVE, REFRESH], "AUTO REFRESH while banks 0001 are active"),
        ([*READY, ACTIVE, {**READ, "address": 1 << 10}], "READ with address 0400: auto precharge"),
        ([*READY, ACTIVE, {**WRITE, "drive": 0}], "WRITE while nobody drives the data pins"),
        ([*READY, ACTIVE, {**READ, "soon": 1}, {**READ, "soon": 1}, WRITE], "DQ contention"),
        ([*READY, {"command": "stop"}], "BURST TERMINATE is not known"),
    ],
)
def test_what_is_not(script, message):
    with pytest.raises(BenchFailure, match=f"sdram_chip: .*{message}"):
        give(script)
