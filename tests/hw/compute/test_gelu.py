"""Gelu: every argument, at several output scales."""

from __future__ import annotations

import pytest

from tessera.hw.compute.gelu import Gelu
from tessera.hw.presets import PRESETS
from tessera.sim.bench.run import run_testbench


@pytest.mark.parametrize(
    ("width", "scales"),
    [
        (8, [(41236, 25), (65536, 17)]),  # the second saturates early
        (16, [(65536, 16), (1, 0)]),  # nothing and everything of the rounding is lost
    ],
)
def test_every_argument_is_exact(width, scales):
    config = PRESETS["tiny"].with_activation_width(width)
    settings = {"config": config.to_dict(), "scales": scales}
    run_testbench(Gelu(config), "tests.hw.compute.gelu_bench", parameters=settings, seed=5)
