"""Small vision transformers as torchvision and Hugging Face write them: their names, their arithmetic, plain PyTorch.

The references of the importer where neither library is installed. Each takes normalised pixels and gives logits.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

DIM, HEADS, LAYERS, HIDDEN, PATCH, GRID, CLASSES = 48, 3, 2, 96, 8, 4, 10


class TorchvisionBlock(nn.Module):
    """An encoder block of torchvision: attention is PyTorch's own, epsilon 1e-6."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(DIM, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
        self.ln_2 = nn.LayerNorm(DIM, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(DIM, HIDDEN), nn.GELU(), nn.Dropout(0.0), nn.Linear(HIDDEN, DIM), nn.Dropout(0.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TorchvisionEncoder(nn.Module):
    """Positions, blocks and the last norm."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, 1 + GRID * GRID, DIM))
        blocks = [(f"encoder_layer_{layer}", TorchvisionBlock()) for layer in range(LAYERS)]
        self.layers = nn.Sequential(OrderedDict(blocks))
        self.ln = nn.LayerNorm(DIM, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(x + self.pos_embedding))


class TorchvisionVit(nn.Module):
    """``torchvision.models.VisionTransformer``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, DIM, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.encoder = TorchvisionEncoder()
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(DIM, CLASSES)))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv_proj(pixels).flatten(2).transpose(1, 2)
        x = self.encoder(torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1))
        return self.heads(x[:, 0])


def _tree(**parts: nn.Module | nn.Parameter) -> nn.Module:
    """A module that has nothing but parts, for names alone."""
    module = nn.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


class HuggingFaceLayer(nn.Module):
    """A layer of ``ViTLayer``: query, key and value apart, epsilon 1e-12; LayerScale as DINOv2 has it if wanted."""

    def __init__(self, scale: bool, key_bias: bool) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(DIM, eps=1e-12)
        query, value = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        key = nn.Linear(DIM, DIM, bias=key_bias)
        self.attention = _tree(
            attention=_tree(query=query, key=key, value=value), output=_tree(dense=nn.Linear(DIM, DIM))
        )
        self.layernorm_after = nn.LayerNorm(DIM, eps=1e-12)
        self.intermediate = _tree(dense=nn.Linear(DIM, HIDDEN))
        self.output = _tree(dense=nn.Linear(HIDDEN, DIM))
        if scale:
            self.layer_scale1 = _tree(lambda1=nn.Parameter(torch.ones(DIM)))
            self.layer_scale2 = _tree(lambda1=nn.Parameter(torch.ones(DIM)))
        self.scaled = scale

    def forward(self, x: Tensor) -> Tensor:
        normed, own = self.layernorm_before(x), self.attention.attention
        q, k, v = (
            part(normed).view(*x.shape[:2], HEADS, DIM // HEADS).transpose(1, 2)
            for part in (own.query, own.key, own.value)
        )
        weights = (q @ k.transpose(-1, -2) * (DIM // HEADS) ** -0.5).softmax(-1)
        mixed = self.attention.output.dense((weights @ v).transpose(1, 2).flatten(2))
        x = x + (mixed * self.layer_scale1.lambda1 if self.scaled else mixed)
        hidden = nn.functional.gelu(self.intermediate.dense(self.layernorm_after(x)))
        made = self.output.dense(hidden)
        return x + (made * self.layer_scale2.lambda1 if self.scaled else made)


class HuggingFaceVit(nn.Module):
    """``transformers.ViTForImageClassification``."""

    def __init__(self, *, scale: bool = False, key_bias: bool = True) -> None:
        super().__init__()
        self.vit = _tree(
            embeddings=_tree(
                cls_token=nn.Parameter(torch.zeros(1, 1, DIM)),
                position_embeddings=nn.Parameter(torch.zeros(1, 1 + GRID * GRID, DIM)),
                patch_embeddings=_tree(projection=nn.Conv2d(3, DIM, PATCH, PATCH)),
            ),
            encoder=_tree(layer=nn.ModuleList(HuggingFaceLayer(scale, key_bias) for _ in range(LAYERS))),
            layernorm=nn.LayerNorm(DIM, eps=1e-12),
        )
        self.classifier = nn.Linear(DIM, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        own = self.vit.embeddings
        x = own.patch_embeddings.projection(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([own.cls_token.expand(len(x), -1, -1), x], dim=1) + own.position_embeddings
        for layer in self.vit.encoder.layer:
            x = layer(x)
        return self.classifier(self.vit.layernorm(x)[:, 0])
