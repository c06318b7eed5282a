"""Reciprocal and ReciprocalSquareRoot: mantissa and exponent of edges and random numbers."""

import pytest

from tessera.hw.blocks.reciprocal import Reciprocal, ReciprocalSquareRoot
from tessera.sim.bench.run import BenchFailure, run_testbench

BENCH = "tests.hw.blocks.reciprocal_bench"


@pytest.mark.parametrize("width", [2, 16, 20, 24])
def test_reciprocal(width):
    unit = Reciprocal(width)
    run_testbench(unit, BENCH, parameters={"width": width, "function": "reciprocal", "latency": unit.latency})


@pytest.mark.parametrize("width", [3, 55, 67])
def test_reciprocal_square_root(width):
    unit = ReciprocalSquareRoot(width)
    run_testbench(
        unit, BENCH, parameters={"width": width, "function": "reciprocal_square_root", "latency": unit.latency}
    )


def test_a_wrong_function_is_noticed():
    unit = Reciprocal(16)
    settings = {"width": 16, "function": "reciprocal_square_root", "latency": unit.latency}
    with pytest.raises(BenchFailure, match="edges_and_random_numbers"):
        run_testbench(unit, BENCH, parameters=settings)


@pytest.mark.parametrize(("unit", "width"), [(Reciprocal, 1), (ReciprocalSquareRoot, 2)])
def test_width_is_checked(unit, width):
    with pytest.raises(ValueError, match=f"width is {width}; choose at least {width + 1}"):
        unit(width)
