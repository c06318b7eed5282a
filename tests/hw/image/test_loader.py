"""The image loader turns a planar image into patch rows, whatever the patch, the bus and the alignment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessera.hw.image.loader import ImageLoader
from tessera.hw.presets import preset
from tessera.sim.bench.run import run_testbench
from tests.helpers.on_bus import on_bus
from tests.helpers.units import simulator

BENCH = "tests.hw.image.loader_bench"


def run(config, *, stall=0.0, seed=1, shapes=(), test_filter="^(?!.*bandwidth)"):
    return run_testbench(
        simulator(on_bus, config, ImageLoader),
        BENCH,
        parameters={"stall": stall, "lanes": config.lanes, "columns": config.columns, "shapes": shapes},
        seed=seed,
        test_filter=test_filter,
    )


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize(("name", "width"), [("tiny", 8), ("ecp5-wide", 12), ("edge", 16)])
def test_images(name, width, stall):
    run(preset(name).with_activation_width(width), stall=stall, seed=width)


@pytest.mark.parametrize("memory_bytes", [1, 16])
def test_bus_narrower_and_wider_than_a_word(memory_bytes):
    run(replace(preset("tiny"), memory_bytes=memory_bytes, requantise_lanes=4))


@pytest.mark.parametrize("name", ["tiny", "ecp5-wide", "edge"])
def test_pixels_a_cycle_at_60_cycles_of_latency(name):
    """On `edge` with patches of 16: a word a cycle."""
    config, shapes = preset(name), [(4, 4, 32), (8, 4, 16), (16, 4, 16)]
    spent = run(config, shapes=shapes, test_filter="bandwidth").outputs["spent"]
    for patch, rows, columns in shapes:
        cycles = 3 * rows * columns * patch * patch // min(patch, config.memory_bytes, config.lanes)
        assert spent[str(patch)] <= 1.03 * cycles + 85, f"patch {patch}: {spent[str(patch)]}, expected {cycles}"
