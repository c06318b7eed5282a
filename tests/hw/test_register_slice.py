"""RegisterSlice: everything arrives in order, a transfer a cycle, whatever pauses both sides make."""

import pytest

from hw.register_slice import RegisterSlice
from sim.bench import run_bench


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_register_slice(stall):
    run_bench(RegisterSlice(8), "tests.hw.register_slice_bench", parameters={"stall": stall}, seed=4)
