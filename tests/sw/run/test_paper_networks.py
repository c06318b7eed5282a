"""Backbones from their papers on the machine: bit by bit what the integer model computes, and near to the module."""

from pathlib import Path

import pytest
import torch

import tessera
from tests.helpers.paper_networks import NETWORKS, paper_network

CLOSE = 0.12
"""Relative error of 8-bit integers on random weights."""


@pytest.mark.parametrize("name", NETWORKS)
def test_the_machine_computes_it_bit_by_bit(name: str, tmp_path: Path):
    path = tmp_path / "network.safetensors"
    tessera.from_torch(paper_network(name), torch.zeros(1, 3, 32, 64), out=path)
    result = tessera.run(tessera.Target(model=path, preset="tiny"), out=tmp_path / "out", progress=False)
    assert result.bit_exact
    for frame in result.frames:
        assert frame.prediction.relative_l2 < CLOSE
        assert frame.predicted_cycles == pytest.approx(frame.result.counters["cycles"], rel=0.03)
