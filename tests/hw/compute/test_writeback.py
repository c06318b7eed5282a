"""Writeback: every memory write of every kind of step, idle, saturation, and its assertions."""

from __future__ import annotations

import pytest

from tessera.hw.compute.writeback import Writeback
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.run import BenchFailure, run_testbench
from tests.helpers.units import simulator

BENCH = "tests.hw.compute.writeback_bench"
SHAPES = {
    "square": {"elements": 4, "lanes": 4, "memory_bytes": 4},
    "two columns": {"elements": 4, "lanes": 8, "memory_bytes": 4, "requantise_lanes": 1},
    "a step each cycle": {"elements": 4, "lanes": 8, "memory_bytes": 4, "requantise_lanes": 4},
    "16 bits": {"elements": 4, "lanes": 8, "memory_bytes": 4},
}


def configuration(shape: str) -> AcceleratorConfig:
    config = AcceleratorConfig(name="writeback", max_tokens=32, **SHAPES[shape])
    return config.with_activation_width(16 if shape == "16 bits" else 8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_write_is_exact(shape, seed):
    config = configuration(shape)
    settings = {"config": config.to_dict(), "jobs": 60}
    result = run_testbench(
        simulator(Writeback, config), BENCH, parameters=settings, seed=seed, test_filter="every_write_is_exact"
    )
    assert min(result.outputs.values()) > 0, result.outputs


@pytest.mark.parametrize(
    ("name", "gap", "message"),
    [
        ("overflow", 0, "more steps than the queue of recipes holds"),
        ("hazard", 7, "is added to before it is written"),
        ("close_results", 0, "a result while 2 groups of the last one wait"),
    ],
)
def test_misuse_is_asserted(name, gap, message):
    config = configuration("square")
    settings = {"config": config.to_dict(), "gap": gap}
    with pytest.raises(BenchFailure, match=f"(?s)a hardware assertion fired.*{message}"):
        run_testbench(simulator(Writeback, config), BENCH, parameters=settings, test_filter=f"{name}_(is|are)_asserted")


def test_additions_eight_cycles_apart_are_no_hazard():
    config = configuration("square")
    settings = {"config": config.to_dict(), "gap": 8}
    run_testbench(simulator(Writeback, config), BENCH, parameters=settings, test_filter="hazard_is_asserted")
