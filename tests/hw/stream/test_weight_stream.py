"""The weight stream delivers every block where it belongs, in order, and at the memory's full rate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import preset
from tessera.hw.stream.weight_stream import WeightStream
from tessera.sim.bench.run import run_testbench
from tests.helpers.on_bus import on_bus
from tests.helpers.units import simulator

BENCH = "tests.hw.stream.weight_stream_bench"
CASES = [("tiny", 8), ("ecp5-wide", 12), ("edge", 16), ("edge", 8), ("tiny", 16)]


def run(config: AcceleratorConfig, *, stall=0.0, seed=1, test_filter="^(?!.*bandwidth)"):
    return run_testbench(
        simulator(on_bus, config, WeightStream),
        BENCH,
        parameters={"config": config.to_dict(), "stall": stall},
        seed=seed,
        test_filter=test_filter,
    )


@pytest.mark.parametrize("stall", [0.0, 0.3])
@pytest.mark.parametrize(("name", "width"), CASES)
def test_blocks(name, width, stall):
    run(preset(name).with_activation_width(width), stall=stall, seed=width)


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_beats_of_several_words(ratio):
    config = replace(preset("tiny"), memory_bytes=4 * ratio, requantise_lanes=4, elements=4)
    run(config, seed=ratio)


@pytest.mark.parametrize("name", ["tiny", "ecp5-wide", "edge"])
def test_bandwidth_at_60_cycles_of_latency(name):
    config = replace(preset(name), stream_beats=512)
    rates = run(config, test_filter="bandwidth").outputs
    assert rates["memory_rate"] >= 0.95 and rates["delivery_rate"] >= 0.95, rates
