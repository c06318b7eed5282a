"""Seeded models: reproducible, with a trained model's statistics, and gates that give the wanted loads."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from tessera.golden.config import M3VIT_BACKBONE, NANO, ModelConfig
from tessera.golden.model import VisionTransformer
from tessera.golden.scenes.scenes import HELD_OUT, generate_batch
from tessera.golden.seeded.gates import ROUTINGS, loads, make_gate
from tessera.golden.seeded.seeded import Statistics, seeded_model

SMALL = replace(
    M3VIT_BACKBONE, name="small", image_height=64, image_width=128, dim=48, layers=4, mlp_hidden=96,
    expert_layers=(1, 3), expert_hidden=32,
)  # fmt: skip


def pictures(config: ModelConfig, count: int) -> torch.Tensor:
    size = {"height": config.image_height, "width": config.image_width}
    images = generate_batch(range(HELD_OUT, HELD_OUT + count), **size).image
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@cache
def small(seed: int = 0, routing: str = "balanced") -> VisionTransformer:
    return seeded_model(SMALL, seed, routing)


@cache
def captured(task: int, count: int = 6) -> dict[str, Any]:
    capture: dict[str, Any] = {}
    with torch.no_grad():
        small()(pictures(SMALL, count), task, capture=capture)
    return capture


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    again, other = seeded_model(SMALL, 0), small(1)
    for name, value in small().state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
        assert torch.isfinite(value).all() and not torch.equal(value, other.state_dict()[name]), name


def test_progress_reaches_the_end() -> None:
    seen: list[tuple[str, float, str]] = []
    seeded_model(replace(SMALL, layers=2, expert_layers=()), on_progress=lambda *step: seen.append(step))
    assert [fraction for _, fraction, _ in seen] == [0.5, 1.0]


def test_a_router_without_a_gate_a_task_is_refused() -> None:
    with pytest.raises(ValueError, match="one gate for all tasks"):
        seeded_model(replace(SMALL, router="task_conditioned", task_embedding=4))


def test_heads_and_a_final_norm_are_filled_too() -> None:
    config = replace(NANO, name="headed", dim=48, layers=2, mlp_hidden=32, expert_layers=(1,), expert_hidden=16)
    model = seeded_model(config)
    assert model.heads["depth"].weight.abs().max() > 0 and model.norm.weight.std() > 0.1


def test_three_channels_hold_half_the_energy_in_every_layer() -> None:
    for layer in range(SMALL.layers):
        energy = captured(0)[f"layer{layer:02d}.residual"].square().mean(dim=(0, 1))
        share = float(energy.sort().values[-3:].sum() / energy.sum())
        assert 0.4 < share < 0.65
    few = replace(Statistics(), heavy_energy=0.2)
    model, capture = seeded_model(SMALL, statistics=few), dict[str, Any]()
    with torch.no_grad():
        model(pictures(SMALL, 2), 0, capture=capture)
    energy = capture["layer03.residual"].square().mean(dim=(0, 1))
    assert float(energy.sort().values[-3:].sum() / energy.sum()) < 0.35


def test_the_stream_grows_and_stays_far_from_its_format_s_ends() -> None:
    sizes = [float(captured(0)[f"layer{layer:02d}.residual"].square().mean().sqrt()) for layer in range(SMALL.layers)]
    assert all(later > sooner for sooner, later in zip(sizes, sizes[1:], strict=False))
    assert float(captured(0)["layer03.residual"].abs().max()) < 32


def test_norms_have_outliers_and_attention_has_structure() -> None:
    outputs = torch.stack([captured(0)[f"layer{layer:02d}.norm1"] for layer in range(SMALL.layers)])
    assert float(outputs.abs().max()) > 10 * float(outputs.std())
    for layer in range(SMALL.layers):
        rows = torch.softmax(captured(0)[f"layer{layer:02d}.scores"], dim=-1)
        best = rows.max(dim=-1).values.mean(dim=(0, 2)) * SMALL.tokens
        assert (best > 1.7).all() and (best < 0.7 * SMALL.tokens).all()  # neither uniform nor one key alone


def test_biases_rows_and_tails_are_a_trained_model_s() -> None:
    state = small().state_dict()
    weight = state["blocks.1.mlp.experts.htoh4.weight"].flatten(0, 1)
    assert 0.2 < float(weight.std(dim=1).log().std()) < 0.8
    normal = weight / weight.std(dim=1, keepdim=True)
    assert float(normal.pow(4).mean()) > 3.5  # a normal distribution has 3
    assert float(state["blocks.0.attn.qkv.bias"][48:96].abs().max()) > 5  # key biases
    assert all(float(value.abs().max()) > 0 for name, value in state.items() if name.endswith("bias"))


@pytest.mark.parametrize("routing", ROUTINGS)
def test_shares_of_loads(routing: str) -> None:
    generator = np.random.default_rng(1)
    for depth, task in ((0.0, 0), (0.4, 1), (0.99, 0)):
        shares = loads(routing, experts=16, top_k=2, depth=depth, task=task, generator=generator)
        assert shares.sum() == pytest.approx(1) and (shares >= 0).all()
        tokens = np.sort(shares * 129 * 2)
        if routing == "balanced":
            assert tokens == pytest.approx(np.full(16, 16.125))
        elif routing == "skewed":
            assert tokens[-1] == pytest.approx(100) and (tokens[:6] == 0).all() and tokens[6:-1].min() > 10
        else:
            assert 20 < tokens[-1] < 40 and len(np.unique(tokens.round(6))) <= 8


def test_a_gate_keeps_to_its_shares_on_pictures_it_was_not_made_for() -> None:
    generator = np.random.default_rng(5)
    places = generator.normal(size=(100, 24))
    tokens = places + 0.5 * generator.normal(size=(12, 1, 24)) + 0.3 * generator.normal(size=(12, 100, 24)) + 2.0
    shares = np.r_[0.3, np.full(5, 0.14), 0.0, 0.0]
    matrix, chosen = make_gate(tokens[:8], shares, 2, generator)
    assert chosen[..., 0].mean() == pytest.approx(0.5, abs=0.01) and (chosen[..., 0] >= chosen[..., 1]).all()
    logits = np.sort(tokens[8:] @ matrix, axis=2)
    order = np.argsort(-(tokens[8:] @ matrix), axis=2)[..., :2]
    got = np.stack([np.bincount(picture.ravel(), minlength=8) for picture in order])
    assert np.abs(got - shares * 200).max() < 20 and not got[:, -2:].any()
    assert np.median(logits[..., -2] - logits[..., -3]) > 0.2 * logits.std()


@cache
def full(routing: str) -> VisionTransformer:
    return seeded_model(M3VIT_BACKBONE, 0, routing)


@pytest.mark.slow
@pytest.mark.parametrize(
    "routing", ["balanced", *(pytest.param(name, marks=pytest.mark.soak) for name in ("skewed", "captured"))]
)
def test_loads_of_the_full_model_on_held_out_scenes(routing: str) -> None:
    choices = []
    for task in range(2):
        capture: dict[str, Any] = {}
        with torch.no_grad():
            full(routing)(pictures(M3VIT_BACKBONE, 4), task, capture=capture)
        for layer in M3VIT_BACKBONE.expert_layers:
            indices = capture[f"layer{layer:02d}.expert_indices"]
            counts = np.stack([np.bincount(picture.ravel(), minlength=16) for picture in indices.numpy()])
            choices.append(counts)
    counts = np.stack(choices)  # (tasks and layers, pictures, experts)
    assert (counts.sum(axis=2) == 258).all()
    if routing == "balanced":
        assert counts.min() >= 1 and counts.max() <= 60
        assert counts[:, 0].min() >= 4 and counts[:, 0].max() <= 40
        assert 10 < np.median(counts.min(axis=2)) and np.median(counts.max(axis=2)) < 25
    elif routing == "skewed":
        assert ((counts == 0).sum(axis=2) >= 6).all() and ((counts[:, 0] == 0).sum(axis=1) == 6).all()
        assert counts.max(axis=2).min() >= 80 and 90 <= np.median(counts.max(axis=2)) <= 110
    else:
        assert 25 < np.median(counts.max(axis=2)) < 45 and np.median(counts.min(axis=2)) < 10
    assert (counts[0] != counts[6]).any()  # the tasks have gates of their own
