"""The simulator of a machine, compiled for what the machine does all day: a small model with every kind of command."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.seeded.seeded import seeded_model
from tessera.hw.config import AcceleratorConfig
from tessera.sim.bench.run import BenchFailure
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.simulator import build_machine
from tessera.sim.verilator.options import Simulator
from tessera.sw.compiler.compile import compile_model
from tessera.sw.quantiser.quantise import calibration_images, quantise

GEOMETRY = ModelConfig(
    name="profile",
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


def machine_simulator(config: AcceleratorConfig, **options: Any) -> Simulator:
    """What :func:`~tessera.sim.machine.simulator.build_machine` makes with ``options``; a large machine is profiled."""
    return build_machine(config, profile=partial(run_profile, config), **options)


def run_profile(config: AcceleratorConfig, simulator: Simulator) -> None:
    """Run one frame. A design that does not get through it is for whoever runs it next to find out."""
    model = seeded_model(GEOMETRY).as_network()
    images = calibration_images(model.network, range(1))
    program = compile_model(quantise(model, images, config.numerics), config)
    with contextlib.suppress(BenchFailure):
        run_machine(program, [Frame(task=0, image=images[0])], simulator=simulator)
