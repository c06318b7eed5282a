"""Small instances of backbones that timm has not, written from their papers: plain modules of PyTorch.

Each keeps what is special about its paper, with few channels and one or two blocks. The picture has 32 x 64 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


def tokens_of(x: Tensor) -> Tensor:
    """A map (batch, channels, rows, columns) as tokens (batch, tokens, channels)."""
    return x.flatten(2).transpose(1, 2)


def map_of(x: Tensor, rows: int) -> Tensor:
    """Tokens as a map of so many rows."""
    return x.transpose(1, 2).unflatten(2, (rows, -1))


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, channels) by heads: (batch, heads, tokens, channels of a head)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def mlp(dim: int, hidden: int) -> nn.Sequential:
    """The usual one."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))


class Attention(nn.Module):
    """Softmax attention of queries to the tokens that keys and values are made of."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.q, self.kv, self.proj = (
            heads,
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, dim),
        )

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        k, v = self.kv(source).chunk(2, dim=2)
        q, k, v = (heads_of(one, self.heads) for one in (self.q(x), k, v))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A block with norms before attention and MLP."""

    def __init__(self, dim: int, heads: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention, self.mlp = Attention(dim, heads), mlp(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y)
        return x + self.mlp(self.norm2(x))


class Cvt(nn.Module):
    """CvT (ICCV 2021, section 3): overlapping convolutions as embedding, depthwise ones as projections, with stride for
    keys and values.
    """

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, dim, 7, 4, 3), nn.LayerNorm(dim)
        self.norm1, self.norm2, self.last = (nn.LayerNorm(dim) for _ in range(3))
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, 3, stride, 1, groups=dim, bias=False), nn.BatchNorm2d(dim))
            for stride in (1, 2, 2)
        )
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.mlp, self.head = mlp(dim, 2 * dim), nn.Linear(dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norm(tokens_of(self.embed(pixels)))
        y = map_of(self.norm1(x), 8)
        made = (tokens_of(project(y)) for project in self.project)
        q, k, v = (heads_of(linear(one), 2) for linear, one in zip((self.q, self.k, self.v), made, strict=True))
        x = x + self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.last(x).mean(1))


class ViTResNAS(nn.Module):
    """ViT-ResNAS (arXiv 2109.00642, section 3): residual spatial reduction between stages of a ViT."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.embed, self.first, self.second = nn.Conv2d(3, dim, 4, 4), Block(dim), Block(2 * dim)
        self.norm, self.reduce = nn.LayerNorm(dim), nn.Conv2d(dim, 2 * dim, 3, 2, 1)
        self.pool, self.widen = nn.AvgPool2d(2), nn.Conv2d(dim, 2 * dim, 1)
        self.last, self.head = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.first(tokens_of(self.embed(pixels)))
        around = self.widen(self.pool(map_of(x, 8)))
        x = self.second(tokens_of(self.reduce(map_of(self.norm(x), 8)) + around))
        return self.head(self.last(x).mean(1))


class AsViT(nn.Module):
    """As-ViT (ICLR 2022, section 3): kernels of several sizes embed overlapping patches, stages reduce with overlap."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.embed, self.first = nn.Conv2d(3, dim, 5, 4, 2), Block(dim)
        self.reduce, self.second = nn.Conv2d(dim, 2 * dim, 3, 2, 1), Block(2 * dim)
        self.last, self.head = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.first(tokens_of(self.embed(pixels)))
        x = self.second(tokens_of(self.reduce(map_of(x, 8))))
        return self.head(self.last(x).mean(1))


class Crate(nn.Module):
    """CRATE (NeurIPS 2023, section 2.5): attention in subspaces, with one matrix for queries, keys and values, then a
    step of ISTA with a dictionary.
    """

    def __init__(self, dim: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.embed = heads, nn.Conv2d(3, dim, 8, 8)
        self.norm1, self.norm2, self.last = (nn.LayerNorm(dim) for _ in range(3))
        self.subspaces, self.proj = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim)
        self.dictionary = nn.Parameter(torch.randn(dim, dim) / dim**0.5)
        self.head = nn.Linear(dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = tokens_of(self.embed(pixels))
        w = heads_of(self.subspaces(self.norm1(x)), self.heads)
        x = x + self.proj(functional.scaled_dot_product_attention(w, w, w).transpose(1, 2).flatten(2))
        y = self.norm2(x)
        error = functional.linear(y, self.dictionary.T) - functional.linear(
            functional.linear(y, self.dictionary), self.dictionary.T
        )
        x = functional.relu(y + 0.1 * error - 0.01)
        return self.head(self.last(x)[:, 0])


class Ssast(nn.Module):
    """SSAST (AAAI 2022, section 2): a ViT over a spectrogram, with two tokens whose mean is classified."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.block, self.norm = nn.Conv2d(3, dim, 8, 8), Block(dim), nn.LayerNorm(dim)
        self.tokens, self.positions = nn.Parameter(torch.randn(1, 2, dim)), nn.Parameter(torch.randn(1, 34, dim))
        self.head = nn.Linear(dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = torch.cat([self.tokens.expand(len(pixels), -1, -1), tokens_of(self.embed(pixels))], dim=1) + self.positions
        x = self.norm(self.block(x))
        return self.head(x[:, :2].mean(1))


class PathEnsemble(nn.Module):
    """Path ensembles (arXiv 2308.06548): what several blocks leave is summed with learned shares."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Conv2d(3, dim, 8, 8), nn.ModuleList(Block(dim) for _ in range(2))
        self.shares = nn.Parameter(torch.rand(2, dim))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = tokens_of(self.embed(pixels))
        first, second = self.blocks
        short = first(x)
        return self.head(self.norm(self.shares[0] * short + self.shares[1] * second(short)).mean(1))


class Rmt(nn.Module):
    """RMT (CVPR 2024, section 3), without its rotation: a decay by distance on the scores, a depthwise 5 x 5 beside."""

    def __init__(self, dim: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.embed = heads, nn.Conv2d(3, dim, 8, 8)
        self.norm1, self.norm2, self.last = (nn.LayerNorm(dim) for _ in range(3))
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.near, self.mlp = nn.Conv2d(dim, dim, 5, 1, 2, groups=dim), mlp(dim, 2 * dim)
        place = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(8), indexing="ij"), 2).reshape(-1, 2)
        distance = (place[:, None] - place[None]).abs().sum(2)
        self.register_buffer("decay", -distance * torch.tensor([0.1, 0.4]).reshape(1, heads, 1, 1))
        self.head = nn.Linear(dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = tokens_of(self.embed(pixels))
        y = self.norm1(x)
        v = self.v(y)
        q, k, values = (heads_of(one, self.heads) for one in (self.q(y), self.k(y), v))
        y = functional.scaled_dot_product_attention(q, k, values, attn_mask=self.decay).transpose(1, 2).flatten(2)
        x = x + self.proj(y + tokens_of(self.near(map_of(v, 4))))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.last(x).mean(1))


class DualToken(nn.Module):
    """DualToken-ViT (SDM 2024, section 3): local tokens by convolution, global ones by attention to a reduced map; both
    are summed, and learned global tokens with positions attend, too.
    """

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.globals = nn.Conv2d(3, dim, 4, 4), nn.Parameter(torch.randn(1, 8, dim))
        self.near = nn.Sequential(nn.Conv2d(dim, dim, 3, 1, 1, groups=dim), nn.Conv2d(dim, dim, 1))
        self.reduce = nn.Conv2d(dim, dim, 2, 2)
        self.norm, self.norm1, self.norm2, self.last = (nn.LayerNorm(dim) for _ in range(4))
        self.gather, self.spread, self.mlp = Attention(dim, 2), Attention(dim, 2), mlp(dim, 2 * dim)
        self.head = nn.Linear(dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = tokens_of(self.embed(pixels))
        y = self.norm(x)
        local = self.near(map_of(y, 8))
        reduced = tokens_of(self.reduce(local))
        learned = self.globals.expand(len(pixels), -1, -1)
        known = learned + self.gather(self.norm1(learned), reduced)
        x = x + tokens_of(local) + self.spread(y, known)
        x = x + self.mlp(self.norm2(x))
        return self.head(self.last(x).mean(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "CvT": Cvt,
    "ViT-ResNAS": ViTResNAS,
    "As-ViT": AsViT,
    "CRATE": Crate,
    "SSAST": Ssast,
    "path ensembles": PathEnsemble,
    "RMT without rotation": Rmt,
    "DualToken-ViT": DualToken,
}
"""By what their papers call them."""


def paper_network(name: str, seed: int = 0) -> nn.Module:
    """One of them with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = NETWORKS[name]()
        for one in made.modules():
            if isinstance(one, nn.BatchNorm2d):
                nn.init.uniform_(one.running_mean, -0.2, 0.2)
                nn.init.uniform_(one.running_var, 0.5, 2.0)
    return made.eval()
