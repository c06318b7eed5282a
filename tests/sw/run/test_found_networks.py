"""Kinds of networks that random ones found to be wrong once, each small and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tessera
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import Constant, Linear, Normalise, Parameter, PictureInput
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tests.helpers.random_networks import RandomNetwork
from tests.sw.run.test_random_networks import (
    check_against_float,
    check_integers,
    check_on_the_machine,
    jobs_of,
)

TOKENS, DIM = 8, 12


class Patches(nn.Module):
    """What begins every one: tokens (1, TOKENS, DIM), and layers to choose from."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, DIM, 8, 8), nn.LayerNorm(DIM)
        self.linear = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(6))
        self.across = nn.ModuleList(nn.Linear(TOKENS, TOKENS) for _ in range(2))
        self.odd = nn.Linear(DIM, 9)
        self.rows = nn.Parameter(torch.randn(1, TOKENS, DIM))
        self.bias = nn.Parameter(3 * torch.randn(1, 2, TOKENS, TOKENS))
        self.experts = tessera.MixtureOfExperts(DIM, hidden=8, experts=3, tasks=1)

    def tokens(self, pixels: Tensor) -> Tensor:
        return self.patch(pixels).flatten(2).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """Two heads of six channels, which is no whole number of the machine's words."""
        parts = [one.unflatten(2, (2, -1)).transpose(1, 2) for one in (q, k, v)]
        return functional.scaled_dot_product_attention(*parts, attn_mask=bias).transpose(1, 2).flatten(2)


class KeysThatOthersRead(Patches):
    """Keys that another layer reads, and one product that is key and value."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.tokens(pixels))
        q, k = self.linear[0](x), self.linear[1](x)
        return self.attend(q, k, k) + self.linear[2](x), self.linear[3](k)


class MultipliedTwice(Patches):
    """A norm's rows that nothing read before they are multiplied, and that are normalised behind that."""

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.tokens(pixels)
        normed = self.norm(x)
        y = normed * self.linear[0](x)
        return self.linear[1](functional.layer_norm(normed, (DIM,))) + y


class PartsThatAreAbsorbed(Patches):
    """Some channels of a product, with its bias, in what a stream begins with; one product twice in it."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.tokens(pixels)
        y, z = self.odd(x)[..., :4], self.linear[1](x)
        return y + self.rows[..., :4], (self.rows + z) + z


class ResultThatIsRead(Patches):
    """A result that an element-wise product of another task takes as its rows."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.tokens(pixels))
        y = self.linear[0](x)
        return x + self.linear[1](functional.relu(self.linear[2](x)) * y), y


class LargeBias(Patches):
    """A bias that is much larger than the scores."""

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norm(self.tokens(pixels))
        return self.attend(0.1 * self.linear[0](x), 0.1 * self.linear[1](x), self.linear[2](x), self.bias)


class OddOutputsAcross(Patches):
    """Rows of nine outputs with swapped roles: no whole group of the machine's parameters."""

    def forward(self, pixels: Tensor) -> Tensor:
        y = self.odd(self.norm(self.tokens(pixels)))
        return y + self.across[0](y.transpose(1, 2)).transpose(1, 2)


class HeadsBehindFunctions(Patches):
    """Queries, keys, values, means and transposed rows of what a function leaves, which is unsigned."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = functional.gelu(self.linear[0](self.tokens(pixels)))
        y = self.attend(self.linear[1](x), self.linear[2](x), self.linear[3](x))
        return y, x.mean(1), self.across[0](x.transpose(1, 2))


class HeadsOfHeads(Patches):
    """Heads of what heads leave, whose rows have padding between them."""

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norm(self.tokens(pixels))
        y = self.attend(*(self.linear[n](x) for n in range(3)))
        return self.attend(*(self.linear[n](y) for n in range(3, 6))) + self.across[0](y.transpose(1, 2)).transpose(
            1, 2
        )


class FunctionAcross(Patches):
    """A function of transposed rows."""

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.tokens(pixels) + self.rows
        return functional.gelu(x.transpose(1, 2))


class StreamThatBeginsAcross(Patches):
    """A stream of transposed rows of six tokens, whose padding no product clears, and what is added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.six, self.norms = nn.Linear(6, 6), nn.ModuleList(nn.LayerNorm(6) for _ in range(2))
        self.mixture = tessera.MixtureOfExperts(6, hidden=8, experts=3, tasks=1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.linear[0](self.tokens(pixels)[:, :6]).transpose(1, 2)
        y = x + self.six(self.norms[0](x))
        return y + self.mixture(self.norms[1](y), 0)


class MixtureReadTwice(Patches):
    """A mixture whose result two sums take."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.tokens(pixels)
        mixed = self.experts(self.norm(x), 0)
        return x + mixed, torch.cat([x + mixed, mixed], dim=1)


FOUND: dict[str, type[Patches]] = {kind.__name__: kind for kind in Patches.__subclasses__()}


def constants_alone() -> FloatNetwork:
    """Learned rows that a norm reads, and nothing of the picture: torch.export would compute it at once."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator)
        for name, shape in {"rows": (5, DIM), "gain": (DIM,), "matrix": (8, DIM)}.items()
    }
    rows, gain, matrix = (Parameter(tensor=name) for name in weights)
    operators = (
        PictureInput(part="picture", height=16, width=32),
        Constant(part="rows", value=rows),
        Normalise(part="norm", source="rows", weight=gain, epsilon=1e-5),
        Linear(part="made", source="norm", weight=matrix),
    )
    task = Task(name="made", kind="features", channels=0, cells=0, result="made", grid=(1, 5))
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    return FloatNetwork(Network(name="constants", operators=operators, tasks=(task,), weights=shapes), weights)


NAMES = ("constants_alone", *FOUND)


def found(name: str) -> RandomNetwork:
    """One of them as a network."""
    if name == "constants_alone":
        return RandomNetwork(constants_alone(), 1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = FOUND[name]().eval()
    return RandomNetwork(network_of(module, torch.zeros(1, 3, 16, 32), pixels=Pixels()), 1)


@pytest.mark.parametrize("name", NAMES)
def test_integers_are_the_numerics_and_near_to_float(name: str):
    check_integers(found(name))
    check_against_float(found(name))


def test_the_machine_computes_all_bit_by_bit():
    jobs = {name: jobs_of(found(name)) for name in NAMES}
    assert all(jobs.values())
    check_on_the_machine([job for some in jobs.values() for job in some], seed=5)
