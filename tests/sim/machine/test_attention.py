"""Attention in general shapes: emulator and whole machine against plain NumPy, every write of every tensor."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import CycleCause, ErrorCode
from tessera.hw.presets import preset
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.attention import AttentionCase, attention_program, golden, value_program
from tests.helpers.random_model import random_image
from tests.helpers.units import or_soak

SHAPES = {
    "more-queries": AttentionCase(queries=21, keys=6, heads=2, head_dim=5, value_dim=8),
    "more-keys": AttentionCase(queries=3, keys=18, heads=1, head_dim=4, value_dim=3),
    "one-query": AttentionCase(queries=1, keys=13, heads=3, head_dim=8, value_dim=12),
    "one-key": AttentionCase(queries=9, keys=1, heads=2, head_dim=9, value_dim=4),
    "one-of-each": AttentionCase(queries=1, keys=1, heads=1, head_dim=1, value_dim=1),
    "windows": AttentionCase(windows=5, queries=9, keys=9, heads=3, head_dim=6, value_dim=6),
    "windows-of-one": AttentionCase(windows=7, queries=1, keys=1, heads=1, head_dim=4, value_dim=5),
    "windows-of-a-tile": AttentionCase(windows=3, queries=4, keys=16, heads=2, head_dim=16, value_dim=32),
    "bias": AttentionCase(queries=9, keys=7, heads=2, head_dim=6, value_dim=6, bias_words=2),
    "bias-of-windows": AttentionCase(windows=3, queries=9, keys=9, heads=3, head_dim=4, value_dim=4, bias_words=1),
    "shared-bias": AttentionCase(
        windows=2, queries=5, keys=1, heads=3, head_dim=9, value_dim=4, bias_words=4, bias_shared=True
    ),
    "more-queries-than-max-tokens": AttentionCase(queries=300, keys=5, heads=1, head_dim=3, value_dim=2),
}


def random_case(random: np.random.Generator) -> AttentionCase:
    """Any sizes, small."""
    sizes = {"windows": 4, "queries": 30, "keys": 30, "heads": 4, "head_dim": 20, "value_dim": 20}
    bias = {"bias_words": int(random.integers(0, 5)), "bias_shared": bool(random.integers(0, 2))}
    return AttentionCase(**{name: int(random.integers(1, most + 1)) for name, most in sizes.items()}, **bias)


def programs(config: AcceleratorConfig, random: np.random.Generator, more: int) -> Iterator[tuple[Program, dict]]:
    """Attention of every shape and of ``more`` random ones, and V of their windows, with the tensors to be written."""
    for case in (*SHAPES.values(), *(random_case(random) for _ in range(more))):
        tensors = golden(case, config, random)
        yield attention_program(case, config, tensors), tensors
        yield value_program(case, config, random)


@pytest.mark.parametrize("name", ["tiny", "ecp5-85f", "ecp5-wide", "edge"])
def test_the_emulator_does_any_shape(name: str) -> None:
    for program, tensors in programs(preset(name), np.random.default_rng(1), 5):
        result = emulator.run(program, random_image(program.model, 1), 0)
        verdict = verify(program, tensors, result.traces, 0)
        assert verdict.passed and verdict.elements_compared, verdict


@pytest.mark.parametrize(
    ("name", "stall"), or_soak(product(["tiny", "ecp5-wide"], [0, 90]), lambda case: case == ("tiny", 90))
)
def test_the_machine_does_any_shape(name: str, stall: int) -> None:
    made = list(programs(preset(name), np.random.default_rng(2 + stall), 1))
    frames = [Frame(task=0, image=random_image(program.model, 1), program=program) for program, _ in made]
    results = run_machine(made[0][0], frames, memory_settings=MemorySettings(stall=stall, seed=3))
    for (program, tensors), result in zip(made, results, strict=True):
        assert result.error == ErrorCode.NONE, result.error.name
        verdict = verify(program, tensors, result.traces, 0)
        assert verdict.passed and verdict.elements_compared, verdict
        computed = program.commands[-2]
        assert result.causes[computed.index, CycleCause.BUSY] == computed.ideal_cycles
