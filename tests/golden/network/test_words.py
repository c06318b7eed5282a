"""What is said of a network is right for this project's transformers and for any other network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tessera.golden.checkpoint import Checkpoint
from tessera.golden.config import NANO
from tessera.golden.model import seeded
from tessera.golden.network.words import geometry, made_of
from tessera.sw.models.exported.from_torch import Pixels
from tessera.sw.models.exported.from_torch import network_of as read
from tests.helpers.networks import network_of
from tests.helpers.own_networks import own_network

SMALL = replace(NANO, dim=24, heads=3, layers=2, mlp_hidden=16, expert_layers=(1,), experts=4, expert_hidden=16)


class Convolved(nn.Module):
    """Two convolutions, and a mean over the map, which the machine takes as an attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1))
        self.head = nn.Linear(16, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.stem(pixels).flatten(2).mean(2))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SMALL, "129 tokens of 24, 3 heads, 2 layers, 4 experts of 16 in 1, top-2"),
        (replace(SMALL, expert_layers=()), "129 tokens of 24, 3 heads, 2 layers, no experts"),
    ],
)
def test_a_transformer_of_this_project_has_layers(config, said: str):
    assert geometry(network_of(config)) == said
    rows = dict(Checkpoint.of(seeded(config, 1)).summary().rows)
    assert rows["layers"] == f"2, {len(config.expert_layers)} with experts" and "made of" not in rows


def test_other_networks_are_said_by_their_operators():
    made = read(Convolved().eval(), torch.zeros(1, 3, 32, 64), pixels=Pixels())
    network = made.network
    assert geometry(network) == f"{len(network.operators)} operators: 2 convolutions, 1 linear layer"


def test_attention_and_experts_are_named_where_they_are():
    network = read(own_network("pool"), torch.zeros(1, 3, 32, 64), pixels=Pixels()).network
    assert "1 attention (32 tokens of 32, 2 heads)" in geometry(network) and "experts" not in geometry(network)
    assert made_of(network_of(SMALL)).endswith(
        "(129 tokens of 24, 3 heads), 1 mixture of experts (4 experts of 16, top-2)"
    )
