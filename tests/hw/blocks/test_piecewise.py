"""Piecewise: every table, and what it refuses."""

from __future__ import annotations

import pytest

from tessera.hw import tables
from tessera.hw.blocks.piecewise import Piecewise
from tessera.hw.tables import PiecewiseTable
from tessera.sim.bench.run import run_testbench

TABLES = ["exp2_table", "reciprocal_table", "reciprocal_square_root_table", "gelu_delta_table"]


@pytest.mark.parametrize("table", TABLES)
def test_values_are_exact(table):
    component = Piecewise(getattr(tables, table)())
    run_testbench(component, "tests.hw.blocks.piecewise_bench", parameters={"table": table}, seed=11)


def test_negative_table_is_refused():
    with pytest.raises(ValueError, match=r"reaches -1; values must be 0 or more: add an offset"):
        Piecewise(PiecewiseTable((4, 1), (-3, -2), 4))
