"""The float model against plain per-token loops, and its routing rules, names and geometry."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tessera.golden.config import M3VIT_BACKBONE, NANO, ModelConfig
from tessera.golden.model import VisionTransformer, cells_to_map, seeded
from tessera.golden.moe import balance_loss, route
from tessera.golden.scenes import scenes

SMALL = replace(
    NANO,
    name="small",
    image_height=16,
    image_width=32,
    dim=24,
    heads=3,
    layers=2,
    mlp_hidden=40,
    expert_layers=(1,),
    experts=5,
    expert_hidden=20,
)
CONDITIONED = replace(SMALL, name="conditioned", router="task_conditioned", task_embedding=6)

ROUNDING = 2e-4
"""The model computes in float32, the plain loops in float64: only rounding may separate them. No RTL is involved."""


def pixels(config: ModelConfig, batch: int = 2) -> torch.Tensor:
    image = scenes.generate_batch(range(batch), height=config.image_height, width=config.image_width).image
    return torch.from_numpy(image).permute(0, 3, 1, 2)


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / math.sqrt(x.var() + 1e-6) * weight + bias


def plain_forward(model: VisionTransformer, image: np.ndarray, task: int) -> np.ndarray:
    """The whole network, one token and one head at a time, in float64, from the state dict alone."""
    config, w = model.config, {name: value.double().numpy() for name, value in model.state_dict().items()}
    x = [w["cls_token"][0, 0] + w["pos_embed"][0, 0]]
    rows, columns = config.grid
    for i in range(rows * columns):
        top, left = i // columns * config.patch, i % columns * config.patch
        patch = image[:, top : top + config.patch, left : left + config.patch].ravel() / 256
        projection = w["patch_embed.proj.weight"].reshape(config.dim, -1)
        x.append(projection @ patch + w["patch_embed.proj.bias"] + w["pos_embed"][0, i + 1])
    for layer in range(config.layers):
        p = f"blocks.{layer}."
        normed = [layer_norm(t, w[p + "norm1.weight"], w[p + "norm1.bias"]) for t in x]
        qkv = [w[p + "attn.qkv.weight"] @ t + w[p + "attn.qkv.bias"] for t in normed]
        for n in range(config.tokens):
            heads = []
            for h in range(config.heads):
                part = slice(h * config.head_dim, (h + 1) * config.head_dim)
                q, keys = qkv[n][: config.dim][part], [t[config.dim : 2 * config.dim][part] for t in qkv]
                scores = np.array([q @ k for k in keys]) / math.sqrt(config.head_dim)
                share = np.exp(scores - scores.max())
                share /= share.sum()
                heads.append(sum(s * t[2 * config.dim :][part] for s, t in zip(share, qkv, strict=True)))
            x[n] = x[n] + w[p + "attn.proj.weight"] @ np.concatenate(heads) + w[p + "attn.proj.bias"]
        for n in range(config.tokens):
            t = layer_norm(x[n], w[p + "norm2.weight"], w[p + "norm2.bias"])
            x[n] = x[n] + plain_mlp(config, w, p + "mlp.", t, task, layer in config.expert_layers)
    if config.tasks[task].kind == "features":
        return np.stack(x)
    name = config.tasks[task].name
    normed = [layer_norm(t, w["norm.weight"], w["norm.bias"]) for t in x[1:]]
    return np.stack([w[f"heads.{name}.weight"] @ t + w[f"heads.{name}.bias"] for t in normed])


def plain_mlp(config: ModelConfig, w: dict[str, Any], p: str, t: np.ndarray, task: int, experts: bool) -> np.ndarray:
    if not experts:
        return w[p + "fc2.weight"] @ gelu(w[p + "fc1.weight"] @ t + w[p + "fc1.bias"]) + w[p + "fc2.bias"]
    if config.router == "multi_gate":
        logits = t @ w[f"{p}gate.{task}.w_gate"]
    else:
        logits = np.concatenate([t, w["task_embedding"][task]]) @ w[f"{p}gate.w_gate"]
    g = np.exp(logits) / np.exp(logits).sum()
    y = np.zeros(config.dim)
    for e in sorted(range(config.experts), key=lambda e: (-logits[e], e))[: config.top_k]:
        hidden = gelu(w[p + "experts.htoh4.weight"][e] @ t + w[p + "experts.htoh4.bias"][e])
        y += g[e] * (w[p + "experts.h4toh.weight"][e] @ hidden + w[p + "experts.h4toh.bias"][e])
    return y


@pytest.mark.parametrize("config", [SMALL, CONDITIONED, replace(SMALL, top_k=3, final_norm=True)])
@pytest.mark.parametrize("task", [0, 1])
def test_matches_plain_loops(config: ModelConfig, task: int) -> None:
    model, images, capture = seeded(config, 7), pixels(config), {}
    with torch.no_grad():
        result = model(images, task, capture=capture)
    for b in range(len(images)):
        expected = plain_forward(model, images[b].numpy().astype(float), task)
        np.testing.assert_allclose(capture["head"][b].numpy(), expected, atol=ROUNDING)
    assert torch.equal(result, cells_to_map(capture["head"], config, task))


def test_features_are_the_residual_stream() -> None:
    config = replace(SMALL, tasks=M3VIT_BACKBONE.tasks, final_norm=False)
    model, images, capture = seeded(config, 3), pixels(config, 1), {}
    with torch.no_grad():
        result = model(images, "task1", capture=capture)
    assert torch.equal(result, capture["layer01.residual"]) and "head" not in capture
    np.testing.assert_allclose(result[0], plain_forward(model, images[0].numpy().astype(float), 1), atol=ROUNDING)


def test_cell_order() -> None:
    task = SMALL.tasks[0]
    head = torch.arange(SMALL.patches * task.outputs).reshape(1, SMALL.patches, task.outputs)
    mapped = cells_to_map(head, SMALL, 0)
    rows, columns = SMALL.grid
    assert mapped.shape == (1, task.channels, rows * task.cells, columns * task.cells)
    # Patch (1, 2), channel 3, cell row 2, cell column 1.
    expected = (1 * columns + 2) * task.outputs + (3 * task.cells + 2) * task.cells + 1
    assert mapped[0, 3, 1 * task.cells + 2, 2 * task.cells + 1] == expected


def test_tasks_together_equal_tasks_apart() -> None:
    model, images = seeded(SMALL, 5), pixels(SMALL)
    with torch.no_grad():
        together = model.forward_tasks(images, ["depth", "segmentation"])
        for name, result in zip(["depth", "segmentation"], together, strict=True):
            torch.testing.assert_close(result, model(images, name))


def test_ties_go_to_the_lower_expert() -> None:
    indices, weights, probabilities = route(torch.tensor([[0.0, 2.0, 2.0, 2.0], [1.0, 0.0, 1.0, 1.0]]), 2)
    assert indices.tolist() == [[1, 2], [0, 2]]
    assert torch.equal(weights, probabilities.gather(-1, indices))
    torch.testing.assert_close(weights[0, 0], torch.tensor(math.exp(2) / (3 * math.exp(2) + 1)))


def test_ties_survive_a_whole_row_of_equal_logits() -> None:
    indices, _, _ = route(torch.zeros(300, 16), 4)
    assert (indices == torch.arange(4)).all()


def test_balance_loss_is_one_when_even_and_grows_when_not() -> None:
    even = balance_loss(torch.arange(8).repeat(4), torch.full((32, 8), 1 / 8))
    skewed = balance_loss(torch.zeros(32, dtype=torch.long), torch.eye(8)[:1].expand(32, 8))
    assert float(even) == pytest.approx(1.0) and float(skewed) == pytest.approx(8.0)


def test_capture_names() -> None:
    capture: dict[str, Any] = {}
    with torch.no_grad():
        seeded(SMALL, 1)(pixels(SMALL), "depth", capture=capture)
    common = {"norm1", "q", "k", "v", "scores", "attention", "residual_attention", "norm2", "residual"}
    expert = {
        "gate_logits",
        "gate_probabilities",
        "expert_indices",
        "expert_weights",
        "expert_rows",
        "expert_pre_gelu",
        "expert_hidden",
        "expert_output",
    }
    expected = {f"layer00.{name}" for name in common | {"pre_gelu", "hidden"}}
    expected |= {f"layer01.{name}" for name in common | expert} | {"residual.embed", "norm", "head"}
    assert set(capture) == expected
    assert sum(len(rows) for rows in capture["layer01.expert_rows"].values()) == 2 * SMALL.tokens * SMALL.top_k
    for e, rows in capture["layer01.expert_rows"].items():
        chosen = capture["layer01.expert_indices"].flatten(0, 1)[rows]
        assert (chosen == e).any(dim=1).all()
        assert capture["layer01.expert_hidden"][e].shape == (len(rows), SMALL.expert_hidden)
        assert capture["layer01.expert_output"][e].shape == (len(rows), SMALL.dim)


def test_state_dict_names_are_m3vits() -> None:
    state = {name: tuple(value.shape) for name, value in VisionTransformer(NANO).state_dict().items()}
    assert state["patch_embed.proj.weight"] == (96, 3, 8, 8) and state["pos_embed"] == (1, 129, 96)
    assert state["blocks.0.mlp.fc1.weight"] == (384, 96) and state["blocks.0.attn.qkv.weight"] == (288, 96)
    assert state["blocks.1.mlp.experts.htoh4.weight"] == (8, 192, 96)
    assert state["blocks.1.mlp.experts.h4toh.bias"] == (8, 96)
    assert state["blocks.1.mlp.gate.1.w_gate"] == (96, 8) and state["heads.depth.weight"] == (16, 96)
    conditioned = {name: tuple(value.shape) for name, value in VisionTransformer(CONDITIONED).state_dict().items()}
    assert conditioned["blocks.1.mlp.gate.w_gate"] == (30, 5) and conditioned["task_embedding"] == (2, 6)
    assert not any(name.startswith(("norm.", "heads.")) for name in VisionTransformer(M3VIT_BACKBONE).state_dict())


def test_seeded_is_reproducible_and_spreads_tokens() -> None:
    first, again, other = seeded(NANO, 4), seeded(NANO, 4), seeded(NANO, 5)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(first.pos_embed, other.pos_embed)
    capture: dict[str, Any] = {}
    with torch.no_grad():
        first(pixels(NANO), 0, capture=capture)
    counts = torch.bincount(capture["layer01.expert_indices"].flatten(), minlength=8)
    assert (counts > 0).all(), counts


def test_rejects_wrong_images_and_tasks() -> None:
    model = seeded(SMALL, 0)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 16, 16\).*takes \(batch, 3, 16, 32\)"):
        model(torch.zeros(1, 3, 16, 16), 0)
    with pytest.raises(ValueError, match="unknown task 'detection'.*segmentation, depth"):
        model(pixels(SMALL), "detection")
