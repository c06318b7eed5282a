"""ResidualMemory: reads, masked writes and range errors."""

from __future__ import annotations

import pytest

from tessera.hw.config import AcceleratorConfig
from tessera.hw.memory.residual import ResidualMemory
from tessera.sim.bench.run import run_testbench
from tessera.sim.verilator.verilog import export_verilog
from tests.helpers.units import rows_of


@pytest.mark.parametrize(("elements", "lanes"), [(4, 4), (2, 8)])
@pytest.mark.parametrize(("words", "width"), [(100, 8), (128, 16)])
def test_every_access_is_exact(elements, lanes, words, width):
    config = AcceleratorConfig(
        name="residual", elements=elements, lanes=lanes, memory_bytes=4, residual_words=words
    ).with_activation_width(width)
    settings = {"config": config.to_dict(), "cycles": 4000}
    result = run_testbench(ResidualMemory(config), "tests.hw.memory.residual_bench", parameters=settings, seed=17)
    assert result.outputs["compared"] > 5000 and result.outputs["both"] > 20


def test_rows_of_block_ram():
    """With registers around each of several rows, nothing differs; a word stays until the next read."""
    config = AcceleratorConfig(name="residual", elements=2, lanes=4, memory_bytes=4, residual_words=100)
    settings = {"config": config.to_dict(), "cycles": 4000}
    design = export_verilog(ResidualMemory(config), platform=rows_of(32))
    result = run_testbench(design, "tests.hw.memory.residual_bench", parameters=settings, seed=18)
    assert result.outputs["compared"] > 5000
