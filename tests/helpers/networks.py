"""Graphs of geometries."""

from __future__ import annotations

from functools import cache

import torch

from tessera.golden.config import ModelConfig
from tessera.golden.model import VisionTransformer
from tessera.golden.network.network import Network


@cache
def network_of(config: ModelConfig) -> Network:
    """The graph of a geometry, without any weights."""
    with torch.device("meta"):
        return VisionTransformer(config).as_network().network
