"""StationaryBanks: three writers, their priorities, and reads."""

from __future__ import annotations

import pytest

from tessera.hw.compute.bank import StationaryBanks
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.run import run_testbench
from tests.helpers.units import simulator

SHAPES = {
    "one word a chunk": {"elements": 4, "lanes": 8, "memory_bytes": 4, "exponential_lanes": 1},
    "four words a chunk": {
        "elements": 4,
        "lanes": 4,
        "memory_bytes": 16,
        "requantise_lanes": 4,
        "exponential_lanes": 4,
    },
    "16 bits": {"elements": 2, "lanes": 4, "memory_bytes": 4, "exponential_lanes": 2},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_write_lands_once(shape, seed):
    config = AcceleratorConfig(name="bank", bank_words=64, **SHAPES[shape])
    config = config.with_activation_width(16 if shape == "16 bits" else 8)
    settings = {"config": config.to_dict(), "cycles": 3000}
    result = run_testbench(
        simulator(StationaryBanks, config), "tests.hw.compute.bank_bench", parameters=settings, seed=seed
    )
    assert min(result.outputs["refused"][name] for name in ("fill", "exponentials")) > 100
