"""State dicts under timm's names, made without timm, and what its network computes from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from tessera.golden.network.compute import FloatNetwork
from tessera.sw.models.importer import Options, import_weights, to_checkpoint

DIM, HEADS, LAYERS, PATCH, GRID, CLASSES = 48, 3, 2, 8, (4, 4), 10


def timm_state(
    *, channels: int = 3, patch: int = PATCH, grid: tuple[int, int] = GRID, special: int = 1, classes: int = CLASSES
) -> dict[str, Tensor]:
    """A small ViT: 48 channels, 2 blocks, ``special`` positions besides those of the patches."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    state = {
        "cls_token": 0.2 * random(1, 1, DIM),
        "pos_embed": 0.2 * random(1, grid[0] * grid[1] + special, DIM),
        "patch_embed.proj.weight": random(DIM, channels, patch, patch) / (channels * patch * patch) ** 0.5,
        "patch_embed.proj.bias": 0.1 * random(DIM),
    }
    for layer in range(LAYERS):
        block = f"blocks.{layer}."
        for name in ("norm1", "norm2"):
            state |= {f"{block}{name}.weight": 1 + 0.1 * random(DIM), f"{block}{name}.bias": 0.1 * random(DIM)}
        sizes = {"attn.qkv": (3 * DIM, DIM), "attn.proj": (DIM, DIM), "mlp.fc1": (96, DIM), "mlp.fc2": (DIM, 96)}
        for name, shape in sizes.items():
            state[f"{block}{name}.weight"] = random(*shape) / shape[1] ** 0.5
            state[f"{block}{name}.bias"] = 0.1 * random(shape[0])
    state |= {"norm.weight": 1 + 0.1 * random(DIM), "norm.bias": 0.1 * random(DIM)}
    if classes:
        state |= {"head.weight": random(classes, DIM) / DIM**0.5, "head.bias": 0.1 * random(classes)}
    return state


def timm_logits(state: Mapping[str, Tensor], pixels: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Logits (B, classes) in float64 of normalised ``pixels``, with LayerScale (``lsN.gamma``) where there is any."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def affine(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], epsilon)

    weight = state["patch_embed.proj.weight"]
    x = functional.conv2d(pixels.double(), weight, state["patch_embed.proj.bias"], stride=weight.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    positions = state["pos_embed"]
    if positions.shape[1] == x.shape[1]:
        x, positions = x + positions, torch.zeros(1)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + positions
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        q, k, v = affine(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").view(*x.shape[:2], 3, HEADS, -1).unbind(2)
        weights = (torch.einsum("bnhd,bmhd->bhnm", q, k) * (DIM // HEADS) ** -0.5).softmax(-1)
        mixed = torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2)
        x = x + affine(mixed, f"{block}.attn.proj") * state.get(f"{block}.ls1.gamma", 1.0)
        hidden = functional.gelu(affine(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + affine(hidden, f"{block}.mlp.fc2") * state.get(f"{block}.ls2.gamma", 1.0)
    return affine(norm(x, "norm")[:, 0], "head")


def some_pixels(height: int = 32, width: int = 32, channels: int = 3) -> Tensor:
    """A picture (1, channels, height, width) of bytes."""
    values = np.random.default_rng(5).integers(0, 256, (1, channels, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


def half_normalised(pixels: Tensor) -> Tensor:
    """Bytes as -1 to 1."""
    return pixels.double() / 127.5 - 1


def imported_model(path: Path, content: object, format: str = "timm-vit", **options: object) -> FloatNetwork:
    """Save ``content``, import it and give the float model."""
    torch.save(content, path)
    chosen = Options(**({"heads": HEADS} | options))  # type: ignore[arg-type]
    return to_checkpoint(import_weights(format, path, options=chosen)).model


def imported_logits(path: Path, content: object, pixels: Tensor, format: str = "timm-vit", **options: object) -> Tensor:
    """Logits in float64 of what is imported."""
    model = imported_model(path, content, format, **options).double()
    with torch.no_grad():
        return model.predict(pixels, 0).flatten(1)
