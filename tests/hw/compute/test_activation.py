"""Activation: every argument of every function, at several output scales, and times the residual."""

from __future__ import annotations

import pytest

from tessera.hw.compute.activation import Activation
from tessera.hw.presets import PRESETS
from tessera.sim.bench.run import run_testbench

CASES = [
    ("gelu", False, 41236, 25),
    ("gelu", False, 65536, 17),  # saturates early
    ("silu", False, 41236, 25),
    ("relu", False, 65535, 26),
    ("sigmoid", False, 65536, 22),
    ("none", True, 0, 13),
    ("hardswish", True, 7, 0),  # most products are clipped
]
WIDE_CASES = [
    ("silu", False, 65536, 16),
    ("gelu", False, 1, 0),  # nothing of the rounding is lost; GELU's table is still there
    ("hard_sigmoid", True, 7, 16),
]


@pytest.mark.parametrize(("preset", "width"), [("tiny", 8), ("edge", 16)])
def test_every_argument_is_exact(preset, width):
    config = PRESETS[preset].with_activation_width(width)
    settings = {"config": config.to_dict(), "cases": CASES if width == 8 else WIDE_CASES}
    run_testbench(Activation(config), "tests.hw.compute.activation_bench", parameters=settings, seed=5)
