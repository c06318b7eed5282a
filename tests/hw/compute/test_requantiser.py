"""Requantiser: bit-exact against the golden arithmetic, and its overflow assertion."""

from __future__ import annotations

import pytest

from tessera.hw.compute.requantiser import Requantiser
from tessera.hw.presets import PRESETS
from tessera.sim.bench.run import BenchFailure, run_testbench
from tests.helpers.units import simulator

BENCH = "tests.hw.compute.requantiser_bench"


@pytest.mark.parametrize("width", [8, 12, 16])
@pytest.mark.parametrize("seed", [1, 2])
def test_results_are_exact(width, seed):
    config = PRESETS["tiny"].with_activation_width(width)
    settings = {"config": config.to_dict(), "groups": 20_000}
    result = run_testbench(
        simulator(Requantiser, config), BENCH, parameters=settings, seed=seed, test_filter="results_are_exact"
    )
    assert result.outputs["ties"] > 1000


def test_overflow_is_asserted():
    config = PRESETS["tiny"]
    with pytest.raises(BenchFailure, match=r"(?s)a hardware assertion fired.*overflows with its bias"):
        run_testbench(
            Requantiser(config), BENCH, parameters={"config": config.to_dict()}, test_filter="overflow_is_asserted"
        )
