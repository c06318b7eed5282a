"""Small networks as users write them: plain modules, each with something that the fixed transformer has not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

TOKENS = 32
"""Patches of 8 x 8 of a picture of 32 x 64."""


class Attention(nn.Module):
    """Attention with a bias for each head, or without."""

    def __init__(self, dim: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias = nn.Parameter(2 * torch.randn(1, heads, TOKENS, TOKENS)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        return self.proj(y.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Blocks of attention and MLP: norms before or after them, a mean of tokens or the first, any function."""

    def __init__(
        self,
        dim: int = 32,
        *,
        bias: bool = False,
        pool: bool = False,
        post: bool = False,
        function: Callable[[], nn.Module] = nn.GELU,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        hidden: int = 96,
    ) -> None:
        super().__init__()
        self.patch, self.pool, self.post = nn.Conv2d(3, dim, 8, 8), pool, post
        self.positions = nn.Parameter(torch.randn(1, TOKENS, dim))
        self.norms = nn.ModuleList(norm(dim) for _ in range(3))
        self.attention = Attention(dim, 2, bias=bias)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), function(), nn.Linear(hidden, dim))
        self.head = nn.Linear(dim, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2) + self.positions
        first, second, last = self.norms
        if self.post:
            x = first(x + self.attention(x))
            x = second(x + self.mlp(x))
        else:
            x = x + self.attention(first(x))
            x = x + self.mlp(second(x))
        x = last(x)
        return self.head(x.mean(1) if self.pool else x[:, 0])


class NormedQueries(nn.Module):
    """Attention whose queries and keys are normalised head by head, as timm writes it; then by RMS, with one gain."""

    def __init__(self, dim: int = 32, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.patch, self.norms = heads, nn.Conv2d(3, dim, 8, 8), nn.ModuleList([nn.LayerNorm(dim)] * 2)
        self.qkv, self.proj, self.head = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Linear(dim, 10)
        self.q_norm, self.k_norm = nn.LayerNorm(dim // heads), nn.LayerNorm(dim // heads)
        self.q, self.k, self.v, self.rms = (*(nn.Linear(dim, dim) for _ in range(3)), nn.RMSNorm(dim // heads))
        _unlike(self)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norms[0](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        q, k = (self.rms(one(y).unflatten(2, (self.heads, -1))).transpose(1, 2) for one in (self.q, self.k))
        v = self.v(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head((x + y).mean(1))


class Mixer(nn.Module):
    """MLPs over tokens and over channels, in turn."""

    def __init__(self, dim: int = 40) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 8, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.tokens = nn.Sequential(nn.Linear(TOKENS, 24), nn.GELU(), nn.Linear(24, TOKENS))
        self.channels = nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU(), nn.Linear(3 * dim, dim))
        self.head = nn.Linear(dim, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norms[1](x))
        return self.head(self.norms[2](x).mean(1))


class TwoPatchings(nn.Module):
    """Two convolutions of one picture; a result that is a mean, without a head; a task whose result is another's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 8, 8), nn.Conv2d(3, 24, 4, 4)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = self.first(pixels).flatten(2).mean(2)
        return mean, self.second(pixels), mean


class Skips(nn.Module):
    """A stream that is read again after something was added to it, and a gated MLP."""

    def __init__(self, dim: int = 32, *, gated: bool) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, dim, 8, 8), nn.Linear(dim, 10)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.gate, self.value, self.back = nn.Linear(dim, 48), nn.Linear(dim, 48), nn.Linear(48, dim)
        self.more, self.gated = nn.Linear(dim, dim), gated

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        normed, other = self.norms[0](x), self.norms[1](x)
        hidden = nn.functional.silu(self.gate(normed))
        y = x + self.back(hidden * self.value(normed) if self.gated else hidden)
        z = y + self.more(other)
        return self.head(self.norms[2](z if self.gated else z + x).mean(1))


class Parallel(nn.Module):
    """Attention and a gated MLP of one norm, both added to the stream; a spatial gate; factors of rows and channels."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, dim, 8, 8), nn.Linear(dim, 10)
        self.norm, self.attention = nn.LayerNorm(dim), Attention(dim, 2, bias=False)
        self.up, self.gate, self.down = nn.Linear(dim, 96), nn.LayerNorm(48), nn.Linear(48, dim)
        self.tokens, self.more = nn.Linear(TOKENS, TOKENS), nn.Linear(TOKENS, TOKENS)
        self.gain, self.offset = nn.Parameter(torch.rand(dim) + 0.5), nn.Parameter(torch.randn(dim))
        self.scale = nn.Parameter(torch.rand(dim) + 0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        normed = self.norm(x)
        left, right = nn.functional.gelu(self.up(normed)).chunk(2, dim=-1)
        gated = left * self.tokens(self.gate(right).transpose(1, 2)).transpose(1, 2)
        x = x + self.attention(nn.functional.silu(normed)) + self.down(gated)
        affine = torch.addcmul(self.offset, self.gain, x)
        x = x + self.scale * self.more(affine.transpose(1, 2)).transpose(1, 2)
        return self.head(x.mean(1))


class Unsigned(nn.Module):
    """Values and a mean of what activation functions leave."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.patch, self.q, self.kv = nn.Conv2d(3, dim, 8, 8), nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        x = nn.functional.gelu(self.patch(pixels).flatten(2).transpose(1, 2))
        k, v = self.kv(x).chunk(2, -1)
        y = nn.functional.scaled_dot_product_attention(self.q(x), k, v)
        return self.head(nn.functional.relu(self.q(y)).mean(1) + x.mean(1))


class Joined(nn.Module):
    """Channels of several tensors beside each other, one of them twice; a product that is added to itself."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.patch, self.norms = nn.Conv2d(3, dim, 8, 8), nn.ModuleList((nn.LayerNorm(dim), nn.LayerNorm(58)))
        self.first, self.second, self.head = nn.Linear(dim, 10), nn.Linear(dim, 14), nn.Linear(58, 10)
        nn.init.normal_(self.norms[0].bias)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        y = self.norms[0](x)
        first, second = self.first(y), nn.functional.gelu(self.second(y))
        z = torch.cat([first, second, x, first], -1)
        return self.head(self.norms[1](z + z)).mean(1) + self.head(z)[:, 3]


class Stem(nn.Module):
    """Two convolutions in front of a block, and a third one behind it, whose tokens are a map again."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2, 1, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, dim, 3, 2, 1, bias=False),
            nn.BatchNorm2d(dim),
            nn.GELU(),
            nn.Conv2d(dim, dim, 2, 2),
        )
        _unlike(self.stem)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.attention = Attention(dim, 2, bias=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.down, self.head = nn.Conv2d(dim, 40, 3, 2, 1), nn.Linear(40, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        y = self.stem(pixels)
        x = y.flatten(2).transpose(1, 2)
        x = x + self.attention(self.norms[0](x))
        x = x + self.mlp(self.norms[1](x))
        y = self.down(x.transpose(1, 2).reshape(y.shape))
        return self.head(y.flatten(2).mean(2))


class Pyramid(nn.Module):
    """As PVTv2 has it: overlapping patches, keys of a smaller map, and an MLP with a convolution of each channel."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, dim, 7, 4, 3), nn.LayerNorm(dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.query, self.pair, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.less = nn.Conv2d(dim, dim, 2, 2)
        self.first, self.each, self.second = (
            nn.Linear(dim, 2 * dim),
            nn.Conv2d(2 * dim, 2 * dim, 3, 1, 1, groups=2 * dim),
            nn.Linear(2 * dim, dim),
        )
        self.head = nn.Linear(dim, 10)
        _unlike(self)

    def attend(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        less = self.less(x.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2)
        k, v = self.pair(self.norms[2](less)).unflatten(2, (2, 2, -1)).permute(2, 0, 3, 1, 4)
        q = self.query(x).unflatten(2, (2, -1)).transpose(1, 2)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))

    def forward(self, pixels: Tensor) -> Tensor:
        y = self.patch(pixels)
        size = (y.shape[2], y.shape[3])
        x = self.norm(y.flatten(2).transpose(1, 2))
        x = x + self.attend(self.norms[0](x), size)
        hidden = self.first(self.norms[1](x)).transpose(1, 2).unflatten(2, size)
        x = x + self.second(nn.functional.gelu(self.each(hidden).flatten(2).transpose(1, 2)))
        return self.head(x.mean(1))


class OddPatches(nn.Module):
    """Patches of 6 x 6, and a padded convolution behind a norm with offsets."""

    def __init__(self, dim: int = 20) -> None:
        super().__init__()
        self.patch, self.norm, self.mix = nn.Conv2d(3, dim, 6, 6), nn.LayerNorm(dim), nn.Conv2d(dim, 24, 3, padding=1)
        self.head = nn.Linear(24, 10)
        _unlike(self)

    def forward(self, pixels: Tensor) -> Tensor:
        y = self.patch(pixels)
        x = self.norm(y.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(y.shape)
        return self.head(self.mix(x).flatten(2).mean(2))


class Inverted(nn.Module):
    """MBConv blocks: wider, a convolution of each channel, narrower; one keeps the map's size, one halves it. Behind
    them means of windows, of fewer values at the border.
    """

    def __init__(self, function: Callable[[], nn.Module], dim: int = 16) -> None:
        super().__init__()

        def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
            made = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
            return nn.Sequential(made, nn.BatchNorm2d(outputs))

        self.stem = nn.Sequential(convolution(3, dim, 3, 4), function())
        self.keeps, self.halves = (
            nn.Sequential(
                convolution(dim, 2 * dim, 1),
                function(),
                convolution(2 * dim, 2 * dim, 3, stride, 2 * dim),
                function(),
                convolution(2 * dim, outputs, 1),
            )
            for stride, outputs in ((1, dim), (2, 24))
        )
        self.mixed, self.head = nn.Conv2d(24, 24, 3, padding=1, groups=3), nn.Linear(24, 10)
        _unlike(self)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.stem(pixels)
        x = self.halves(x + self.keeps(x))
        x = x + self.mixed(x)
        x = x + nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return self.head(nn.functional.avg_pool2d(x, 2).mean((2, 3)))


class Decoder(nn.Module):
    """A map made smaller by a residual block and large again: added to what it was, then with classes at twice its
    size; a second result is nothing but an enlarged map.
    """

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, dim, 3, 4, 1), nn.Conv2d(dim, 24, 3, 2, 1)
        self.block = nn.Sequential(nn.Conv2d(24, 24, 3, 1, 1), nn.ReLU(), nn.Conv2d(24, 24, 3, 1, 1))
        self.up, self.side, self.last = (
            nn.Conv2d(24, dim, 3, 1, 1),
            nn.Conv2d(dim, dim, 1),
            nn.Conv2d(dim, dim, 3, 1, 1),
        )
        self.norm, self.classes, self.depth = nn.BatchNorm2d(dim), nn.Conv2d(dim, 5, 1), nn.Conv2d(dim, 1, 1)
        _unlike(self)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        large = nn.functional.gelu(self.stem(pixels))
        small = self.down(large)
        small = nn.functional.relu(small + self.block(small))
        small = nn.functional.relu(small + self.block(small))
        grown = _twice(nn.functional.relu(self.up(small))) + self.side(large)
        x = nn.functional.relu(self.norm(self.last(nn.functional.relu(grown))))
        return _twice(self.classes(x)), self.depth(_twice(x))


def _twice(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _unlike(module: nn.Module) -> None:
    """Norms as training leaves them: no gain is 1, no offset and no mean 0."""
    for one in module.modules():
        if isinstance(one, nn.LayerNorm | nn.BatchNorm2d):
            nn.init.uniform_(one.weight, 0.5, 1.5)
            nn.init.uniform_(one.bias, -1, 1)
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(one.running_mean, -0.2, 0.2)
            nn.init.uniform_(one.running_var, 0.02, 0.3)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bias": lambda: Transformer(bias=True),
    "pool": lambda: Transformer(pool=True),
    "wide": lambda: Transformer(192, hidden=500),
    "post_norm": lambda: Transformer(post=True),
    "rms_norm": lambda: Transformer(norm=lambda dim: nn.RMSNorm(dim, eps=1e-6)),
    "silu": lambda: Transformer(function=nn.SiLU),
    "hardswish": lambda: Transformer(function=nn.Hardswish),
    "relu": lambda: Transformer(function=nn.ReLU, pool=True),
    "gelu_tanh": lambda: Transformer(function=lambda: nn.GELU(approximate="tanh")),
    "mixer": Mixer,
    "normed_queries": NormedQueries,
    "two_patchings": TwoPatchings,
    "skip": lambda: Skips(gated=False),
    "gated": lambda: Skips(gated=True),
    "parallel": Parallel,
    "joined": Joined,
    "unsigned": Unsigned,
    "stem": Stem,
    "pyramid": Pyramid,
    "odd_patches": OddPatches,
    "inverted": lambda: Inverted(nn.Hardswish),
    "decoder": Decoder,
    "inverted_silu": lambda: Inverted(nn.SiLU),
}
"""By what is special about each."""


def own_network(name: str, seed: int = 0) -> nn.Module:
    """One of them with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NETWORKS[name]().eval()
