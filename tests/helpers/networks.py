"""Graphs of geometries, and what of a program follows from them."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import cast

import torch

from tessera.golden.config import ModelConfig
from tessera.golden.integer.plan import plan
from tessera.golden.integer.steps import ExpertsStep
from tessera.golden.model import VisionTransformer
from tessera.golden.network.network import Network
from tessera.program.program import Program


@cache
def network_of(config: ModelConfig) -> Network:
    """The graph of a geometry, without any weights."""
    with torch.device("meta"):
        return VisionTransformer(config).as_network().network


def outline_of(config: ModelConfig) -> Program:
    """As much of a geometry's program as figures and rollouts look at."""
    network = network_of(config)
    steps = plan(network)
    mixtures = {step.product: step for step in steps.of_kind(ExpertsStep)}
    return cast(Program, SimpleNamespace(model=network, plan=steps, mixtures=mixtures))
