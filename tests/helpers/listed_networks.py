"""Small networks that take rows in orders of their own, as users write them: windows, merged patches, kept tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tessera import MixtureOfExperts


class WindowAttention(nn.Module):
    """Attention within windows, with a bias for each relative position, and a mask for windows that were shifted."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None] + window - 1
        self.register_buffer("index", apart[0] * (2 * window - 1) + apart[1], persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        windows, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(windows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q * (dim // self.heads) ** -0.5 @ k.transpose(-2, -1)
        scores = scores + self.table[self.index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1)[None]
        if mask is not None:
            scores = scores.view(-1, len(mask), self.heads, tokens, tokens) + mask[None, :, None]
            scores = scores.view(-1, self.heads, tokens, tokens)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(windows, tokens, dim))


def _cut(x: Tensor, window: int) -> Tensor:
    """Windows (windows, tokens, channels) of a map (batch, rows, columns, channels)."""
    batch, rows, columns, channels = x.shape
    x = x.view(batch, rows // window, window, columns // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, channels)


def _joined(windows: Tensor, window: int, rows: int, columns: int) -> Tensor:
    """The map of all windows."""
    x = windows.view(-1, rows // window, columns // window, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, windows.shape[-1])


class WindowBlock(nn.Module):
    """A block of Swin on a map (batch, rows, columns, channels)."""

    def __init__(self, dim: int, heads: int, size: tuple[int, int], window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, heads, window)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        mask = None
        if shift:
            parts = [torch.bucketize(torch.arange(n), torch.tensor([n - window, n - shift]), right=True) for n in size]
            regions = _cut((3 * parts[0][:, None] + parts[1])[None, :, :, None], window)[..., 0]
            mask = torch.where(regions[:, None] == regions[:, :, None], 0.0, -100.0)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y, (rows, columns) = self.norm1(x), x.shape[1:3]
        y = torch.roll(y, (-self.shift, -self.shift), (1, 2)) if self.shift else y
        y = _joined(self.attention(_cut(y, self.window), self.mask), self.window, rows, columns)
        x = x + (torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y)
        return x + self.mlp(self.norm2(x))


class MergePatches(nn.Module):
    """Four positions as one with half of their channels; ``sliced`` as Swin was first written."""

    def __init__(self, dim: int, *, sliced: bool) -> None:
        super().__init__()
        self.norm, self.reduce, self.sliced = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False), sliced

    def forward(self, x: Tensor) -> Tensor:
        batch, rows, columns, dim = x.shape
        if self.sliced:
            x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        else:
            x = x.reshape(batch, rows // 2, 2, columns // 2, 2, dim).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduce(self.norm(x))


class MiniSwin(nn.Module):
    """Two stages of two blocks each on a map of 8 x 16, or without the second."""

    def __init__(self, dim: int = 16, *, merged: bool = True, sliced: bool = False) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, dim, 4, 4), nn.LayerNorm(dim)
        self.blocks = nn.Sequential(*(WindowBlock(dim, 2, (8, 16), 4, shift) for shift in (0, 2)))
        self.merge = MergePatches(dim, sliced=sliced) if merged else nn.Identity()
        dim *= 2 if merged else 1
        self.last, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norm(self.patch(pixels).permute(0, 2, 3, 1))
        return self.head(self.last(self.merge(self.blocks(x))).mean((1, 2)))


class KeptTokens(nn.Module):
    """Tokens by a list, some of them twice: from the stream, from a norm, and as keys and values."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.patch, self.norms = nn.Conv2d(3, dim, 8, 8), nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.register_buffer("kept", torch.tensor([30, 1, 4, 4, 17, 9, 2, 30, 30, 11, 5]))
        self.head = nn.Linear(dim, 6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        y = self.norms[0](x)
        q, (k, v) = self.q(y), self.kv(y.index_select(1, self.kept)).chunk(2, -1)
        x = x + self.proj(nn.functional.scaled_dot_product_attention(q, k, v))
        few = self.norms[1](x[:, self.kept])
        return self.head(self.norms[2](few + self.proj(few)))


class StridedQueries(nn.Module):
    """Attention whose queries are every second position of every second row, as where LeViT makes its map smaller."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.patch, self.norms = nn.Conv2d(3, dim, 4, 4), nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.q, self.kv, self.proj = nn.Linear(dim, 8), nn.Linear(dim, 8 + 32), nn.Linear(32, 2 * dim)
        self.head = nn.Linear(2 * dim, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norms[0](self.patch(pixels).flatten(2).transpose(1, 2))
        few = x.view(len(x), 8, 16, -1)[:, ::2, ::2].flatten(1, 2)
        k, v = self.kv(x).split([8, 32], -1)
        q, k, v = (one.unflatten(2, (2, -1)).transpose(1, 2) for one in (self.q(few), k, v))
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(self.proj(nn.functional.hardswish(y)).mean(1))


class Unshuffled(nn.Module):
    """Parts of a row that are no whole words of any machine: 2 x 2 positions of 6 channels as one."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 6, 4, 4), nn.LayerNorm(24)
        self.first, self.second = nn.Linear(24, 16), nn.Linear(24, 16)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels)
        x = nn.functional.pixel_unshuffle(x, 2).unflatten(1, (6, 4)).transpose(1, 2).flatten(1, 2)
        x = x.flatten(2).transpose(1, 2)
        return self.first(self.norm(x)) + self.second(x)


class ListedExperts(nn.Module):
    """Rows by one list before and behind experts, whose queues take its place; two tasks, one of which needs others."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.patch, self.norms = nn.Conv2d(3, dim, 8, 8), nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.experts = MixtureOfExperts(dim, hidden=24, experts=4, tasks=2)
        self.q, self.proj, self.head = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, 6)
        self.register_buffer("kept", torch.tensor([30, 1, 4, 4, 17, 9, 2, 30, 11]))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        y = self.norms[0](x)
        k = self.q(y[:, self.kept])
        x = x + self.proj(nn.functional.scaled_dot_product_attention(self.q(y), k, k))
        normed, results = self.norms[1](x), []
        for task in range(2):
            z = x + self.experts(normed, task)
            results.append(self.head(z[:, self.kept] if task else z[:, self.kept.flip(0)]).mean(1))
        return results[0], results[1]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "windows": lambda: MiniSwin(merged=False),
    "merged": MiniSwin,
    "merged_slices": lambda: MiniSwin(sliced=True),
    "kept": KeptTokens,
    "strided": StridedQueries,
    "unshuffled": Unshuffled,
    "experts": ListedExperts,
}
"""By what is special about each."""


def listed_network(name: str, seed: int = 0) -> nn.Module:
    """One of them with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NETWORKS[name]().eval()
