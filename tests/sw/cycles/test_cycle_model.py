"""The analytical cycle model against the machine: frames within 3 %, commands within 10 %."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tessera.golden.config import M3VIT_BACKBONE, ModelConfig
from tessera.golden.integer.model import IntegerModel
from tessera.hw.presets import preset
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings, SimulationOptions
from tessera.sw.compiler.compile import compile_model
from tessera.sw.cycles.frame import balanced
from tessera.sw.cycles.predict import CycleForecast, predict, queue_lengths
from tests.helpers.models import two_tasks
from tests.helpers.random_model import random_image, random_model

FRAME, COMMAND = 0.03, 0.10
"""Largest relative errors: of a frame's cycles, and of the cycles from a command's start to its end."""

MIXED = ModelConfig(
    name="mixed",
    image_height=32,
    image_width=64,
    patch=8,
    dim=48,
    heads=3,
    layers=3,
    mlp_hidden=96,
    expert_layers=(1,),
    experts=8,
    expert_hidden=32,
    top_k=2,
    tasks=two_tasks(3),
)
EXPERTS = replace(
    MIXED, name="experts", image_height=40, dim=40, heads=2, mlp_hidden=112, expert_layers=(0, 2), experts=6, top_k=3
)
DENSE = replace(MIXED, name="dense", image_width=96, dim=96, heads=4, layers=2, mlp_hidden=56, expert_layers=())
FINE = replace(MIXED, name="fine", image_height=16, image_width=128, patch=4, dim=72, mlp_hidden=200, experts=12)
COARSE = replace(MIXED, name="coarse", image_height=48, image_width=32, patch=16, dim=36, heads=4, experts=16, top_k=4)

CASES = [
    ("tiny", MIXED, 60),
    ("ecp5-wide", MIXED, 60),
    ("ecp5-wide", COARSE, 60),
    ("ecp5-wide", FINE, 20),
    ("edge", MIXED, 200),
    ("edge", EXPERTS, 60),
    ("edge", DENSE, 60),
    ("edge", FINE, 120),
    ("edge", COARSE, 60),
]
"""Machine, model, read latency: array-bound and memory-bound, one patch to sixteen a line of pixels."""


def compiled(name: str, model: ModelConfig) -> tuple[Program, IntegerModel]:
    """A program with random weights, and its golden model."""
    config = preset(name)
    quantised = random_model(model, config.numerics, 3)
    return compile_model(quantised, config), IntegerModel(quantised, config.numerics)


@pytest.mark.parametrize(("name", "model", "latency"), CASES, ids=lambda value: getattr(value, "name", str(value)))
def test_every_frame_and_every_command(name: str, model: ModelConfig, latency: int) -> None:
    """Both tasks; the loads are the golden model's, so that nothing is taken from the simulation."""
    program, golden = compiled(name, model)
    image, tasks = random_image(model, 3), range(len(model.tasks))
    frames = [Frame(task=task, image=image) for task in tasks]
    settings = MemorySettings(read_latency=latency)
    results = run_machine(program, frames, memory_settings=settings, options=SimulationOptions(trace=False))
    for task, result in zip(tasks, results, strict=True):
        loads = queue_lengths(program, golden.run(image, task))
        expected = predict(program, task, loads=loads, read_latency=latency)
        assert expected.cycles == pytest.approx(result.cycles, rel=FRAME)
        ran = [command.index for command in program.commands if command.runs(task) and command.op != "END"]
        assert [index for index, _, _ in expected.commands] == ran
        for index, start, end in expected.commands:
            spent = int(result.stamps[index, 1] - result.stamps[index, 0])
            assert end - start == pytest.approx(spent, rel=COMMAND), program.commands[index].name


@pytest.fixture(scope="module")
def mixed() -> Program:
    return compiled("ecp5-wide", MIXED)[0]


def predicted(program: Program, counts: list[int], **settings: int) -> CycleForecast:
    """The prediction for one set of loads in the only layer with experts."""
    return predict(program, 0, loads={"layer01.experts": counts}, **settings)


def test_loads_and_latency_count(mixed: Program) -> None:
    entries = MIXED.tokens * MIXED.top_k
    even = balanced(entries, MIXED.experts)
    assert sum(even) == entries and max(even) - min(even) == 1
    assert predict(mixed, 0) == predicted(mixed, even)
    few = [MIXED.tokens] * MIXED.top_k + [0] * (MIXED.experts - MIXED.top_k)
    assert predicted(mixed, few).cycles < predicted(mixed, even).cycles, "idle experts' weights are not loaded"
    assert predicted(mixed, even, read_latency=300).cycles > predicted(mixed, even, read_latency=60).cycles


def test_what_does_not_fit_the_program_is_refused(mixed: Program) -> None:
    with pytest.raises(ValueError, match="task is 2, model 'mixed' has tasks 0 to 1"):
        predict(mixed, 2)
    with pytest.raises(ValueError, match="layer01.experts: loads of 3 experts, the model has 8"):
        predicted(mixed, [1, 2, 3])


def test_m3vit_tiny_takes_less_than_a_second() -> None:
    program, _ = compiled("edge", M3VIT_BACKBONE)
    before = time.process_time()
    assert predict(program, 0).cycles > 3_000_000
    assert time.process_time() - before < 1
