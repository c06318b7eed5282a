"""Exp2: every distance, for each width of the result."""

import pytest

from tessera.hw.blocks.exp2 import Exp2
from tessera.hw.formats import Numerics
from tessera.sim.bench.run import run_testbench
from tests.helpers.units import or_soak


@pytest.mark.parametrize("width", or_soak([8, 12, 16], lambda width: width != 12))
def test_every_distance(width):
    run_testbench(Exp2(Numerics(), width), "tests.hw.blocks.exp2_bench", parameters={"width": width})


@pytest.mark.parametrize("width", [7, 17])
def test_width_is_checked(width):
    with pytest.raises(ValueError, match=f"width is {width}; choose 8 to 16"):
        Exp2(Numerics(), width)
