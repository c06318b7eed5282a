"""Sums, differences, and factors of numbers, channels and rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from tessera.golden.network.operators import Add, Multiply
from tessera.sw.models.exported.builder import Builder, Made
from tessera.sw.models.exported.handlers.attention import scores_with_bias
from tessera.sw.models.exported.handlers.registry import (
    arranged_like,
    checks,
    handles,
    rows_made,
    whole_tensor,
    without_factor,
)
from tessera.sw.models.exported.nodes import place_of
from tessera.sw.models.exported.reader import Reader, UnsupportedNode
from tessera.sw.models.exported.values import AttentionScores, Fixed, NoArrangement, ScaledView, View

aten = torch.ops.aten


@handles(aten.add.Tensor, aten.add_.Tensor)
def _add(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right, alpha = arguments[:3]
    if alpha != 1:
        raise UnsupportedNode("a sum with a factor; the nearest is a sum")
    if isinstance(left, AttentionScores) or isinstance(right, AttentionScores):
        return scores_with_bias(left, right)
    left, right = (with_factor(reader, one) if isinstance(one, ScaledView) else one for one in (left, right))
    if not isinstance(left, View):
        left, right = right, left
    if isinstance(right, Fixed):
        return _add_fixed(reader, node, left, right)
    if isinstance(right, (int, float)):
        return _add_fixed(reader, node, left, Fixed(torch.tensor(float(right))))
    return value_by_value(reader, node, Add, left, right)


@handles(aten.sub.Tensor)
def _subtract(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right, alpha = arguments[:3]
    if alpha != 1:
        raise UnsupportedNode("a difference with a factor; the nearest is a difference")
    if isinstance(right, (int, float)):
        return _add(reader, node, [left, -right, 1])
    if isinstance(right, Fixed):
        return _add(reader, node, [left, Fixed(-right.tensor, right.name and f"{right.name}.negative"), 1])
    return _add(reader, node, [left, with_factor(reader, _times(right, -1.0)), 1])


@handles(aten.rsub.Scalar, aten.rsub.Tensor)
def _subtract_from(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    """A number or weights minus a tensor."""
    value, other, alpha = arguments[:3]
    if isinstance(other, Fixed) and other.tensor.numel() == 1:
        other = float(other.tensor.detach())
    if alpha != 1 or not isinstance(other, (int, float)):
        return _subtract(reader, node, [other, value, alpha])
    view, factor = without_factor(value)
    spread = [torch.full((view.places.numel(),), float(one)) for one in (-factor, other)]
    return scaled_channels(reader.builder, view, *spread)


@handles(aten.neg.default)
def _negate(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    return _times(arguments[0], -1.0)


def value_by_value(reader: Reader, node: fx.Node, kind: type[Add] | type[Multiply], left: View, right: View) -> View:
    """Value by value of two tensors of one shape."""
    if left.shape != right.shape:
        raise UnsupportedNode(f"shapes {left.shape} and {right.shape} that differ; both must be equal")
    whole = whole_tensor(reader.builder, left) or whole_tensor(reader.builder, right)
    place, part = place_of(node, kind.tag)
    if whole is None:
        first, second = rows_made(reader, node, left), rows_made(reader, node, right)
        order = None
    else:
        source, order = whole
        back = torch.argsort(order)
        shape = (source.rows, source.channels)
        parts = [view.places.reshape(-1)[back].reshape(shape) for view in (left, right)]
        first, second = (reader.builder.matrix(one, place, "rows") for one in parts)
    made = reader.builder.add(
        kind(place=place, part=reader.builder.free(place, part), left=first.name, right=second.name),
        (first.rows, first.channels),
    )
    return reader.builder.view(made, *left.shape) if order is None else arranged_like(left, made, order)


def _add_fixed(reader: Reader, node: fx.Node, left: View, right: Fixed) -> View:
    """A tensor plus weights: rows of their own, or the same for all rows."""
    builder, value = reader.builder, right.tensor.detach().float().expand(left.shape)
    whole = whole_tensor(builder, left)
    if whole is None:
        constant = builder.constant(value.reshape(-1, left.shape[-1]), right.name, place_of(node)[0])
        return value_by_value(reader, node, Add, left, builder.view(constant, *left.shape))
    source, order = whole
    by_row = value.reshape(-1)[torch.argsort(order)].reshape(source.rows, source.channels)
    constant = builder.constant(by_row, right.name, place_of(node)[0])
    return value_by_value(reader, node, Add, left, arranged_like(left, constant, order))


@handles(aten.mul.Tensor, aten.mul_.Tensor)
def _multiply(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right = arguments[:2]
    if isinstance(right, (View, AttentionScores)) and not isinstance(left, (View, AttentionScores)):
        left, right = right, left
    if isinstance(right, Fixed) and right.tensor.numel() == 1:
        right = float(right.tensor.detach())
    if isinstance(right, (int, float)):
        return _times(left, float(right))
    if isinstance(right, Fixed):
        return _times_channels(reader, left, right)
    left, right = (with_factor(reader, one) if isinstance(one, ScaledView) else one for one in (left, right))
    if isinstance(left, View) and isinstance(right, View):
        return value_by_value(reader, node, Multiply, left, right)
    raise UnsupportedNode("a product of such tensors; the nearest is one of two of equal shape")


@handles(aten.div.Tensor)
def _divide(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right = arguments[:2]
    if isinstance(right, Fixed) and right.tensor.numel() == 1:
        right = float(right.tensor.detach())
    if not isinstance(right, (int, float)):
        raise UnsupportedNode("a division; the nearest is a product with a number")
    if float(right) == 0.0:
        raise UnsupportedNode("a division by 0")
    return _times(left, 1 / float(right))


def _times(value: Any, factor: float) -> Any:
    if not math.isfinite(factor):
        raise UnsupportedNode(f"a product with {factor}, which is not finite")
    if isinstance(value, AttentionScores) and not value.normalised:
        bias = None if value.bias is None else value.bias * factor
        return replace(value, scale=value.scale * factor, bias=bias)
    if isinstance(value, ScaledView):
        return ScaledView(value.view, value.factor * factor)
    if isinstance(value, View):
        return ScaledView(value, factor)
    raise UnsupportedNode("a product of attention's weights with a number")


def _times_channels(reader: Reader, value: View | ScaledView, factors: Fixed) -> View:
    """A factor for each channel, which the product before takes over: LayerScale."""
    view, factor = without_factor(value)
    spread = factors.tensor.detach().float().expand(view.shape).reshape(-1) * factor
    return scaled_channels(reader.builder, view, spread, None)


def scaled_channels(builder: Builder, view: View, factors: Tensor, offsets: Tensor | None) -> View:
    """Let the product before a tensor take over a factor and an offset for each channel, given for each value."""
    whole = whole_tensor(builder, view)
    nearest = "the nearest is a factor for each channel of what a linear layer makes"
    if whole is None:
        raise UnsupportedNode(f"factors of a part of a tensor; {nearest}")
    source, order = whole
    back = torch.argsort(order)
    by_row = factors[back].reshape(source.rows, source.channels)
    shifts = None if offsets is None else offsets[back].reshape(source.rows, source.channels)
    given = [values for values in (by_row, shifts) if values is not None]
    if not all(torch.equal(values, values[:1].expand_as(values)) for values in given):
        if not all(torch.equal(values, values[:, :1].expand_as(values)) for values in given):
            raise UnsupportedNode(f"factors that differ by row and by channel; {nearest}")
        return _scaled_rows(builder, view, source, by_row[:, 0], None if shifts is None else shifts[:, 0])
    offset = None if shifts is None else shifts[0]
    try:
        builder.fold(source.name, by_row[0], offset)
    except NoArrangement:  # no product before takes it over
        made = builder.scaled(source, by_row[0], offset)
        return arranged_like(view, made, order)
    return view


def _scaled_rows(builder: Builder, view: View, source: Made, factors: Tensor, offsets: Tensor | None) -> View:
    """A factor and an offset for each row of a whole tensor: for each channel of what it is transposed."""
    places = torch.arange(source.rows * source.channels).reshape(source.rows, source.channels) + source.base
    turned = builder.matrix(places.T.contiguous(), builder.place_of(source), "turned")
    made = builder.scaled(turned, factors, offsets)
    local = view.places - source.base
    return View(local % source.channels * source.rows + local // source.channels + made.base)


def with_factor(reader: Reader, value: View | ScaledView) -> View:
    """A tensor with the number that it is multiplied with."""
    view, factor = without_factor(value)
    if factor == 1.0:
        return view
    return scaled_channels(reader.builder, view, torch.full((view.places.numel(),), factor), None)


@handles(aten.addcmul.default)
def _add_product(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    """``offset + a * b``: a factor and an offset for each channel."""
    offset, left, right, value = arguments[:4]
    factors, view = (left, right) if isinstance(left, Fixed) else (right, left)
    if not isinstance(factors, Fixed) or not isinstance(offset, Fixed) or value != 1:
        raise UnsupportedNode("a sum with such a product; the nearest is weights plus weights times a tensor")
    view = with_factor(reader, view)
    spread = [one.tensor.detach().float().expand(view.shape).reshape(-1) for one in (factors, offset)]
    return scaled_channels(reader.builder, view, *spread)


@checks(aten.batch_norm.default)
def _check_training(arguments: Sequence[Any]) -> None:
    if arguments[5] and arguments[3] is None:
        raise UnsupportedNode("batch norm without running statistics; the nearest has track_running_stats=True")
    if arguments[5]:
        raise UnsupportedNode("batch norm in training mode; put the module into evaluation mode with eval()")


@handles(aten.batch_norm.default)
def _batch_norm(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, weight, bias, mean, variance, _, _, epsilon = arguments[:8]
    view, factor = without_factor(value)
    deviation = (variance.tensor.double() + epsilon).sqrt()
    gain = (weight.tensor.double() if weight is not None else 1.0) / deviation
    offset = (bias.tensor.double() if bias is not None else 0.0) - mean.tensor.double() * gain
    shape = (1, -1, *[1] * (len(view.shape) - 2))
    spread = [one.float().reshape(shape).expand(view.shape).reshape(-1) for one in (gain * factor, offset)]
    return scaled_channels(reader.builder, view, *spread)
