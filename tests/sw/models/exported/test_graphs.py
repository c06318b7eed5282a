"""What of a graph is read: parts in wraps, but nothing that no result needs; what it refuses by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import tessera
from tessera.sw.models.exported.from_torch import Pixels, checkpoint_of
from tessera.sw.models.exported.problems import UnsupportedNetwork

PICTURE = torch.zeros(1, 3, 16, 32)


class Own(nn.Module):
    """Tokens, whatever a function makes of them, and a head."""

    def __init__(self, middle: Callable[[Own, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.patch, self.head, self.middle = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 4), middle
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        return self.head(self.middle(self, x)).mean(1)


def read(module: nn.Module):
    """network_of compares the network with the module."""
    return checkpoint_of(module.eval(), PICTURE, pixels=Pixels(), name="own")


def refused(module: nn.Module) -> list[str]:
    with pytest.raises(UnsupportedNetwork) as caught:
        read(module)
    return [str(problem) for problem in caught.value.problems]


def unused_branch(own: Own, x: Tensor) -> Tensor:
    own.aux(torch.tanh(x))
    return x


def test_what_no_result_needs_is_left_out():
    made = read(Own(unused_branch, aux=nn.Linear(16, 7)))
    assert made.assumed == ("no result depends on aux.weight, aux.bias: left out",)


def test_weights_of_attention_may_be_asked_for_in_vain():
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    assert not read(Own(lambda own, x: x + own.attention(x, x, x)[0], attention=attention)).assumed


def changed(own: Own, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = 0
    return y


def test_changes_in_place_are_no_dead_code():
    assert any("aten.fill_" in one for one in refused(Own(changed)))


def test_a_block_that_several_names_share_is_used():
    block = nn.Linear(16, 16)
    assert not read(Own(lambda own, x: own.blocks(x), blocks=nn.Sequential(block, nn.ReLU(), block))).assumed


def without_gradients(own: Own, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = torch.relu(x)
        with torch.enable_grad():
            y = y + x
    return y + x


def wide_autocast(own: Own, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return own.head(x) @ own.head.weight


@pytest.mark.parametrize("middle", [without_gradients, wide_autocast])
def test_wraps_that_change_no_value_are_read_through(middle):
    read(Own(middle))


def narrow_autocast(own: Own, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = torch.tanh(own.inner(x))
    return y.float()


def test_autocast_to_a_narrower_type_is_refused():
    first, second = refused(Own(narrow_autocast, inner=nn.Linear(16, 16)))
    assert "inner: torch.autocast to (1, 8, 16): computes in bfloat16" in first and "leave torch.autocast out" in first
    assert "aten.tanh" in second


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.uint8, torch.bool])
def test_conversions_to_narrower_types_are_refused(kind: torch.dtype):
    (said,) = refused(Own(lambda own, x: x.to(kind).float()))
    assert f"a conversion to {str(kind).removeprefix('torch.')}; the nearest is float32" in said


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.3)


def test_dropout_that_stays_on_is_refused():
    (said,) = refused(Own(lambda own, x: own.noise(x), noise=Noise()))
    assert said.startswith("noise: aten.dropout to (1, 8, 16): dropout of 0.3 that stays on in evaluation")


def strange(own: Own, x: Tensor) -> Tensor:
    x = torch.relu(torch.tanh(x).transpose(1, 2).unflatten(2, (2, 4)))
    return functional.softplus(own.dilated(own.plain(x))).flatten(2).mT


def test_what_is_behind_something_refused_is_said_too():
    """Also what its arguments refuse; nothing that runs."""
    modules = {"plain": nn.Conv2d(16, 16, 1), "dilated": nn.Conv2d(16, 16, 3, padding=2, dilation=2)}
    found = refused(Own(strange, **modules))
    assert [one.split(" to ")[0] for one in found] == [
        "the module: aten.tanh",
        "dilated: aten.conv2d",
        "the module: aten.softplus",
    ]


def chosen(own: Own, x: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


@pytest.mark.filterwarnings("ignore")
def test_branches_on_values_are_refused():
    assert any("cond" in one for one in refused(Own(chosen)))


@pytest.mark.filterwarnings("ignore")
def test_decomposed_programs_are_told(tmp_path):
    program = torch.export.export(Own(lambda own, x: x).eval(), (PICTURE,)).run_decompositions()
    with pytest.raises(ValueError, match="decomposed: it has aten.convolution; give what torch.export.export makes"):
        tessera.from_torch(program, out=tmp_path / "own.safetensors")


@pytest.mark.parametrize(
    "middle",
    [
        lambda own, x: x.mT.relu().mT,
        lambda own, x: -torch.relu(x) + x,
        lambda own, x: (1 - torch.sigmoid(x)) * x,
        lambda own, x: own.head.weight.sum(0) - torch.relu(x),
        lambda own, x: own.head.weight.mean() - 2 * torch.relu(x),
    ],
    ids=["turned", "negative", "one_minus", "weights_minus", "number_minus_product"],
)
def test_signs_and_turned_axes(middle):
    read(Own(middle))


def test_a_flattened_map_says_what_is_nearest():
    module = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.GELU(), nn.Flatten(), nn.Linear(64, 9))
    (said,) = refused(module)
    assert said.startswith("3: aten.linear to (1, 9): 8 rows of 8 values of '1.gelu' as one row of 64")
    assert "a mean over positions, or a convolution as large as the map" in said


def test_flattened_tokens_are_one_row():
    module = Own(lambda own, x: own.all(x.flatten(1)).unflatten(1, (1, 16)), all=nn.Linear(128, 16))
    read(module)


def test_what_reads_the_picture_itself_is_named():
    said = refused(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 8, 3)))
    assert len(said) == 1 and "to (512, 3): reads the picture itself; the nearest is a convolution" in said[0]
    read(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)))
