"""LayerNorm: both outputs of rows of all shapes, and the cycles it takes."""

from dataclasses import replace

import pytest

from hw.config import PRESETS, preset
from hw.formats import Numerics
from hw.nonlinear.layernorm import LayerNorm
from hw.nonlinear.row_statistics import RowStatistics
from sim.bench import BenchFailure, run_bench

BENCH = "tests.hw.layernorm_bench"
CONFIGS = {
    **PRESETS,
    "a12": preset("ecp5-85f").with_activation_width(12),
    "a16": preset("edge").with_activation_width(16),
    "widest": replace(preset("tiny"), numerics=Numerics(activation_width=8, residual_width=24)),
    "one-lane": replace(preset("tiny"), layernorm_lanes=1),
    "half-word": replace(preset("ecp5-85f"), layernorm_lanes=8),
}
SHAPES = [(1, 1), (3, 2), (1, 64), (20, 17), (9, 192), (5, 1024)]


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_are_exact(name):
    config = CONFIGS[name]
    run_bench(LayerNorm(config), BENCH, parameters={"config": config.to_dict(), "shapes": SHAPES}, seed=3)


@pytest.mark.parametrize("name", ["ecp5-85f", "edge"])
def test_every_lane_is_used_every_cycle(name):
    config, (rows, channels) = CONFIGS[name], (128, 192)
    settings = {"config": config.to_dict(), "shapes": [(rows, channels)]}
    spent = run_bench(LayerNorm(config), BENCH, parameters=settings).outputs["spent"]
    words = channels // config.lanes
    cycles = words * config.lanes // config.layernorm_lanes
    passes = max(cycles, RowStatistics(config).interval) + cycles + max(cycles, 2 * words)
    assert spent <= rows * passes + 3 * 25


def test_another_activation_width_is_noticed():
    other = preset("tiny").with_activation_width(8)
    other = replace(other, numerics=Numerics(activation_width=8, residual_width=19))
    with pytest.raises(BenchFailure, match="rows_are_exact"):
        run_bench(LayerNorm(preset("tiny")), BENCH, parameters={"config": other.to_dict(), "shapes": [(9, 192)]})


def test_wide_words_are_refused():
    with pytest.raises(ValueError, match="lanes is 2048; LayerNorm takes rows of at most 1024 channels"):
        LayerNorm(replace(preset("tiny"), elements=256, lanes=2048, requantise_lanes=256))
