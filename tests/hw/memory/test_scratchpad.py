"""Scratchpad: both ports, column masks, loads under write pressure, range errors and collisions."""

from __future__ import annotations

import re

import pytest

from tessera.hw.config import AcceleratorConfig
from tessera.hw.memory.scratchpad import Scratchpad
from tessera.sim.bench.run import BenchFailure, run_testbench
from tessera.sim.verilator.verilog import export_verilog
from tests.helpers.units import rows_of, simulator

BENCH = "tests.hw.memory.scratchpad_bench"
SHAPES = {
    "one column": {"elements": 4, "lanes": 4, "memory_bytes": 4},
    "four columns": {"elements": 2, "lanes": 8, "memory_bytes": 4},
}


def configuration(shape: str, words: int = 100, width: int = 8) -> AcceleratorConfig:
    config = AcceleratorConfig(name="scratchpad", scratchpad_words=words, **SHAPES[shape])
    return config.with_activation_width(width)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("words", "width"), [(100, 8), (128, 12)])
@pytest.mark.parametrize("pressure", [0.1, 0.8])
def test_every_access_is_exact(shape, words, width, pressure):
    config = configuration(shape, words, width)
    settings = {"config": config.to_dict(), "cycles": 4000, "write_pressure": pressure}
    names = "every_access_is_exact|loads_keep_order|addresses_beyond_are_reported"
    result = run_testbench(simulator(Scratchpad, config), BENCH, parameters=settings, seed=13, test_filter=names)
    assert len(result.tests) == 3
    assert min(result.outputs.values()) > 200


@pytest.mark.parametrize(("words", "rows"), [(128, 4), (100, 4), (32, 1)])
def test_rows_of_block_ram(words, rows):
    """With registers around each of several rows, the last one full or not, nothing differs."""
    config = configuration("four columns", words)
    design = export_verilog(Scratchpad(config), platform=rows_of(32))
    assert len(re.findall(r"reg \[15:0\] column_\w+ \[", design.text)) == rows * config.columns
    settings = {"config": config.to_dict(), "cycles": 4000, "write_pressure": 0.3}
    names = "every_access_is_exact|addresses_beyond_are_reported"
    assert len(run_testbench(design, BENCH, parameters=settings, seed=14, test_filter=names).tests) == 2


def test_collision_is_asserted():
    config = configuration("four columns")
    with pytest.raises(BenchFailure, match=r"(?s)a hardware assertion fired.*word +1 is written and broadcast at once"):
        run_testbench(
            simulator(Scratchpad, config),
            BENCH,
            parameters={"config": config.to_dict()},
            test_filter="collision_is_asserted",
        )
