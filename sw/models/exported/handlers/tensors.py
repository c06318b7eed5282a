"""Joins, gathers, means, pools, enlargements and zeros around a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tessera.golden.network.operators import AveragePool, Enlarge, Mean, Multiply
from tessera.sw.models.exported.handlers.registry import handles, map_view, pair_of
from tessera.sw.models.exported.handlers.sums import value_by_value, with_factor
from tessera.sw.models.exported.nodes import place_of
from tessera.sw.models.exported.reader import Reader, UnsupportedNode
from tessera.sw.models.exported.values import ZERO, Fixed, View

aten = torch.ops.aten


@handles(aten.cat.default)
def _join(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    parts, axis = arguments[0], arguments[1] or 0
    places = []
    for one in parts:
        if isinstance(one, Fixed):
            constant = reader.builder.constant(
                one.tensor.detach().float().reshape(-1, one.shape[-1]), one.name, place_of(node)[0]
            )
            one = reader.builder.view(constant, *one.shape)
        places.append(with_factor(reader, one).places)
    joined = torch.cat(places, dim=axis)
    if joined.ndim == 3 and axis in (1, -2):
        place, _ = place_of(node)
        reader.builder.matrix(joined.reshape(-1, joined.shape[-1]), place, "tokens")
    return View(joined)


@handles(aten.index.Tensor)
def _index(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, indices = arguments[:2]
    if not isinstance(value, View) or not all(one is None or isinstance(one, Fixed) for one in indices):
        raise UnsupportedNode("an index that depends on the picture; the nearest is one that is always the same")
    return View(aten.index.Tensor(value.places, [None if one is None else one.tensor for one in indices]))


@handles(aten.mean.dim)
def _mean(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    view, axes, keep = with_factor(reader, arguments[0]), *arguments[1:3]
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


@handles(aten.adaptive_avg_pool2d.default)
def _adaptive_pool(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    view, size = arguments[:2]
    if not all(one == 1 for one in (size if isinstance(size, (list, tuple)) else [size])):
        raise UnsupportedNode(f"pooling to {size}; the nearest is pooling to 1 x 1")
    return _mean(reader, node, [view, [2, 3], True])


@handles(aten.avg_pool2d.default)
def _average_pool(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    view, (kernel, stride, padding, ceil, counted, divisor) = with_factor(reader, arguments[0]), arguments[1:7]
    rows = view.places.permute(0, 2, 3, 1)
    place, part = place_of(node, "pool")
    source = reader.builder.matrix(rows.reshape(-1, rows.shape[-1]), place, "rows")
    source = reader.builder.arranged(source, tuple(rows.shape[1:]), place, "map")
    kernel, padded = pair_of(kernel), pair_of(padding)
    stride = pair_of(stride) if stride else kernel
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
    pooled = map_view(reader, made, size, place)
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
    return value_by_value(reader, node, Multiply, View(spread), view)


@handles(aten.upsample_bilinear2d.vec)
def _enlarge(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    view, (size, aligned, factors) = with_factor(reader, arguments[0]), arguments[1:4]
    rows = view.places.permute(0, 2, 3, 1)
    wanted = list(size) if size is not None else [rows.shape[axis + 1] * factors[axis] for axis in range(2)]
    if aligned or wanted != [2 * rows.shape[1], 2 * rows.shape[2]]:
        raise UnsupportedNode("enlarging by another factor, or with aligned corners; the nearest is by 2, without")
    place, part = place_of(node, "enlarged")
    source = reader.builder.matrix(rows.reshape(-1, rows.shape[-1]), place, "rows")
    source = reader.builder.arranged(source, tuple(rows.shape[1:]), place, "map")
    operator = Enlarge(place=place, part=reader.builder.free(place, part), source=source.name)
    made = reader.builder.add(operator, (*map(int, wanted), source.channels))
    return map_view(reader, made, wanted, place)


@handles(aten.pad.default, aten.constant_pad_nd.default)
def _pad(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, sizes = arguments[:2]
    if not isinstance(value, View) or any(one not in (None, 0, 0.0, "constant") for one in arguments[2:]):
        raise UnsupportedNode("padding with anything but zeros")
    return View(torch.nn.functional.pad(value.places, list(sizes), value=ZERO))
