"""The image loader turns a planar image into patch rows, whatever the patch, the bus and the alignment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.config import preset
from hw.memory.image import ImageLoader
from sim.bench import run_bench
from tests.hw.on_bus import OnBus

BENCH = "tests.hw.image_bench"


def run(config, *, stall=0.0, seed=1, test_filter="^(?!.*bandwidth)"):
    return run_bench(
        OnBus(config, ImageLoader(config)),
        BENCH,
        parameters={"stall": stall, "lanes": config.lanes, "columns": config.columns},
        seed=seed,
        test_filter=test_filter,
    )


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize(("name", "width"), [("tiny", 8), ("ecp5-85f", 12), ("edge", 16)])
def test_images(name, width, stall):
    run(preset(name).with_activation_width(width), stall=stall, seed=width)


@pytest.mark.parametrize("memory_bytes", [1, 16])
def test_bus_narrower_and_wider_than_a_word(memory_bytes):
    run(replace(preset("tiny"), memory_bytes=memory_bytes, requantise_lanes=4))


@pytest.mark.parametrize(("name", "pixels_per_cycle"), [("tiny", 3.5), ("ecp5-85f", 1.9), ("edge", 3.5)])
def test_bandwidth_at_60_cycles_of_latency(name, pixels_per_cycle):
    """On `edge` a piece is half a beat, and 16 bursts of one beat are under way: 16 x 16 pixels in 66 cycles."""
    outputs = run(preset(name), test_filter="bandwidth").outputs
    assert outputs["pixels_per_cycle"] >= pixels_per_cycle, outputs
