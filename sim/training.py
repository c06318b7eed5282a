"""What a machine does all day, in small: the load that the compiler optimises the fast build for."""

from __future__ import annotations

import contextlib

from golden.config import ModelConfig, TaskConfig
from hw.config import AcceleratorConfig
from sim.bench import BenchFailure
from sim.build import Simulator
from sim.machine import Frame, run_machine
from sw.compiler import compile_model
from tests.helpers.random_model import random_image, random_model

GEOMETRY = ModelConfig(
    name="training",
    image_height=64,
    image_width=128,
    patch=16,
    dim=96,
    heads=3,
    layers=2,
    mlp_hidden=192,
    expert_layers=(1,),
    experts=4,
    expert_hidden=96,
    top_k=2,
    tasks=(TaskConfig(name="features", kind="features", channels=0, cells=0),),
)
"""Every kind of command, in about the proportions of a large model."""


def train(simulator: Simulator, config: AcceleratorConfig) -> None:
    """Run one frame. A design that does not get through it is for whoever runs it next to find out."""
    program = compile_model(random_model(GEOMETRY, config.numerics, seed=1), config)
    with contextlib.suppress(BenchFailure):
        run_machine(program, [Frame(task=0, image=random_image(GEOMETRY, seed=1))], simulator=simulator)
