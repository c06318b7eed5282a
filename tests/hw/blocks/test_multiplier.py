"""Multiplier: exact, one a cycle, and the same when it is made of the ECP5's blocks."""

from __future__ import annotations

import pytest

from tessera.hw.blocks.multiplier import Multiplier
from tessera.hw.ecp5.platform import Ecp5
from tessera.sim.bench.run import BenchOptions, run_testbench
from tessera.sim.models import MODELS
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions
from tessera.sim.verilator.verilog import export_verilog


@pytest.mark.parametrize("width, stationary_width", [(9, 9), (18, 18), (22, 22), (22, 18), (17, 18)])
@pytest.mark.parametrize("platform", [None, Ecp5()], ids=["portable", "ecp5"])
def test_products_are_exact(width, stationary_width, platform):
    design = export_verilog(Multiplier(width, 3, stationary_width), platform=platform)
    blocks = 3 if platform and width <= Ecp5.FACTOR_BITS else 0
    assert design.text.count("MULT18X18D") == blocks
    sources = [MODELS / "mult18x18d.v"] if blocks else []
    run_testbench(
        build_simulator(design, BuildOptions(sources=sources)),
        "tests.hw.blocks.multiplier_bench",
        parameters={"width": width, "stationary_width": stationary_width, "elements": 3},
        seed=width,
        options=BenchOptions(timeout_s=60),
    )


def test_a_width_without_room_for_a_sign_is_refused():
    with pytest.raises(ValueError, match="operand width is 1; a signed operand has at least 2 bits"):
        Multiplier(1, 4)
