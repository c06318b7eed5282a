"""The store unit writes residual rows as 32-bit lanes, keeps to AXI4, and stops cleanly on errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessera.hw.bus.write_master import WriteMaster
from tessera.hw.memory.store import StoreUnit
from tessera.hw.presets import preset
from tessera.sim.bench.run import run_testbench
from tests.helpers.on_bus import on_bus
from tests.helpers.units import simulator

BENCH = "tests.hw.memory.store_bench"


def run(config, *, stall=0.0, seed=1, test_filter="^(?!.*bandwidth)"):
    return run_testbench(
        simulator(on_bus, config, StoreUnit),
        BENCH,
        parameters={"config": config.to_dict(), "stall": stall},
        seed=seed,
        test_filter=test_filter,
    )


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize(("name", "width"), [("tiny", 8), ("ecp5-wide", 12), ("edge", 16)])
def test_store(name, width, stall):
    run(preset(name).with_activation_width(width), stall=stall, seed=width)


def test_beat_of_a_whole_word():
    run(replace(preset("tiny"), memory_bytes=16, requantise_lanes=4))


@pytest.mark.parametrize("name", ["tiny", "ecp5-wide", "edge"])
def test_bandwidth(name):
    outputs = run(preset(name), test_filter="bandwidth").outputs
    assert outputs["rate"] >= 0.95, outputs


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("name", ["tiny", "edge"])
def test_write_master_alone(name, stall):
    config = preset(name)
    run_testbench(
        simulator(on_bus, config, WriteMaster), "tests.hw.bus.write_master_bench", parameters={"stall": stall}, seed=3
    )
