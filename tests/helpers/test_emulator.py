"""The compiled program, executed by its command semantics, equals the integer golden model bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.golden.config import NANO, layer_name
from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedExperts
from tessera.hw.presets import PRESETS, preset
from tessera.sw.compiler.compile import compile_model
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.models import random_geometry
from tests.helpers.random_model import random_image, random_model

CASES = [
    (name, width, 100 * index + 10 * width + seed)
    for index, name in enumerate(PRESETS)
    for width in (8, 12, 16)
    for seed in range(3)
]


def check(model, config, seed: int, task: int) -> None:
    quantised = random_model(model, config.numerics, seed)
    program = compile_model(quantised, config)
    image = random_image(model, seed + 1)
    reference = IntegerModel(quantised, config.numerics)
    golden = reference.run(image, task)
    result = emulator.run(program, image, task)
    verdict = verify(program, golden, result.traces, task)
    assert verdict.passed, f"seed {seed}, {model}: {verdict}"
    assert np.array_equal(program.output(result.memory, task), reference.result(golden, task)), f"seed {seed}"
    assert result.saturated == golden["saturated"]
    assert np.std(golden["layer00.attention"]) > 0.5, "the random model is degenerate"


@pytest.mark.parametrize("name, width, seed", CASES)
def test_random_geometries_are_bit_exact(name, width, seed):
    config = preset(name).with_activation_width(width)
    model = random_geometry(seed, config)
    for task in range(len(model.tasks)):
        check(model, config, seed, task)


@pytest.mark.parametrize("name", PRESETS)
def test_nano_is_bit_exact(name):
    for task in range(2):
        check(NANO, preset(name), 5, task)


def test_every_token_on_one_expert():
    config = preset("ecp5-wide")
    model = random_geometry(3, config)
    quantised = random_model(model, config.numerics, 3)
    for layer in model.expert_layers:
        gate = quantised.of(f"{layer_name(layer)}.residual", QuantisedExperts).gates[0]
        gate.bias[:] = -(2**20)
        gate.bias[-1] = 2**30
    program, image = compile_model(quantised, config), random_image(model, 4)
    golden = IntegerModel(quantised, config.numerics).run(image, 0)
    assert len(golden[f"{layer_name(model.expert_layers[0])}.experts.queues"][-1].tokens) == model.tokens
    assert verify(program, golden, emulator.run(program, image, 0).traces, 0).passed


def test_an_unknown_opcode_is_refused():
    config = preset("tiny")
    model = random_geometry(1, config)
    program = compile_model(random_model(model, config.numerics, 1), config)
    memory = program.memory(random_image(model, 1))
    memory[64] = 99
    with pytest.raises(ValueError, match="unknown opcode 99"):
        emulator.Emulator(config, memory, program.registers(0)).run()
