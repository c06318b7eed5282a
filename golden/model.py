"""Float reference model: a multi-task mixture-of-experts vision transformer with M3ViT's parameter names.

The network is Edge-MoE's (ICCAD 2023) reading of M3ViT (NeurIPS 2022): a pre-norm ViT in which chosen blocks replace
the MLP by experts. One gate a task picks the experts of every token, so switching task switches nothing but the gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from tessera.golden.config import ModelConfig, layer_name
from tessera.golden.moe import ExpertMlp
from tessera.golden.network.compute import PIXEL_SCALE, FloatNetwork
from tessera.golden.network.transformer import transformer

Capture = dict[str, Any]


class PatchEmbedding(nn.Module):
    """Cut the image into patches and project each to ``dim`` channels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.dim, kernel_size=config.patch, stride=config.patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1) to (B, patches, dim), patches in row-major order."""
        return self.proj(pixels).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention; heads are contiguous blocks of ``head_dim`` channels, Q, K, V stacked in ``qkv``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, capture: Capture | None = None, prefix: str = "") -> Tensor:
        """(B, N, D) to (B, N, D). Captures q, k, v, the scaled scores and the concatenated heads."""
        batch, tokens, dim = x.shape
        stacked = self.qkv(x)
        q, k, v = stacked.view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(q, k, v)
        attention = heads.transpose(1, 2).reshape(batch, tokens, dim)
        if capture is not None:
            for name, part in zip("qkv", stacked.chunk(3, dim=-1), strict=True):
                capture[f"{prefix}.{name}"] = part
            capture[f"{prefix}.scores"] = q @ k.transpose(-2, -1) / math.sqrt(dim // self.heads)
            capture[f"{prefix}.attention"] = attention
        return self.proj(attention)


class DenseMlp(nn.Module):
    """Two linear layers with exact GELU between."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.dim, config.mlp_hidden)
        self.fc2 = nn.Linear(config.mlp_hidden, config.dim)

    def forward(self, x: Tensor, capture: Capture | None = None, prefix: str = "") -> Tensor:
        """(B, N, D) to (B, N, D). Captures the hidden activations before and after GELU."""
        pre_gelu = self.fc1(x)
        hidden = functional.gelu(pre_gelu)
        if capture is not None:
            capture[f"{prefix}.pre_gelu"] = pre_gelu
            capture[f"{prefix}.hidden"] = hidden
        return self.fc2(hidden)


class Block(nn.Module):
    """One pre-norm transformer block; its MLP is dense or a mixture of experts."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.prefix = layer_name(layer)
        self.norm1 = nn.LayerNorm(config.dim, eps=config.norm_epsilon)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.norm_epsilon)
        self.mlp: DenseMlp | ExpertMlp = ExpertMlp(config) if layer in config.expert_layers else DenseMlp(config)

    def attend(self, x: Tensor, capture: Capture | None = None) -> Tensor:
        """The attention half with its residual addition: (B, N, D) to (B, N, D)."""
        normed = self.norm1(x)
        x = x + self.attn(normed, capture, self.prefix)
        if capture is not None:
            capture[f"{self.prefix}.norm1"] = normed
            capture[f"{self.prefix}.residual_attention"] = x
        return x

    def transform(
        self, x: Tensor, tasks: Sequence[int], embedding: Tensor | None, capture: Capture | None = None
    ) -> Tensor:
        """The MLP half with its residual addition; ``x`` holds one equal share of the batch for each task."""
        normed = self.norm2(x)
        if isinstance(self.mlp, ExpertMlp):
            x = x + self.mlp(normed, tasks, embedding, capture, self.prefix)
        else:
            x = x + self.mlp(normed, capture, self.prefix)
        if capture is not None:
            capture[f"{self.prefix}.norm2"] = normed
            capture[f"{self.prefix}.residual"] = x
        return x


class VisionTransformer(nn.Module):
    """Multi-task mixture-of-experts vision transformer (the float golden model).

    Parameters
    ----------
    config:
        Geometry. State-dict names are M3ViT's, with ``heads.{task}.{weight,bias}`` for the linear heads and
        ``task_embedding`` (tasks, n) for the task-conditioned router.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.dim))
        if config.router == "task_conditioned":
            self.task_embedding: Tensor | None = nn.Parameter(torch.zeros(len(config.tasks), config.task_embedding))
        else:
            self.task_embedding = None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_epsilon) if config.final_norm else nn.Identity()
        self.heads = nn.ModuleDict(
            {task.name: nn.Linear(config.dim, task.outputs) for task in config.tasks if task.kind != "features"}
        )
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        if self.task_embedding is not None:
            nn.init.normal_(self.task_embedding)

    def as_network(self) -> FloatNetwork:
        """The same as a graph, with the same weights."""
        weights = dict(self.state_dict())
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        return FloatNetwork(transformer(self.config, shapes), weights)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), uint8 or float bytes, to the first residual stream (B, tokens, D)."""
        size = (3, self.config.image_height, self.config.image_width)
        if images.ndim != 4 or tuple(images.shape[1:]) != size:
            raise ValueError(
                f"images have shape {tuple(images.shape)}, model '{self.config.name}' takes (batch, "
                f"{', '.join(map(str, size))}); resize them or transpose channels first"
            )
        patches = self.patch_embed(images.to(self.pos_embed.dtype) * PIXEL_SCALE)
        cls = self.cls_token.expand(len(images), -1, -1)
        return torch.cat([cls, patches], dim=1) + self.pos_embed

    def forward_tasks(
        self, images: Tensor, tasks: Sequence[str | int], *, capture: Capture | None = None
    ) -> list[Tensor]:
        """Run several tasks on the same images, sharing all work before the first gate.

        Parameters and results are those of :meth:`forward`, one result for each task; captured tensors have the
        tasks stacked along the batch from the first gate on.
        """
        indices = [self.config.task_index(task) if isinstance(task, str) else task for task in tasks]
        x = self.embed(images)
        if capture is not None:
            capture["residual.embed"] = x
        shared = True
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x = block.attend(x, capture)
            if shared and layer in self.config.expert_layers:
                x = x.repeat(len(indices), 1, 1)
                shared = False
            x = block.transform(x, indices, self.task_embedding, capture)
        if shared:
            x = x.repeat(len(indices), 1, 1)
        return [self._head(part, index, capture) for part, index in zip(x.chunk(len(indices)), indices, strict=True)]

    def _head(self, x: Tensor, index: int, capture: Capture | None) -> Tensor:
        task = self.config.tasks[index]
        if task.kind == "features":
            return x
        normed = self.norm(x)
        head = self.heads[task.name](normed[:, self.config.head_tokens(index)])
        if capture is not None:
            capture["norm"] = normed
            capture["head"] = head
        return cells_to_map(head, self.config, index)

    def forward(self, images: Tensor, task: str | int, *, capture: Capture | None = None) -> Tensor:
        """Predict one task.

        Parameters
        ----------
        images:
            (B, 3, H, W) bytes 0 to 255 (uint8, or any dtype holding the same values); scaled by 1/256 here.
        task:
            Task name or index.
        capture:
            When given, filled with the named intermediates: ``residual.embed``; ``layerNN.`` with ``norm1``, ``q``,
            ``k``, ``v``, ``scores``, ``attention``, ``residual_attention``, ``norm2``, ``residual``; dense blocks
            ``pre_gelu``, ``hidden``; expert blocks ``gate_logits``, ``gate_probabilities``, ``expert_indices``,
            ``expert_weights`` and, as dictionaries by expert, ``expert_rows`` (flat token numbers b * N + n),
            ``expert_pre_gelu``, ``expert_hidden``, ``expert_output`` (before its weight); then ``norm`` and ``head``.

        Returns
        -------
        Tensor
            (B, channels, grid_h * cells, grid_w * cells); for ``classification`` logits (B, channels, 1, 1), for
            ``features`` the residual stream (B, tokens, D).

        Raises
        ------
        ValueError
            For an unknown task name or images of another size.
        """
        return self.forward_tasks(images, [task], capture=capture)[0]


def seeded(config: ModelConfig, seed: int) -> VisionTransformer:
    """Build a model with random weights whose statistics resemble a trained one's, to try a geometry.

    A few channels of each norm are outliers (3 to 8 times the rest), projection rows differ in scale, biases are not
    zero and gate logits spread enough to route tokens to different experts. Reproducible for a seed.
    What runs without a checkpoint by its name is made with more care: :mod:`tessera.golden.seeded`.
    """
    model = VisionTransformer(config)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            if "norm" in name and name.endswith("weight"):
                values = generator.normal(1.0, 0.15, shape)
                outliers = generator.choice(shape[0], max(1, shape[0] // 48), replace=False)
                values[outliers] *= generator.uniform(3.0, 8.0, len(outliers))
            elif name.endswith("bias"):
                values = generator.normal(0.0, 0.05, shape)
            elif name.endswith("w_gate"):
                values = generator.normal(0.0, 2.0 / math.sqrt(shape[0]), shape)
            elif "embed" in name and "proj" not in name or name == "cls_token":
                values = generator.normal(0.0, 1.0, shape)
            else:
                fan_in = math.prod(shape[1:]) if "experts" not in name else shape[2]
                rows = np.exp(generator.normal(0.0, 0.25, shape[: 2 if "experts" in name else 1]))
                values = generator.normal(0.0, 1.0 / math.sqrt(fan_in), shape)
                values *= rows.reshape(rows.shape + (1,) * (len(shape) - rows.ndim))
                if name == "patch_embed.proj.weight":
                    # Trained filters answer to contrast; without this, brightness alone would route all tokens alike.
                    values -= values.mean(axis=(1, 2, 3), keepdims=True)
            parameter.copy_(torch.from_numpy(np.asarray(values, dtype=np.float32)))
    return model.eval()


def cells_to_map(head: Tensor, config: ModelConfig, index: int) -> Tensor:
    """Arrange head outputs (B, patches, outputs) as a map (B, channels, grid_h * cells, grid_w * cells).

    Logits of a whole picture, (B, 1, channels), become (B, channels, 1, 1).
    """
    task = config.tasks[index]
    rows, columns = (1, 1) if task.kind == "classification" else config.grid
    parts = head.reshape(len(head), rows, columns, task.channels, task.cells, task.cells)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(len(head), task.channels, rows * task.cells, columns * task.cells)
