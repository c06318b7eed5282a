"""ComputeArray: bit-exact dot products, latency, and one beat a cycle."""

from __future__ import annotations

import pytest

from tessera.hw.compute.array import ComputeArray
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.run import run_testbench
from tests.helpers.units import or_soak

SIZES = [(2, 4), (4, 4), (8, 16), (16, 16)]
USUAL = [(2, 4, 8), (4, 4, 12), (8, 16, 16), (16, 16, 8)]  # every size and every width
CASES = [(*size, width) for size in SIZES for width in (8, 12, 16)]


@pytest.mark.parametrize(("elements", "lanes", "width"), or_soak(CASES, lambda case: case in USUAL))
def test_dot_products_are_exact(elements, lanes, width):
    sizes = AcceleratorConfig(name="array", elements=elements, lanes=lanes, memory_bytes=4, bank_words=64)
    config = sizes.with_activation_width(width)
    array = ComputeArray(config)
    assert array.LATENCY == 8 + (lanes - 1).bit_length()
    settings = {"config": config.to_dict(), "steps": 300, "latency": array.LATENCY}
    result = run_testbench(array, "tests.hw.compute.array_bench", parameters=settings, seed=elements + width)
    assert result.outputs["steps"] == 300
