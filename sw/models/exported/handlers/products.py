"""Linear layers and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from tessera.golden.network.operators import Convolution, Linear, Parameter
from tessera.sw.models.exported.handlers.registry import (
    checks,
    handles,
    map_view,
    pair_of,
    rows_made,
    weight_parameter,
    without_factor,
)
from tessera.sw.models.exported.nodes import place_of
from tessera.sw.models.exported.reader import Reader, UnsupportedNode
from tessera.sw.models.exported.values import Fixed, View

aten = torch.ops.aten


@handles(aten.linear.default)
def apply_linear(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    """A linear layer."""
    value, weight, bias = arguments[:3]
    if not isinstance(weight, Fixed):
        raise UnsupportedNode("a matrix that depends on the picture; products of two such are attention")
    view, factor = without_factor(value)
    return _product(reader, node, view, weight_parameter(reader, weight, factor), bias)


def _product(reader: Reader, node: fx.Node, view: View, weight: Parameter, bias: Fixed | None) -> View:
    source = rows_made(reader, node, view)
    place, part = place_of(node)
    outputs = reader.builder.weights[weight.tensor].shape[0]
    made = reader.builder.add(
        Linear(
            place=place,
            part=reader.builder.free(place, part),
            source=source.name,
            weight=weight,
            bias=None if bias is None else weight_parameter(reader, bias),
        ),
        (source.rows, outputs),
    )
    return reader.builder.view(made, *view.shape[:-1], outputs)


@handles(aten.addmm.default)
def _addmm(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    bias, value, weight = arguments[:3]
    return apply_linear(reader, node, [value, Fixed(weight.tensor.T, weight.name), bias])


@checks(aten.conv2d.default, aten.conv2d.padding)
def _check_dilation(arguments: Sequence[Any]) -> None:
    if any(one != 1 for one in arguments[5]):
        raise UnsupportedNode("a dilated convolution; the nearest is one without dilation")


@handles(aten.conv2d.default, aten.conv2d.padding)
def _convolution(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, weight, bias, stride, padding, _, groups = arguments[:7]
    view, factor = without_factor(value)
    view, around = view.unpadded()
    rows = view.places.permute(0, 2, 3, 1)
    _, height, width, channels = rows.shape
    kernel = tuple(weight.shape[-2:])
    strides = pair_of(stride)
    padded = [one + more for one, more in zip(around, _around(padding, kernel), strict=True)]
    of_picture = reader.builder.source(int(view.places.min())).name == "picture"
    if kernel == (1, 1) and strides == (1, 1) and not any(padded) and groups == 1 and not of_picture:
        matrix = weight_parameter(reader, Fixed(weight.tensor.flatten(1), weight.name), factor)
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
            weight=weight_parameter(reader, weight, factor),
            bias=None if bias is None else weight_parameter(reader, bias),
            stride=strides,
            padding=(padded[0], padded[1], padded[2], padded[3]),
            groups=groups,
        ),
        (*size, weight.shape[0]),
    )
    return map_view(reader, made, size, place)


def _around(padding: Any, kernel: Sequence[int]) -> tuple[int, ...]:
    """Zeros above, left of, below and right of a map."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        return (*((edge - 1) // 2 for edge in kernel), *(edge // 2 for edge in kernel))
    return (*pair_of(padding), *pair_of(padding))
