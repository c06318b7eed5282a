"""Transposer: order, addresses, row counts and cycle of every word."""

from __future__ import annotations

import pytest

from tessera.hw.compute.transposer import Transposer
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.run import run_testbench
from tests.helpers.units import simulator

SHAPES = {
    "square": {"elements": 4, "lanes": 4, "memory_bytes": 4},
    "a channel each cycle": {"elements": 4, "lanes": 4, "memory_bytes": 4, "requantise_lanes": 4},
    "two columns": {"elements": 4, "lanes": 8, "memory_bytes": 4},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_words_come_out_transposed(shape, stall):
    config = AcceleratorConfig(name="transposer", **SHAPES[shape])
    settings = {"config": config.to_dict(), "words": 300, "stall": stall}
    run_testbench(simulator(Transposer, config), "tests.hw.compute.transposer_bench", parameters=settings, seed=7)
