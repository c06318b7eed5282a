"""ParameterStore: the ring, its read port, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessera.hw.compute.parameters import ParameterStore
from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import PRESETS
from tessera.sim.bench.run import BenchFailure, run_testbench

BENCH = "tests.hw.compute.parameters_bench"
SHAPES = {
    "one set a chunk": {"elements": 4, "lanes": 4, "memory_bytes": 4},
    "two parts": {"elements": 8, "lanes": 16, "memory_bytes": 4, "requantise_lanes": 4},
    "whole groups": {"elements": 16, "lanes": 16, "memory_bytes": 32, "requantise_lanes": 4},
    "lone sets": {"elements": 4, "lanes": 4, "memory_bytes": 4, "requantise_lanes": 1},
}


def configuration(shape: str) -> AcceleratorConfig:
    return AcceleratorConfig(name="parameters", parameter_entries=64, **SHAPES[shape])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stall", [0.0, 0.8])
def test_jobs_see_their_own_sets(shape, stall):
    config = configuration(shape)
    settings = {"config": config.to_dict(), "jobs": 60, "stall": stall}
    result = run_testbench(
        ParameterStore(config), BENCH, parameters=settings, seed=19, test_filter="jobs_see_their_own_sets"
    )
    assert result.outputs["full"] > 5


def test_excess_release_is_asserted():
    config = configuration("two parts")
    with pytest.raises(BenchFailure, match=r"(?s)a hardware assertion fired.*sets released of"):
        settings = {"config": config.to_dict()}
        run_testbench(ParameterStore(config), BENCH, parameters=settings, test_filter="excess_release_is_asserted")


@pytest.mark.parametrize("wrong", [{"requantise_lanes": 3, "elements": 3}, {"parameter_entries": 1}])
def test_impossible_groups_are_refused(wrong):
    config = replace(PRESETS["tiny"])
    for name, value in wrong.items():
        object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=r"requantise_lanes is .; choose a power of two of at most"):
        ParameterStore(config)
