"""ComputeArray: bit-exact dot products, latency, and one beat a cycle."""

from __future__ import annotations

import pytest

from hw.compute.array import ComputeArray
from hw.config import AcceleratorConfig
from sim.bench import run_bench


@pytest.mark.parametrize("width", [8, 12, 16])
@pytest.mark.parametrize("size", [(2, 4), (4, 4), (8, 16), (16, 16)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_dot_products_are_exact(size, width):
    config = AcceleratorConfig(name="array", elements=size[0], lanes=size[1], memory_bytes=4, bank_words=64)
    array = ComputeArray(config.with_activation_width(width))
    assert array.LATENCY == 5 + (size[1] - 1).bit_length()
    settings = {"config": array.config.to_dict(), "steps": 300, "latency": array.LATENCY}
    result = run_bench(array, "tests.hw.array_bench", parameters=settings, seed=size[0] + width)
    assert result.outputs["steps"] == 300
