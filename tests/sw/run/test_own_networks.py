"""Networks of one's own on the machine: bit by bit what the integer model computes, and near to the module."""

from pathlib import Path

import pytest
import torch

import tessera
from tests.helpers.own_networks import NETWORKS, own_network

CLOSE = 0.12
"""Relative error of 8-bit integers on random weights: 1 to 8 % measured, with outputs near 0."""


@pytest.mark.parametrize("name", NETWORKS)
def test_the_machine_computes_it_bit_by_bit(name: str, tmp_path: Path):
    path = tmp_path / f"{name}.safetensors"
    tessera.from_torch(own_network(name), torch.zeros(1, 3, 32, 64), out=path)
    result = tessera.run(tessera.Target(model=path, preset="tiny"), out=tmp_path / "out", progress=False)
    assert result.bit_exact
    assert all(frame.prediction.relative_l2 < CLOSE for frame in result.frames)


def test_around_a_picture_is_its_mean(tmp_path: Path):
    """A padded convolution of a picture whose mean is taken off."""
    path, colours = tmp_path / "stem.safetensors", {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    tessera.from_torch(own_network("stem"), torch.zeros(1, 3, 32, 64), out=path, **colours)
    result = tessera.run(tessera.Target(model=path, preset="tiny"), out=tmp_path / "out", progress=False)
    assert result.bit_exact
    assert all(frame.prediction.relative_l2 < CLOSE for frame in result.frames)
