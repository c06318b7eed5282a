"""Handlers of PyTorch's operators by operator, and what they have in common: tensors behind views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tessera.golden.network.operators import Parameter
from tessera.sw.models.exported.builder import Builder, Made
from tessera.sw.models.exported.nodes import place_of
from tessera.sw.models.exported.reader import Check, Handler, Reader, UnsupportedNode
from tessera.sw.models.exported.values import ZERO, AttentionScores, Fixed, ScaledView, View

aten = torch.ops.aten
HANDLERS: dict[Any, Handler] = {}
"""What makes operators of ours, by the operator of PyTorch."""

CHECKS: dict[Any, Check] = {}
"""What refuses operators of PyTorch by their arguments alone, also where what they get is not known."""


def handles(*targets: Any) -> Callable[[Handler], Handler]:
    """Register a handler for operators of PyTorch."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(targets, handler))
        return handler

    return register


def checks(*targets: Any) -> Callable[[Check], Check]:
    """Register a check of the arguments of operators of PyTorch."""

    def register(check: Check) -> Check:
        CHECKS.update(dict.fromkeys(targets, check))
        return check

    return register


def rows_made(reader: Reader, node: fx.Node, view: View) -> Made:
    """A view's last axis as channels and all others as rows."""
    place, part = place_of(node, "rows")
    return reader.builder.matrix(view.places.reshape(-1, view.shape[-1]), place, part)


def whole_tensor(builder: Builder, view: View) -> tuple[Made, Tensor] | None:
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


def arranged_like(view: View, made: Made, order: Tensor) -> View:
    """What was made value by value of a whole tensor, arranged as a view of that tensor."""
    return View((order + made.base).reshape(view.shape))


def without_factor(value: View | ScaledView | AttentionScores) -> tuple[View, float]:
    """A view, and the number that it is multiplied with."""
    if isinstance(value, AttentionScores):
        raise UnsupportedNode(
            "scores of attention; the nearest is softmax of them, scaled and with a bias, times values"
        )
    return (value.view, value.factor) if isinstance(value, ScaledView) else (value, 1.0)


def weight_parameter(reader: Reader, fixed: Fixed, factor: float | Tensor = 1.0) -> Parameter:
    """Keep weights, times a factor."""
    value = fixed.tensor.detach().float()
    return reader.builder.weight(fixed.name or "weight", value * factor)


def map_view(reader: Reader, made: Made, size: Sequence[int], place: str) -> View:
    """A map's tensor as (1, channels, rows, columns)."""
    rows = int(size[0]) * int(size[1])
    made = reader.builder.arranged(made, (rows, made.channels), place, "tokens")
    return View(reader.builder.view(made, 1, int(size[0]), int(size[1]), made.channels).places.permute(0, 3, 1, 2))


def pair_of(value: Any) -> tuple[int, int]:
    """A number for each of two axes, given as one or two."""
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    return (int(found[0]), int(found[-1]))
