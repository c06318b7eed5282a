"""A network of your own: a plain PyTorch module with two tasks, from ``import torch`` to a verified frame and a report.

Random weights stand for yours. Any module does that is made of operators which the machine has; what it has not is
listed at once (docs/howto/own-network.md).
"""

import torch
from torch import Tensor, nn

import tessera


class Block(nn.Module):
    """Attention and a mixture of experts, each behind a norm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.experts = tessera.MixtureOfExperts(dim, hidden=2 * dim, experts=4, tasks=2)

    def forward(self, x: Tensor, task: int) -> Tensor:
        """One block for one task; tokens in and out."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.experts(self.norm2(x), task)


class Network(nn.Module):
    """Classes and depth of every patch, with one backbone."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, kernel_size=8, stride=8)
        self.positions = nn.Parameter(torch.randn(1, 32, dim))
        self.block, self.norm = Block(dim, heads=2), nn.LayerNorm(dim)
        self.classes, self.depth = nn.Linear(dim, 5), nn.Linear(dim, 1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """A result for each task: a map of outputs for each patch."""
        x = self.patches(pixels).flatten(2).transpose(1, 2) + self.positions
        heads = {"classes": self.classes, "depth": self.depth}
        results = {}
        for task, (name, head) in enumerate(heads.items()):
            result = head(self.norm(self.block(x, task)))
            results[name] = result.transpose(1, 2).unflatten(2, (4, 8))
        return results


torch.manual_seed(0)
path = "build/examples/own-network.safetensors"
print(tessera.from_torch(Network().eval(), torch.zeros(1, 3, 32, 64), out=path))
result = tessera.run(tessera.Target(model=path, preset="tiny"), out="build/examples/own-network", progress=False)
print(result)
assert result.bit_exact
