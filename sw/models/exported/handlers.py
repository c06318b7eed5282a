"""Operators of PyTorch that compute, as operators of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from tessera.golden.mixture import MIX_EXPERTS
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Add,
    Attend,
    AveragePool,
    Convolution,
    Enlarge,
    Linear,
    Mean,
    MixExperts,
    Multiply,
    Normalise,
    NormKind,
    Parameter,
)
from tessera.sw.models.exported.builder import Builder, Made
from tessera.sw.models.exported.reader import Handler, Reader, UnsupportedNode, place_of
from tessera.sw.models.exported.values import ZERO, AttentionScores, Fixed, NoArrangement, ScaledView, View

aten = torch.ops.aten
HANDLERS: dict[Any, Handler] = {}
"""What makes operators of ours, by the operator of PyTorch."""


def _handles(*targets: Any) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(targets, handler))
        return handler

    return register


# What operators read --------------------------------------------------------------------------------------------------


def _rows(reader: Reader, node: fx.Node, view: View) -> Made:
    """A view's last axis as channels and all others as rows."""
    place, part = place_of(node, "rows")
    return reader.builder.matrix(view.places.reshape(-1, view.shape[-1]), place, part)


def _whole(builder: Builder, view: View) -> tuple[Made, Tensor] | None:
    """The tensor of which a view has every value once, and the order in which it has them; None for others."""
    flat = view.places.reshape(-1)
    if (flat == ZERO).any():
        return None
    source = builder.source(int(flat.min()))
    if flat.numel() != source.rows * source.channels:
        return None
    order = flat - source.base
    if not torch.equal(order.sort().values, torch.arange(flat.numel())):
        return None
    return source, order


def _like(view: View, made: Made, order: Tensor) -> View:
    """What was made value by value of a whole tensor, arranged as a view of that tensor."""
    return View((order + made.base).reshape(view.shape))


def _unscaled(value: View | ScaledView | AttentionScores) -> tuple[View, float]:
    if isinstance(value, AttentionScores):
        raise UnsupportedNode(
            "scores of attention; the nearest is softmax of them, scaled and with a bias, times values"
        )
    return (value.view, value.factor) if isinstance(value, ScaledView) else (value, 1.0)


def _parameter(reader: Reader, fixed: Fixed, factor: float | Tensor = 1.0) -> Parameter:
    value = fixed.tensor.detach().float()
    return reader.builder.weight(fixed.name or "weight", value * factor)


# Products -------------------------------------------------------------------------------------------------------------


@_handles(aten.linear.default)
def _linear(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, weight, bias = arguments[:3]
    if not isinstance(weight, Fixed):
        raise UnsupportedNode("a matrix that depends on the picture; products of two such are attention")
    view, factor = _unscaled(value)
    return _product(reader, node, view, _parameter(reader, weight, factor), bias)


def _product(reader: Reader, node: fx.Node, view: View, weight: Parameter, bias: Fixed | None) -> View:
    source = _rows(reader, node, view)
    place, part = place_of(node)
    outputs = reader.builder.weights[weight.tensor].shape[0]
    made = reader.builder.add(
        Linear(
            place=place,
            part=reader.builder.free(place, part),
            source=source.name,
            weight=weight,
            bias=None if bias is None else _parameter(reader, bias),
        ),
        (source.rows, outputs),
    )
    return reader.builder.view(made, *view.shape[:-1], outputs)


@_handles(aten.addmm.default)
def _addmm(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    bias, value, weight = arguments[:3]
    return _linear(reader, node, [value, Fixed(weight.tensor.T, weight.name), bias])


@_handles(aten.conv2d.default, aten.conv2d.padding)
def _convolution(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, weight, bias, stride, padding, dilation, groups = arguments[:7]
    view, factor = _unscaled(value)
    if any(one != 1 for one in dilation):
        raise UnsupportedNode("a dilated convolution; the nearest is one without dilation")
    view, around = view.unpadded()
    rows = view.places.permute(0, 2, 3, 1)
    _, height, width, channels = rows.shape
    kernel = tuple(weight.shape[-2:])
    strides = _pair(stride)
    padded = [one + more for one, more in zip(around, _around(padding, kernel), strict=True)]
    if kernel == (1, 1) and strides == (1, 1) and not any(padded) and groups == 1:
        matrix = _parameter(reader, Fixed(weight.tensor.flatten(1), weight.name), factor)
        flat = _product(reader, node, View(rows), matrix, bias)
        return View(flat.places.permute(0, 3, 1, 2))
    place, part = place_of(node)
    source = reader.builder.matrix(rows.reshape(-1, channels), place, "rows")
    shape = (height, width, channels)
    source = source if source.name == "picture" else reader.builder.arranged(source, shape, place, "map")
    size = [(shape[axis] + padded[axis] + padded[axis + 2] - kernel[axis]) // strides[axis] + 1 for axis in range(2)]
    made = reader.builder.add(
        Convolution(
            place=place,
            part=reader.builder.free(place, part),
            source=source.name,
            weight=_parameter(reader, weight, factor),
            bias=None if bias is None else _parameter(reader, bias),
            stride=strides,
            padding=(padded[0], padded[1], padded[2], padded[3]),
            groups=groups,
        ),
        (*size, weight.shape[0]),
    )
    return _as_tokens(reader, made, size, place)


def _around(padding: Any, kernel: Sequence[int]) -> tuple[int, ...]:
    """Zeros above, left of, below and right of a map."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        return (*((edge - 1) // 2 for edge in kernel), *(edge // 2 for edge in kernel))
    return (*_pair(padding), *_pair(padding))


def _pair(value: Any) -> tuple[int, int]:
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    return (int(found[0]), int(found[-1]))


# Norms and functions --------------------------------------------------------------------------------------------------


@_handles(aten.layer_norm.default)
def _layer_norm(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, shape, weight, bias, epsilon = arguments[:5]
    return _norm(reader, node, value, shape, NormKind.LAYER, weight, bias, epsilon)


@_handles(aten.rms_norm.default)
def _rms_norm(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, shape, weight, epsilon = arguments[:4]
    return _norm(reader, node, value, shape, NormKind.RMS, weight, None, epsilon or torch.finfo(torch.float32).eps)


def _norm(
    reader: Reader,
    node: fx.Node,
    value: View | ScaledView,
    shape: Sequence[int],
    kind: NormKind,
    weight: Fixed | None,
    bias: Fixed | None,
    epsilon: float,
) -> View:
    if len(shape) != 1:
        raise UnsupportedNode(f"a norm over {len(shape)} axes; the nearest is one over channels")
    view = _settled(reader, value)
    source = _rows(reader, node, view)
    place, part = place_of(node)
    gain = Fixed(torch.ones(shape[0]), ".".join([*filter(None, [place, part]), "weight"])) if weight is None else weight
    made = reader.builder.add(
        Normalise(
            place=place,
            part=reader.builder.free(place, part),
            source=source.name,
            weight=_parameter(reader, gain),
            bias=None if bias is None else _parameter(reader, bias),
            epsilon=float(epsilon),
            kind=kind,
        ),
        (source.rows, source.channels),
    )
    return reader.builder.view(made, *view.shape)


def _function(function: ActivationFunction) -> Handler:
    def handler(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
        chosen = function
        if node.target is aten.gelu.default and arguments[1] == "tanh":
            chosen = ActivationFunction.GELU_TANH
        view = _settled(reader, arguments[0])
        whole = _whole(reader.builder, view)
        source = whole[0] if whole else _rows(reader, node, view)
        place, part = place_of(node, str(chosen))
        made = reader.builder.add(
            Activate(place=place, part=reader.builder.free(place, part), source=source.name, function=chosen),
            (source.rows, source.channels),
        )
        return _like(view, made, whole[1]) if whole else reader.builder.view(made, *view.shape)

    return handler


for _target, _chosen in (
    (aten.gelu.default, ActivationFunction.GELU),
    (aten.silu.default, ActivationFunction.SILU),
    (aten.silu_.default, ActivationFunction.SILU),
    (aten.hardswish.default, ActivationFunction.HARDSWISH),
    (aten.hardswish_.default, ActivationFunction.HARDSWISH),
    (aten.relu.default, ActivationFunction.RELU),
    (aten.relu_.default, ActivationFunction.RELU),
    (aten.sigmoid.default, ActivationFunction.SIGMOID),
    (aten.hardsigmoid.default, ActivationFunction.HARD_SIGMOID),
):
    HANDLERS[_target] = _function(_chosen)


# Sums and factors -----------------------------------------------------------------------------------------------------


@_handles(aten.add.Tensor, aten.add_.Tensor)
def _add(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right, alpha = arguments[:3]
    if alpha != 1:
        raise UnsupportedNode("a sum with a factor; the nearest is a sum")
    if isinstance(left, AttentionScores) or isinstance(right, AttentionScores):
        return _biased(left, right)
    left, right = (_settled(reader, one) if isinstance(one, ScaledView) else one for one in (left, right))
    if not isinstance(left, View):
        left, right = right, left
    if isinstance(right, Fixed):
        return _add_fixed(reader, node, left, right)
    if isinstance(right, (int, float)):
        return _add_fixed(reader, node, left, Fixed(torch.tensor(float(right))))
    return _elementwise(reader, node, Add, left, right)


@_handles(aten.sub.Tensor)
def _subtract(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right, alpha = arguments[:3]
    if alpha != 1:
        raise UnsupportedNode("a difference with a factor; the nearest is a difference")
    if isinstance(right, (int, float)):
        return _add(reader, node, [left, -right, 1])
    if isinstance(right, Fixed):
        return _add(reader, node, [left, Fixed(-right.tensor, right.name and f"{right.name}.negative"), 1])
    return _add(reader, node, [left, _settled(reader, _times(right, -1.0)), 1])


def _elementwise(reader: Reader, node: fx.Node, kind: type[Add] | type[Multiply], left: View, right: View) -> View:
    """Value by value of two tensors of one shape."""
    if left.shape != right.shape:
        raise UnsupportedNode(f"shapes {left.shape} and {right.shape} that differ; both must be equal")
    whole = _whole(reader.builder, left) or _whole(reader.builder, right)
    place, part = place_of(node, kind.tag)
    if whole is None:
        first, second = _rows(reader, node, left), _rows(reader, node, right)
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
    return reader.builder.view(made, *left.shape) if order is None else _like(left, made, order)


def _add_fixed(reader: Reader, node: fx.Node, left: View, right: Fixed) -> View:
    """A tensor plus weights: rows of their own, or the same for all rows."""
    builder, value = reader.builder, right.tensor.detach().float().expand(left.shape)
    whole = _whole(builder, left)
    if whole is None:
        constant = builder.constant(value.reshape(-1, left.shape[-1]), right.name, place_of(node)[0])
        return _elementwise(reader, node, Add, left, builder.view(constant, *left.shape))
    source, order = whole
    by_row = value.reshape(-1)[torch.argsort(order)].reshape(source.rows, source.channels)
    constant = builder.constant(by_row, right.name, place_of(node)[0])
    return _elementwise(reader, node, Add, left, _like(left, constant, order))


@_handles(aten.mul.Tensor, aten.mul_.Tensor)
def _multiply(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right = arguments[:2]
    if isinstance(right, (View, AttentionScores)) and not isinstance(left, (View, AttentionScores)):
        left, right = right, left
    if isinstance(right, Fixed) and right.tensor.numel() == 1:
        right = float(right.tensor)
    if isinstance(right, (int, float)):
        return _times(left, float(right))
    if isinstance(right, Fixed):
        return _times_channels(reader, left, right)
    left, right = (_settled(reader, one) if isinstance(one, ScaledView) else one for one in (left, right))
    if isinstance(left, View) and isinstance(right, View):
        return _elementwise(reader, node, Multiply, left, right)
    raise UnsupportedNode("a product of such tensors; the nearest is one of two of equal shape")


@_handles(aten.div.Tensor)
def _divide(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right = arguments[:2]
    if isinstance(right, Fixed) and right.tensor.numel() == 1:
        right = float(right.tensor)
    if not isinstance(right, (int, float)):
        raise UnsupportedNode("a division; the nearest is a product with a number")
    return _times(left, 1 / float(right))


def _times(value: Any, factor: float) -> Any:
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
    view, factor = _unscaled(value)
    spread = factors.tensor.detach().float().expand(view.shape).reshape(-1) * factor
    return scaled_channels(reader.builder, view, spread, None)


def scaled_channels(builder: Builder, view: View, factors: Tensor, offsets: Tensor | None) -> View:
    """Let the product before a tensor take over a factor and an offset for each channel, given for each value."""
    whole = _whole(builder, view)
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
        return _like(view, made, order)
    return view


def _scaled_rows(builder: Builder, view: View, source: Made, factors: Tensor, offsets: Tensor | None) -> View:
    """A factor and an offset for each row of a whole tensor: for each channel of what it is transposed."""
    places = torch.arange(source.rows * source.channels).reshape(source.rows, source.channels) + source.base
    turned = builder.matrix(places.T.contiguous(), builder.place_of(source), "turned")
    made = builder.scaled(turned, factors, offsets)
    local = view.places - source.base
    return View(local % source.channels * source.rows + local // source.channels + made.base)


def _settled(reader: Reader, value: View | ScaledView) -> View:
    """A tensor with the number that it is multiplied with."""
    view, factor = _unscaled(value)
    if factor == 1.0:
        return view
    return scaled_channels(reader.builder, view, torch.full((view.places.numel(),), factor), None)


@_handles(aten.addcmul.default)
def _add_product(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    """``offset + a * b``: a factor and an offset for each channel."""
    offset, left, right, value = arguments[:4]
    factors, view = (left, right) if isinstance(left, Fixed) else (right, left)
    if not isinstance(factors, Fixed) or not isinstance(offset, Fixed) or value != 1:
        raise UnsupportedNode("a sum with such a product; the nearest is weights plus weights times a tensor")
    view = _settled(reader, view)
    spread = [one.tensor.detach().float().expand(view.shape).reshape(-1) for one in (factors, offset)]
    return scaled_channels(reader.builder, view, *spread)


@_handles(aten.batch_norm.default)
def _batch_norm(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, weight, bias, mean, variance, training, _, epsilon = arguments[:8]
    view, factor = _unscaled(value)
    if training:
        raise UnsupportedNode("batch norm in training mode; put the module into evaluation mode with eval()")
    deviation = (variance.tensor.double() + epsilon).sqrt()
    gain = (weight.tensor.double() if weight is not None else 1.0) / deviation
    offset = (bias.tensor.double() if bias is not None else 0.0) - mean.tensor.double() * gain
    shape = (1, -1, *[1] * (len(view.shape) - 2))
    spread = [one.float().reshape(shape).expand(view.shape).reshape(-1) for one in (gain * factor, offset)]
    return scaled_channels(reader.builder, view, *spread)


# Attention ------------------------------------------------------------------------------------------------------------


@_handles(aten.scaled_dot_product_attention.default)
def _attention(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    query, key, value, mask, dropout, causal, scale = arguments[:7]
    if dropout or causal:
        raise UnsupportedNode("attention with dropout or a causal mask; the nearest is one with an added mask")
    query, key, value = (_heads_of_weights(reader, node, one) for one in (query, key, value))
    (query, first), (key, second), (value, third) = (_unscaled(one) for one in (query, key, value))
    if third != 1.0:
        raise UnsupportedNode("values that a number multiplies")
    factor = (1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)) * first * second
    bias = None if mask is None else mask.tensor.float()
    return _attend(reader, node, AttentionScores(query, key, factor, bias), value)


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


@_handles(aten.matmul.default, aten.bmm.default)
def _matmul(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> Any:
    left, right = arguments[:2]
    if isinstance(left, AttentionScores):
        view, factor = _unscaled(right)
        if not left.normalised or factor != 1.0:
            raise UnsupportedNode("scores times a tensor; the nearest is softmax(scores) times values")
        return _attend(reader, node, left, view)
    if isinstance(right, Fixed):
        return _linear(reader, node, [left, Fixed(right.tensor.transpose(-2, -1), right.name), None])
    if isinstance(left, Fixed):
        raise UnsupportedNode("weights times a tensor; the nearest is a tensor times weights")
    (query, first), (key, second) = _unscaled(left), _unscaled(right)
    return AttentionScores(query, View(key.places.transpose(-2, -1)), first * second)


def _biased(left: Any, right: Any) -> AttentionScores:
    scores, bias = (left, right) if isinstance(left, AttentionScores) else (right, left)
    if not isinstance(bias, Fixed) or not isinstance(scores, AttentionScores) or scores.normalised:
        raise UnsupportedNode("scores plus what depends on the picture; the nearest is a learned bias")
    known = 0.0 if scores.bias is None else scores.bias
    return replace(scores, bias=known + bias.tensor.float())


@_handles(aten.softmax.int)
def _softmax(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> AttentionScores:
    scores, axis = arguments[:2]
    if not isinstance(scores, AttentionScores) or axis not in (-1, len(scores.shape) - 1):
        raise UnsupportedNode("softmax of anything but scores over keys; the nearest is attention")
    return replace(scores, normalised=True)


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
        spread = scores.bias.expand(scores.shape).reshape(sizes)
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


# Whole tensors --------------------------------------------------------------------------------------------------------


@_handles(aten.cat.default)
def _join(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    parts, axis = arguments[0], arguments[1] or 0
    places = []
    for one in parts:
        if isinstance(one, Fixed):
            constant = reader.builder.constant(
                one.tensor.detach().float().reshape(-1, one.shape[-1]), one.name, place_of(node)[0]
            )
            one = reader.builder.view(constant, *one.shape)
        places.append(_settled(reader, one).places)
    joined = torch.cat(places, dim=axis)
    if joined.ndim == 3 and axis in (1, -2):
        place, _ = place_of(node)
        reader.builder.matrix(joined.reshape(-1, joined.shape[-1]), place, "tokens")
    return View(joined)


@_handles(aten.index.Tensor)
def _index(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, indices = arguments[:2]
    if not isinstance(value, View) or not all(one is None or isinstance(one, Fixed) for one in indices):
        raise UnsupportedNode("an index that depends on the picture; the nearest is one that is always the same")
    return View(aten.index.Tensor(value.places, [None if one is None else one.tensor for one in indices]))


@_handles(aten.mean.dim)
def _mean(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    view, axes, keep = _settled(reader, arguments[0]), *arguments[1:3]
    axes = sorted(axis % len(view.shape) for axis in ([axes] if isinstance(axes, int) else axes))
    rest = [axis for axis in range(1, len(view.shape)) if axis not in axes]
    if len(rest) != 1 or 0 in axes:
        raise UnsupportedNode("a mean over such axes; the nearest is one over all rows of a tensor")
    places = view.places[0].permute(*(axis - 1 for axis in (*axes, rest[0]))).reshape(-1, view.shape[rest[0]])
    place, part = place_of(node, "mean")
    source = reader.builder.matrix(places, place, "rows")
    made = reader.builder.add(
        Mean(place=place, part=reader.builder.free(place, part), source=source.name), (1, source.channels)
    )
    shape = [1 if axis in axes else size for axis, size in enumerate(view.shape)]
    return reader.builder.view(made, *(shape if keep else (1, source.channels)))


@_handles(aten.adaptive_avg_pool2d.default)
def _adaptive_pool(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    view, size = arguments[:2]
    if not all(one == 1 for one in (size if isinstance(size, (list, tuple)) else [size])):
        raise UnsupportedNode(f"pooling to {size}; the nearest is pooling to 1 x 1")
    return _mean(reader, node, [view, [2, 3], True])


@_handles(aten.avg_pool2d.default)
def _average_pool(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    view, (kernel, stride, padding, ceil, counted, divisor) = _settled(reader, arguments[0]), arguments[1:7]
    rows = view.places.permute(0, 2, 3, 1)
    place, part = place_of(node, "pool")
    source = reader.builder.matrix(rows.reshape(-1, rows.shape[-1]), place, "rows")
    source = reader.builder.arranged(source, tuple(rows.shape[1:]), place, "map")
    kernel, padded = _pair(kernel), _pair(padding)
    stride = _pair(stride) if stride else kernel
    left = [rows.shape[axis + 1] + 2 * padded[axis] - kernel[axis] for axis in range(2)]
    size = [left[axis] // stride[axis] + 1 for axis in range(2)]
    if divisor is not None or (ceil and any(left[axis] % stride[axis] for axis in range(2))):
        raise UnsupportedNode("pooling that rounds up or has a divisor of its own; the nearest is pooling without")
    operator = AveragePool(
        place=place,
        part=reader.builder.free(place, part),
        source=source.name,
        kernel=kernel,
        stride=stride,
        padding=padded,
    )
    made = reader.builder.add(operator, (*size, source.channels))
    pooled = _as_tokens(reader, made, size, place)
    if counted or not any(padded):
        return pooled
    inside = torch.ones(1, source.channels, *rows.shape[1:3])
    shares = torch.nn.functional.avg_pool2d(inside, kernel, stride, padded)
    return _times_rows(reader, node, pooled, 1 / shares)


def _times_rows(reader: Reader, node: fx.Node, view: View, factors: Tensor) -> View:
    """A map (1, channels, rows, columns) times factors of the same shape, as where fewer values have a mean."""
    values = factors.permute(0, 2, 3, 1).reshape(-1, view.shape[1])
    constant = reader.builder.constant(values, ".".join(filter(None, [*place_of(node, "factors")])), "")
    spread = reader.builder.view(constant, 1, *view.shape[2:], view.shape[1]).places.permute(0, 3, 1, 2)
    return _elementwise(reader, node, Multiply, View(spread), view)


@_handles(aten.upsample_bilinear2d.vec)
def _enlarge(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    view, (size, aligned, factors) = _settled(reader, arguments[0]), arguments[1:4]
    rows = view.places.permute(0, 2, 3, 1)
    wanted = list(size) if size is not None else [rows.shape[axis + 1] * factors[axis] for axis in range(2)]
    if aligned or wanted != [2 * rows.shape[1], 2 * rows.shape[2]]:
        raise UnsupportedNode("enlarging by another factor, or with aligned corners; the nearest is by 2, without")
    place, part = place_of(node, "enlarged")
    source = reader.builder.matrix(rows.reshape(-1, rows.shape[-1]), place, "rows")
    source = reader.builder.arranged(source, tuple(rows.shape[1:]), place, "map")
    operator = Enlarge(place=place, part=reader.builder.free(place, part), source=source.name)
    made = reader.builder.add(operator, (*map(int, wanted), source.channels))
    return _as_tokens(reader, made, wanted, place)


def _as_tokens(reader: Reader, made: Made, size: Sequence[int], place: str) -> View:
    """A map's tensor as (1, channels, rows, columns)."""
    rows = int(size[0]) * int(size[1])
    made = reader.builder.arranged(made, (rows, made.channels), place, "tokens")
    return View(reader.builder.view(made, 1, int(size[0]), int(size[1]), made.channels).places.permute(0, 3, 1, 2))


@_handles(aten.pad.default, aten.constant_pad_nd.default)
def _pad(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, sizes = arguments[:2]
    if not isinstance(value, View) or any(one not in (None, 0, 0.0, "constant") for one in arguments[2:]):
        raise UnsupportedNode("padding with anything but zeros")
    return View(torch.nn.functional.pad(value.places, list(sizes), value=ZERO))


# Mixtures of experts --------------------------------------------------------------------------------------------------


@_handles(MIX_EXPERTS)
def _mix_experts(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, gate, embedding, *layers, top_k = arguments[:8]
    view = _settled(reader, value)
    source = _rows(reader, node, view)
    place, part = place_of(node, "experts")
    names = ("gate", "first_weight", "first_bias", "second_weight", "second_bias")
    parameters = [
        reader.builder.weight(".".join(filter(None, [place, part, name])), one.tensor.detach().float())
        for name, one in zip(names, (gate, *layers), strict=True)
    ]
    told = None
    if embedding is not None:
        told = reader.builder.weight(".".join(filter(None, [place, part, "embedding"])), embedding.tensor.float())
    operator = MixExperts(
        place=place,
        part=reader.builder.free(place, part),
        source=source.name,
        gates=(parameters[0],),
        embeddings=() if told is None else (told,),
        first_weight=parameters[1],
        first_bias=parameters[2],
        second_weight=parameters[3],
        second_bias=parameters[4],
        top_k=int(top_k),
    )
    made = reader.builder.add(operator, (source.rows, source.channels))
    return reader.builder.view(made, *view.shape)
