"""Slices: everything arrives in order, a transfer a cycle (or every other cycle), whatever pauses both sides make."""

import pytest

from tessera.hw.blocks.register_slice import HalfSlice, RegisterSlice
from tessera.sim.bench.run import run_testbench


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize(("slice_", "interval"), [(RegisterSlice, 1), (HalfSlice, 2)])
def test_register_slice(slice_, interval, stall):
    settings = {"stall": stall, "interval": interval}
    run_testbench(slice_(8), "tests.hw.blocks.register_slice_bench", parameters=settings, seed=4)
