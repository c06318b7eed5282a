"""Attention, whole or as products and a softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from tessera.golden.network.operators import Attend
from tessera.sw.models.exported.handlers.kept import check_wide
from tessera.sw.models.exported.handlers.products import apply_linear
from tessera.sw.models.exported.handlers.registry import checks, handles, without_factor
from tessera.sw.models.exported.nodes import place_of
from tessera.sw.models.exported.reader import Reader, UnsupportedNode
from tessera.sw.models.exported.values import AttentionScores, Fixed, View

aten = torch.ops.aten

_MASKED = -100.0
"""What a bias is at least: softmax gives exp(-100), which is 0."""
_FILL = -1000.0
"""Scores that a mask fills with at most this are as good as minus infinity."""


@handles(aten.scaled_dot_product_attention.default)
def _attention(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    query, key, value, mask, dropout, causal, scale = arguments[:7]
    if dropout:
        raise UnsupportedNode("attention with dropout that stays on in evaluation; the nearest is dropout_p = 0")
    if mask is not None and not isinstance(mask, Fixed):
        raise UnsupportedNode("a mask that depends on the picture; the nearest is one that is always the same")
    if arguments[7] and query.shape[-3] != key.shape[-3]:
        raise UnsupportedNode("heads that share a key (enable_gqa); the nearest expands keys and values to all heads")
    query, key, value = (_heads_of_weights(reader, node, one) for one in (query, key, value))
    (query, first), (key, second), (value, third) = (without_factor(one) for one in (query, key, value))
    if third != 1.0:
        raise UnsupportedNode("values that a number multiplies")
    factor = (1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)) * first * second
    bias = None if mask is None else _added(mask.tensor)
    if causal:
        bias = _added(torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril())
    return _attend(reader, node, AttentionScores(query, key, factor, bias), value)


def _added(mask: Tensor) -> Tensor:
    """What a mask adds to scores: nothing where a boolean one is True, minus infinity where it is False."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape).masked_fill(~mask, -math.inf)
    return mask.detach().float()


def _heads_of_weights(reader: Reader, node: fx.Node, value: Any) -> Any:
    """Weights (batch, heads, tokens, channels) of an attention as tokens; anything else as it is."""
    if not isinstance(value, Fixed):
        return value
    if value.tensor.dim() != 4 or len(value.tensor) != 1:
        shape = tuple(value.tensor.shape)
        raise UnsupportedNode(f"weights of shape {shape} as tokens; the nearest is (1, heads, tokens, channels)")
    _, heads, tokens, channels = value.tensor.shape
    rows = value.tensor[0].transpose(0, 1).reshape(tokens, heads * channels).float()
    made = reader.builder.constant(rows, value.name, place_of(node)[0])
    return View(reader.builder.view(made, 1, tokens, heads, channels).places.transpose(1, 2))


@handles(aten.matmul.default, aten.bmm.default)
def _matmul(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right = arguments[:2]
    if isinstance(left, AttentionScores):
        view, factor = without_factor(right)
        if not left.normalised or factor != 1.0:
            raise UnsupportedNode("scores times a tensor; the nearest is softmax(scores) times values")
        return _attend(reader, node, left, view)
    if isinstance(right, Fixed):
        return apply_linear(reader, node, [left, Fixed(right.tensor.transpose(-2, -1), right.name), None])
    if isinstance(left, Fixed):
        raise UnsupportedNode("weights times a tensor; the nearest is a tensor times weights")
    (query, first), (key, second) = without_factor(left), without_factor(right)
    return AttentionScores(query, View(key.places.transpose(-2, -1)), first * second)


def scores_with_bias(left: Any, right: Any) -> AttentionScores:
    """Scores with a bias from weights."""
    scores, bias = (left, right) if isinstance(left, AttentionScores) else (right, left)
    if not isinstance(bias, Fixed) or not isinstance(scores, AttentionScores) or scores.normalised:
        raise UnsupportedNode("scores plus what depends on the picture; the nearest is a learned bias")
    known = 0.0 if scores.bias is None else scores.bias
    return replace(scores, bias=known + bias.tensor.detach().float())


@handles(aten.masked_fill.Scalar, aten.masked_fill.Tensor, aten.masked_fill_.Scalar, aten.masked_fill_.Tensor)
def _masked_fill(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> AttentionScores:
    scores, mask, number = arguments[:3]
    number = float(number.tensor.detach()) if isinstance(number, Fixed) and number.tensor.numel() == 1 else number
    fixed = isinstance(scores, AttentionScores) and not scores.normalised and isinstance(mask, Fixed)
    if not fixed or not isinstance(number, float | int) or number > _FILL:
        raise UnsupportedNode("values that a mask fills; the nearest is attention's scores, filled with -inf")
    return scores_with_bias(scores, Fixed(_added(~mask.tensor)))


@handles(aten.where.self, aten.where.ScalarOther)
def _where(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> AttentionScores:
    condition, scores, number = arguments[:3]
    if not isinstance(condition, Fixed):
        raise UnsupportedNode("a choice that depends on the picture; the nearest is a mask that is always the same")
    return _masked_fill(reader, node, [scores, Fixed(~condition.tensor), number])


@checks(aten.softmax.int)
def _check_softmax(arguments: Sequence[Any]) -> None:
    check_wide(arguments[2])


@handles(aten.softmax.int)
def _softmax(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> AttentionScores:
    scores, axis = arguments[:2]
    if not isinstance(scores, AttentionScores) or axis not in (-1, len(scores.shape) - 1):
        raise UnsupportedNode("softmax of anything but scores over keys; the nearest is attention")
    return replace(scores, normalised=True)


def _limited(bias: Tensor) -> Tensor:
    """A bias without minus infinity; UnsupportedNode where it leaves a query no key."""
    if not bool((bias.amax(dim=-1) > _MASKED).all()):
        raise UnsupportedNode("a mask that leaves a query no key; the nearest leaves each query one")
    return bias.clamp(min=_MASKED)


def _attend(reader: Reader, node: fx.Node, scores: AttentionScores, value: View) -> View:
    query, key = scores.query, scores.key
    shapes = [
        one.places.reshape(-1, *one.shape[-3:]) if len(one.shape) > 2 else one.places[None, None]
        for one in (query, key, value)
    ]
    if len(query.shape) == 3:  # batch and heads in one axis
        shapes = [one.places[None] for one in (query, key, value)]
    windows, heads = shapes[0].shape[:2]
    place, part = place_of(node, "attention")
    made = [
        reader.builder.matrix(one.permute(0, 2, 1, 3).reshape(windows * one.shape[2], -1), place, name)
        for one, name in zip(shapes, ("q", "k", "v"), strict=True)
    ]
    bias = None
    if scores.bias is not None:
        sizes = (windows, heads, made[0].rows // windows, made[1].rows // windows)
        spread = _limited(scores.bias).expand(scores.shape).reshape(sizes)
        spread = spread[0] if torch.equal(spread, spread[:1].expand_as(spread)) else spread
        bias = reader.builder.weight(".".join(filter(None, [place, part, "bias"])), spread)
    channels = made[2].channels
    operator = Attend(
        place=place,
        part=reader.builder.free(place, part),
        query=made[0].name,
        key=made[1].name,
        value=made[2].name,
        heads=heads,
        scale=scores.scale,
        windows=windows,
        bias=bias,
    )
    result = reader.builder.add(operator, (made[0].rows, channels))
    whole = reader.builder.view(result, windows, made[0].rows // windows, heads, channels // heads)
    split = whole.places.permute(0, 2, 1, 3)
    return View(split.reshape(*query.shape[:-1], channels // heads))
