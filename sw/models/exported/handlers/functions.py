"""Norms and activation functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tessera.golden.network.operators import Activate, ActivationFunction, Normalise, NormKind
from tessera.sw.models.exported.handlers.registry import (
    HANDLERS,
    arranged_like,
    handles,
    rows_made,
    weight_parameter,
    whole_tensor,
)
from tessera.sw.models.exported.handlers.sums import with_factor
from tessera.sw.models.exported.nodes import place_of
from tessera.sw.models.exported.reader import Handler, Reader, UnsupportedNode
from tessera.sw.models.exported.values import ZERO, Fixed, ScaledView, View

aten = torch.ops.aten


@handles(aten.layer_norm.default)
def _layer_norm(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, shape, weight, bias, epsilon = arguments[:5]
    return _norm(reader, node, value, shape, NormKind.LAYER, weight, bias, epsilon)


@handles(aten.rms_norm.default)
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
    view = with_factor(reader, value)
    place, part = place_of(node)
    parts = _parts_of_rows(reader, view)
    if parts is None:
        source = rows_made(reader, node, view)
    else:  # heads of queries or keys: each row of a matrix has several
        rows = reader.builder.matrix(parts.reshape(-1, parts.shape[1] * parts.shape[2]), place, "rows")
        source = reader.builder.arranged(rows, (parts.shape[0] * parts.shape[1], parts.shape[2]), place, "parts")
    gain = Fixed(torch.ones(shape[0]), ".".join([*filter(None, [place, part]), "weight"])) if weight is None else weight
    made = reader.builder.add(
        Normalise(
            place=place,
            part=reader.builder.free(place, part),
            source=source.name,
            weight=weight_parameter(reader, gain),
            bias=None if bias is None else weight_parameter(reader, bias),
            epsilon=float(epsilon),
            kind=kind,
        ),
        (source.rows, source.channels),
    )
    if parts is not None:
        order = view.places.reshape(-1, view.shape[-1])[:, 0].argsort().argsort()
        return View((made.base + order[:, None] * made.channels + torch.arange(made.channels)).reshape(view.shape))
    return reader.builder.view(made, *view.shape)


def _parts_of_rows(reader: Reader, view: View) -> Tensor | None:
    """Places (rows, parts, channels) where a view's last axis has several equal parts of each row of one tensor.

    Rows and parts are in the tensor's order. None for any other view.
    """
    flat = view.places.reshape(-1, view.shape[-1])
    if (flat == ZERO).any() or not (flat.diff(dim=1) == 1).all():
        return None
    flat = flat[flat[:, 0].argsort()]
    source = reader.builder.source(int(flat[0, 0]))
    row = (flat[:, 0] - source.base) // source.channels
    counts = row.unique_consecutive(return_counts=True)[1]
    parts = int(counts[0])
    if parts == 1 or int(flat.max()) >= source.base + source.rows * source.channels or not (counts == parts).all():
        return None
    split = flat.reshape(-1, parts, flat.shape[1])
    return split if (split[:, 1:, 0] == split[:, :-1, -1] + 1).all() else None


def _function(function: ActivationFunction) -> Handler:
    def handler(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
        chosen = function
        if node.target is aten.gelu.default and arguments[1] == "tanh":
            chosen = ActivationFunction.GELU_TANH
        view = with_factor(reader, arguments[0])
        whole = whole_tensor(reader.builder, view)
        source = whole[0] if whole else rows_made(reader, node, view)
        place, part = place_of(node, str(chosen))
        made = reader.builder.add(
            Activate(place=place, part=reader.builder.free(place, part), source=source.name, function=chosen),
            (source.rows, source.channels),
        )
        return arranged_like(view, made, whole[1]) if whole else reader.builder.view(made, *view.shape)

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
