"""The analytical model of attention in general shapes against the machine: within 2 %."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.hw.isa import ErrorCode
from tessera.hw.presets import preset
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings, SimulationOptions
from tessera.sw.cycles.predict import predict
from tests.helpers.attention import AttentionCase, attention_program, golden
from tests.helpers.random_model import random_image
from tests.helpers.units import or_soak

CLOSE = 0.02
"""Largest relative error of a command's cycles."""

SHAPES = {
    "windows": AttentionCase(windows=2, queries=49, keys=49, heads=3, head_dim=32, value_dim=32, bias_words=2),
    "fewer-queries": AttentionCase(queries=16, keys=49, heads=4, head_dim=16, value_dim=32, bias_words=1),
    "fewer-keys": AttentionCase(queries=120, keys=16, heads=2, head_dim=32, value_dim=32),
    "one-query": AttentionCase(queries=1, keys=150, heads=4, head_dim=32, value_dim=32),
    "small-windows": AttentionCase(windows=20, queries=4, keys=4, heads=1, head_dim=8, value_dim=8),
}
"""Swin, LeViT, PVT, class attention; and windows so small that softmax is what takes the time."""


@pytest.mark.parametrize("name", or_soak(["tiny", "ecp5-wide", "edge"], lambda name: name == "tiny"))
def test_attention_of_any_shape(name: str) -> None:
    config, random = preset(name), np.random.default_rng(1)
    programs = [attention_program(case, config, golden(case, config, random)) for case in SHAPES.values()]
    frames = [Frame(task=0, image=random_image(program.model, 1), program=program) for program in programs]
    settings, options = MemorySettings(read_latency=60), SimulationOptions(trace=False)
    results = run_machine(programs[0], frames, memory_settings=settings, options=options)
    for title, program, result in zip(SHAPES, programs, results, strict=True):
        assert result.error == ErrorCode.NONE
        index = next(command.index for command in program.commands if command.op == "ATTENTION")
        spent = int(result.stamps[index, 1] - result.stamps[index, 0])
        expected = {number: end - start for number, start, end in predict(program, 0, read_latency=60).commands}
        assert expected[index] == pytest.approx(spent, rel=CLOSE), title
