"""LayerNorm: both outputs of rows of all shapes, and the cycles it takes."""

from dataclasses import replace
from itertools import product

import pytest

from tessera.hw.formats import Numerics
from tessera.hw.isa import NormMode
from tessera.hw.layernorm.layernorm import LayerNorm
from tessera.hw.layernorm.row_statistics import RowStatistics
from tessera.hw.presets import PRESETS, preset
from tessera.sim.bench.run import BenchFailure, run_testbench
from tests.helpers.units import or_soak, simulator

BENCH = "tests.hw.layernorm.layernorm_bench"
CONFIGS = {
    **PRESETS,
    "a12": preset("ecp5-wide").with_activation_width(12),
    "a16": preset("edge").with_activation_width(16),
    "widest": replace(preset("tiny"), numerics=Numerics(activation_width=8, residual_width=24)),
    "one-lane": replace(preset("tiny"), layernorm_lanes=1),
    "half-word": replace(preset("ecp5-wide"), layernorm_lanes=8),
    "tiny-buffer": replace(preset("tiny"), layernorm_row_buffer=True),
    "edge-no-buffer": replace(preset("edge"), layernorm_row_buffer=False),
}
STALLS = [(0.0, 0.0), (0.3, 0.3), (0.9, 0.0), (0.0, 0.9)]
# Every stall on the presets, which differ in lanes and row buffer; elsewhere the mixed one and, in turn, another.
# The LayerNorm of edge-large is that of edge.
USUAL = [(name, stalls) for name in PRESETS if name != "edge-large" for stalls in STALLS]
USUAL += [
    (name, stalls)
    for index, name in enumerate(name for name in CONFIGS if name not in PRESETS)
    for stalls in (STALLS[1], STALLS[(0, 2, 3)[index % 3]])
]
CASES = or_soak(product(CONFIGS, STALLS), lambda case: case in USUAL)
SHAPES = [(1, 1), (3, 2), (1, 64), (20, 17), (9, 192), (5, 1024), (300, 3)]


@pytest.mark.parametrize(("name", "stalls"), CASES)
def test_rows_are_exact(name, stalls):
    """Rows become readable late, reads are refused, words not taken."""
    config, shapes = CONFIGS[name], SHAPES[:4] if 0.9 in stalls else SHAPES
    parameters = {"config": config.to_dict(), "shapes": shapes, "stalls": stalls}
    run_testbench(simulator(LayerNorm, config), BENCH, parameters=parameters, seed=3)


@pytest.mark.parametrize("mode", [NormMode.LAYER, NormMode.COPY])
@pytest.mark.parametrize("channels", [16, 64, 192])
@pytest.mark.parametrize("name", ["ecp5-wide", "edge", "edge-no-buffer"])
def test_every_lane_is_used_every_cycle(name, channels, mode):
    config, rows = CONFIGS[name], 128
    settings = {"config": config.to_dict(), "shapes": [(rows, channels)], "modes": [int(mode)]}
    spent = run_testbench(simulator(LayerNorm, config), BENCH, parameters=settings).outputs
    words = channels // config.lanes
    cycles = words * config.lanes // config.layernorm_lanes
    # A copy has no statistics to wait for; a row buffer is filled by their pass.
    no_statistics = mode == NormMode.COPY and not config.layernorm_row_buffer
    interval = 0 if no_statistics else RowStatistics(config).interval
    for output, passes in (("narrow", cycles), ("wide", cycles + max(cycles, 2 * words))):
        row = passes if config.layernorm_row_buffer or no_statistics else cycles + passes
        most = rows * max(interval, row) + LayerNorm.OVERHEAD + cycles * config.layernorm_row_buffer
        assert spent[output] <= most, f"{output}: {spent[output]} cycles, at most {most}"


def test_another_activation_width_is_noticed():
    other = preset("tiny").with_activation_width(8)
    other = replace(other, numerics=Numerics(activation_width=8, residual_width=19))
    with pytest.raises(BenchFailure, match="rows_are_exact"):
        run_testbench(
            simulator(LayerNorm, preset("tiny")), BENCH, parameters={"config": other.to_dict(), "shapes": [(9, 192)]}
        )


def test_the_longest_rows_of_a_machine_are_exact():
    config = replace(preset("tiny"), layernorm_channels=2048)
    parameters = {"config": config.to_dict(), "shapes": [(3, 2048), (2, 2045)]}
    run_testbench(simulator(LayerNorm, config), BENCH, parameters=parameters, seed=4)


def test_wide_words_are_refused():
    with pytest.raises(ValueError, match="layernorm_channels is 1024; choose a power of two of at least 2048"):
        replace(preset("tiny"), elements=256, lanes=2048, requantise_lanes=256)
