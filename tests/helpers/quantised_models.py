"""Small seeded models and their quantised forms for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.model import VisionTransformer, seeded
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.scenes.scenes import generate_batch
from tessera.sw.quantiser.quantise import quantise
from tests.helpers.models import NUMERICS, two_tasks

MIXED = ModelConfig(
    name="mixed",
    image_height=32,
    image_width=48,
    patch=8,
    dim=48,
    heads=3,
    layers=3,
    mlp_hidden=80,
    expert_layers=(1, 2),
    experts=5,
    expert_hidden=56,
    top_k=2,
    tasks=two_tasks(8),
)
DENSE = replace(MIXED, name="dense", expert_layers=())
CONDITIONED = replace(MIXED, name="conditioned", router="task_conditioned", task_embedding=6)
FEATURES = replace(
    MIXED,
    name="features",
    final_norm=False,
    tasks=(
        TaskConfig(name="a", kind="features", channels=0, cells=0),
        TaskConfig(name="b", kind="features", channels=0, cells=0),
    ),
)
CONFIGS = {config.name: config for config in (MIXED, DENSE, CONDITIONED, FEATURES)}


def images(count: int, first: int = 0) -> NDArray[np.uint8]:
    """Scenes at the small models' size, (count, 3, 32, 48) bytes."""
    batch = generate_batch(range(first, first + count), height=32, width=48).image
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


@cache
def float_model(name: str, seed: int = 0) -> VisionTransformer:
    """A seeded model; shared, so not to be changed."""
    return seeded(CONFIGS[name], seed)


@cache
def float_network(name: str, seed: int = 0) -> FloatNetwork:
    """The same as a graph."""
    return float_model(name, seed).as_network()


@cache
def quantised_model(name: str, width: int = 8, seed: int = 0) -> QuantisedModel:
    """Its quantised form."""
    return quantise(float_network(name, seed), images(8), NUMERICS[width])
