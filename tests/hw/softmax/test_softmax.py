"""Softmax: exponentials, their places, and query scales, in all sizes and activation widths."""

from dataclasses import replace

import pytest

from tessera.hw.presets import PRESETS, preset
from tessera.hw.softmax.softmax import Softmax
from tessera.sim.bench.run import BenchFailure, run_testbench
from tests.helpers.units import or_soak, simulator

BENCH = "tests.hw.softmax.softmax_bench"
CONFIGS = {
    **PRESETS,
    "a12": preset("tiny").with_activation_width(12),
    "a16": preset("ecp5-wide").with_activation_width(16),
    "one-group": replace(preset("tiny"), exponential_lanes=4),
    "one-lane": replace(preset("tiny"), exponential_lanes=1, max_tokens=64),
}

CASES = [*((name, 0.4) for name in CONFIGS), ("ecp5-wide", 0.0), ("edge", 0.0)]
AS_EDGE = ("edge-8", "edge-large")
"""Presets that have the softmax of edge."""


def settings(config, stall):
    return {"config": config.to_dict(), "stall": stall, "overhead": Softmax(config).overhead}


@pytest.mark.parametrize(("name", "stall"), or_soak(CASES, lambda case: case[0] not in AS_EDGE))
def test_tiles_are_exact(name, stall):
    run_testbench(
        simulator(Softmax, CONFIGS[name]), BENCH, parameters=settings(CONFIGS[name], stall), test_filter="tiles", seed=7
    )


@pytest.mark.parametrize("name", ["tiny", "ecp5-wide", "one-group"])
def test_throughput_and_gate_port(name):
    config = CONFIGS[name]
    run_testbench(simulator(Softmax, config), BENCH, parameters=settings(config, 0.0), test_filter="beat|gate")


def test_other_numerics_are_noticed():
    other = preset("tiny").with_activation_width(12)
    with pytest.raises(BenchFailure, match="tiles_are_exact"):
        run_testbench(simulator(Softmax, preset("tiny")), BENCH, parameters=settings(other, 0.0), test_filter="tiles")


def test_room_in_the_banks_is_checked():
    with pytest.raises(ValueError, match="max_tokens is 1024, but an attention buffer of the banks holds 384"):
        Softmax(replace(preset("tiny"), max_tokens=1024))
