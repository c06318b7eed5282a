"""Networks with rows in orders of their own on the machine: bit by bit, near to the module, in the cycles foreseen."""

from pathlib import Path

import pytest
import torch
from torch import nn

import tessera
from tessera.golden.integer.plan import plan
from tessera.golden.integer.steps import AttentionStep
from tessera.hw.presets import preset
from tessera.sw.compiler.limits import others
from tessera.sw.compiler.sizes import Sizes
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tests.helpers.listed_networks import NETWORKS, listed_network
from tests.helpers.timm_models import SwinTransformer, create_model, randomised

CLOSE = 0.05
"""Relative error of 8-bit integers on random weights: 0.4 to 2 % measured."""
CYCLES = 0.03
"""Relative error of the cycle model: below 1.7 % measured."""


def check(module: nn.Module, height: int, width: int, folder: Path) -> None:
    path = folder / "network.safetensors"
    tessera.from_torch(module, torch.zeros(1, 3, height, width), out=path)
    result = tessera.run(tessera.Target(model=path, preset="tiny"), out=folder / "out", progress=False)
    assert result.bit_exact
    for frame in result.frames:
        assert any(command.op == "LIST" for command in frame.program.commands)
        assert frame.prediction.relative_l2 < CLOSE
        assert frame.predicted_cycles == pytest.approx(frame.result.counters["cycles"], rel=CYCLES)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_machine_computes_it_bit_by_bit(name: str, tmp_path: Path):
    check(listed_network(name), 32, 64, tmp_path)


def test_swin_as_timm_writes_it(tmp_path: Path):
    sizes = {"img_size": 64, "patch_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
    check(randomised(SwinTransformer(**sizes, num_classes=10)), 64, 64, tmp_path)


@pytest.mark.slow
def test_a_swin_of_timm_is_read_whole():
    """Its 3136 tokens fit no preset; that is said by sizes, not by operators."""
    made = network_of(
        randomised(create_model("swin_tiny_patch4_window7_224")), torch.zeros(1, 3, 224, 224), pixels=Pixels()
    )
    assert len(plan(made.network).of_kind(AttentionStep)) == 12 + 1, "the mean over tokens is one, too"
    assert others(made.network, Sizes(plan(made.network), preset("edge"))) == []
