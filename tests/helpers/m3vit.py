"""M3ViT as its authors wrote it, in small: checkpoints under the original's names, and the network they describe."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor

DIM, HEADS, LAYERS, HIDDEN, EXPERTS, EXPERT_HIDDEN, PATCH, TASKS = 24, 3, 4, 40, 5, 16, 8, 2
GRID = (4, 4)


def state_dict(
    router: str = "multi_gate",
    *,
    feature: int = 6,
    seed: int = 0,
    patch: int = PATCH,
    grid: tuple[int, int] = GRID,
    heads: Mapping[str, int] | None = None,
    head_channels: int = 12,
) -> dict[str, Tensor]:
    """A state dict of the backbone, experts in odd blocks.

    ``router``: ``multi_gate``; ``shared``, one for all tasks; ``conditioned``, one that also reads ``feature`` values
    which a small network makes of the task's number. ``heads``: classes of each task's head, if it has any.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, DIM),
        "pos_embed": (1, 1 + grid[0] * grid[1], DIM),
        "patch_embed.proj.weight": (DIM, 3, patch, patch),
        "patch_embed.proj.bias": (DIM,),
    }
    if router == "conditioned":
        net = "gate_task_represent"
        shapes |= {f"{net}.fc1.weight": (feature, TASKS), f"{net}.fc2.weight": (feature, feature)}
        shapes |= {f"{net}.{part}": (feature,) for part in ("fc1.bias", "fc2.bias", "norm.weight", "norm.bias")}
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        sizes = {"norm1": (DIM,), "norm2": (DIM,), "attn.qkv": (3 * DIM, DIM), "attn.proj": (DIM, DIM)}
        if layer % 2 == 0:
            sizes |= {"mlp.fc1": (HIDDEN, DIM), "mlp.fc2": (DIM, HIDDEN)}
        for name, shape in sizes.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        if layer % 2 == 0:
            continue
        for name, shape in (("htoh4", (EXPERTS, EXPERT_HIDDEN, DIM)), ("h4toh", (EXPERTS, DIM, EXPERT_HIDDEN))):
            shapes |= {f"{block}.mlp.experts.{name}.weight": shape, f"{block}.mlp.experts.{name}.bias": shape[:2]}
        if router == "multi_gate":
            shapes |= {f"{block}.mlp.gate.{task}.w_gate": (DIM, EXPERTS) for task in range(TASKS)}
        else:
            shapes[f"{block}.mlp.gate.w_gate"] = (DIM + (feature if router == "conditioned" else 0), EXPERTS)
    for task, classes in (heads or {}).items():
        shapes |= _head_shapes(f"decoders.{task}", classes, head_channels)
    return {name: _random(name, shape, generator) for name, shape in shapes.items()}


def _head_shapes(head: str, classes: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Tensors of a head of four convolutions with batch norm, and one behind them."""
    shapes: dict[str, tuple[int, ...]] = {f"{head}.norm.weight": (DIM,), f"{head}.norm.bias": (DIM,)}
    for number in range(4):
        norm = f"{head}.syncbn_fc_{number}"
        shapes[f"{head}.conv_{number}.weight"] = (channels, channels if number else DIM, 3, 3)
        shapes[f"{head}.conv_{number}.bias"] = (channels,)
        shapes |= {f"{norm}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes | {f"{head}.conv_4.weight": (classes, channels, 1, 1), f"{head}.conv_4.bias": (classes,)}


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    if name.endswith("running_var"):
        return (0.3 * values).exp()
    if ("norm" in name or "syncbn" in name) and name.endswith("weight"):
        return 1 + 0.2 * values
    if name.endswith(("bias", "embed", "token", "running_mean")):
        return 0.2 * values
    inputs = shape[0] if name.endswith("w_gate") else values[0].numel() if "experts" not in name else shape[2]
    return values / inputs**0.5


def forward(state: dict[str, Tensor], pixels: Tensor, task: int, top_k: int) -> Tensor:
    """The residual stream (B, tokens, DIM) after the last block, for normalised ``pixels`` (B, 3, H, W)."""
    state = {name: tensor.to(pixels.dtype) for name, tensor in state.items()}

    def affine(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    weight, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    x = functional.conv2d(pixels, weight, bias, stride=weight.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        batch, tokens, _ = x.shape
        q, k, v = affine(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").view(batch, tokens, 3, HEADS, -1).unbind(2)
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) * (DIM // HEADS) ** -0.5
        mixed = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).reshape(batch, tokens, DIM)
        x = x + affine(mixed, f"{block}.attn.proj")
        y = norm(x, f"{block}.norm2")
        if layer % 2 == 0:
            x = x + affine(functional.gelu(affine(y, f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
            continue
        gate_input = y
        if "gate_task_represent.fc1.weight" in state:
            one_hot = functional.one_hot(torch.tensor(task), TASKS).to(y.dtype)
            feature = affine(functional.gelu(affine(one_hot, "gate_task_represent.fc1")), "gate_task_represent.fc2")
            feature = norm(feature, "gate_task_represent.norm")
            gate_input = torch.cat([y, feature.expand(batch, tokens, -1)], dim=-1)
        name = f"{block}.mlp.gate.{task}.w_gate"
        gates = (gate_input @ state[name if name in state else f"{block}.mlp.gate.w_gate"]).softmax(-1)
        kept = torch.where(gates >= gates.topk(top_k).values[..., -1:], gates, 0)
        first, second = f"{block}.mlp.experts.htoh4", f"{block}.mlp.experts.h4toh"
        hidden = torch.einsum("bnd,ehd->bneh", y, state[f"{first}.weight"]) + state[f"{first}.bias"]
        outputs = torch.einsum("bneh,edh->bned", functional.gelu(hidden), state[f"{second}.weight"])
        x = x + ((outputs + state[f"{second}.bias"]) * kept[..., None]).sum(dim=2)
    return x


def head(state: dict[str, Tensor], name: str, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """The map (B, classes, 16 rows, 16 columns) that a head makes of the residual stream (B, tokens, DIM)."""
    part = {key.removeprefix(f"{name}."): value.to(tokens.dtype) for key, value in state.items()}
    x = functional.layer_norm(tokens[:, 1:], tokens.shape[-1:], part["norm.weight"], part["norm.bias"], 1e-6)
    x = x.transpose(1, 2).reshape(len(x), -1, *grid)
    for number in range(4):
        x = functional.conv2d(x, part[f"conv_{number}.weight"], part[f"conv_{number}.bias"], padding=1)
        norm = f"syncbn_fc_{number}"
        gain, offset = part[f"{norm}.weight"], part[f"{norm}.bias"]
        x = functional.batch_norm(x, part[f"{norm}.running_mean"], part[f"{norm}.running_var"], gain, offset)
        x = functional.relu(x)
        if number == 3:
            x = functional.conv2d(x, part["conv_4.weight"], part["conv_4.bias"])
        x = functional.interpolate(x, size=(2 * x.shape[-2], 2 * x.shape[-1]), mode="bilinear", align_corners=False)
    return x
