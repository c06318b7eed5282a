"""Masks that are always the same are biases of attention, however they are written."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tessera.golden.network.operators import Attend
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tessera.sw.models.exported.problems import UnsupportedNetwork

TOKENS = 8
LOWER = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


class Masked(nn.Module):
    """Attention of two heads, written by a function."""

    def __init__(self, attention: Attention, mask: Tensor | None = None) -> None:
        super().__init__()
        self.patch, self.qkv, self.head = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 48), nn.Linear(16, 4)
        self.attention = attention
        self.register_buffer("mask", mask)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.qkv(self.patch(pixels).flatten(2).transpose(1, 2))
        q, k, v = x.unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        made = self.attention(q, k, v) if self.mask is None else whole(q, k, v, self.mask)
        return self.head(made.transpose(1, 2).flatten(2).mean(1))


def whole(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **options) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)


def by_hand(change: Callable[[Tensor], Tensor]) -> Attention:
    return lambda q, k, v: (change(q @ k.transpose(-2, -1)) * 8**-0.5).softmax(-1) @ v


def mask_read(module: nn.Module) -> Tensor:
    """What is added to scores; network_of compares the network with the module."""
    made = network_of(module.eval(), torch.zeros(1, 3, 16, 32), pixels=Pixels())
    (attention,) = made.network.of_kind(Attend)
    assert attention.bias is not None
    return made.weights[attention.bias.tensor][0]


@pytest.mark.parametrize(
    "module",
    [
        lambda: Masked(whole, LOWER),
        lambda: Masked(whole, torch.zeros(TOKENS, TOKENS).masked_fill(~LOWER, -math.inf)),
        lambda: Masked(whole, torch.zeros(TOKENS, TOKENS).masked_fill(~LOWER, -1e9)),
        lambda: Masked(lambda q, k, v: whole(q, k, v, is_causal=True)),
        lambda: Masked(by_hand(lambda scores: scores.masked_fill(~LOWER, -math.inf))),
        lambda: Masked(by_hand(lambda scores: scores.masked_fill(~LOWER, -1e9))),
        lambda: Masked(by_hand(lambda scores: torch.where(LOWER, scores, -math.inf))),
        lambda: Masked(by_hand(lambda scores: scores + torch.zeros(TOKENS, TOKENS).masked_fill(~LOWER, -math.inf))),
    ],
    ids=["boolean", "infinite", "large", "causal", "filled", "filled_large", "where", "added"],
)
def test_masked_keys_have_no_weight(module: Callable[[], nn.Module]):
    assert torch.equal(mask_read(module()), torch.where(LOWER, 0.0, -100.0))


def refused(module: nn.Module) -> str:
    with pytest.raises(UnsupportedNetwork) as caught:
        mask_read(module)
    return str(caught.value)


def test_masks_that_the_machine_does_not_have():
    none = LOWER.clone()
    none[3] = False
    assert "leaves a query no key" in refused(Masked(whole, none))
    small = by_hand(lambda scores: scores.masked_fill(~LOWER, -5.0))
    assert "values that a mask fills; the nearest is attention's scores" in refused(Masked(small))
    own = Masked(lambda q, k, v: whole(q, k, v, q @ k.transpose(-2, -1)))
    assert "a mask that depends on the picture" in refused(own)
    on = Masked(lambda q, k, v: whole(q, k, v, dropout_p=0.5))
    assert "attention with dropout that stays on" in refused(on)
    shared = Masked(lambda q, k, v: whole(q, k[:, :1], v[:, :1], enable_gqa=True))
    assert "heads that share a key (enable_gqa)" in refused(shared)
