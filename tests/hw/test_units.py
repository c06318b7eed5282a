"""Presets whose units are tested once for several are the same hardware."""

from __future__ import annotations

import pytest

from tessera.hw.gate.gate import Gate
from tessera.hw.layernorm.layernorm import LayerNorm
from tessera.hw.presets import preset
from tessera.hw.softmax.softmax import Softmax
from tessera.sim.verilator.verilog import export_verilog


@pytest.mark.parametrize(
    ("unit", "first", "others"),
    [
        (Gate, "ecp5-85f", ["ecp5-wide"]),
        (Gate, "edge", ["edge-8", "edge-large"]),
        (Softmax, "edge", ["edge-8", "edge-large"]),
        (LayerNorm, "edge", ["edge-large"]),
    ],
)
def test_a_unit_that_is_not_tested_again_is_the_same(unit, first, others):
    texts = [export_verilog(unit(preset(name))).text for name in (first, *others)]
    assert len(set(texts)) == 1, f"{unit.__name__} of {others} is not that of {first}: test it by itself"
