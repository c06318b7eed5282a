"""Operators that give back what they got: refused where they would change it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tessera.sw.models.exported.handlers.registry import checks
from tessera.sw.models.exported.reader import UnsupportedNode

aten = torch.ops.aten


@checks(aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default, aten.alpha_dropout.default)
def _check_dropout(arguments: Sequence[Any]) -> None:
    probability, training = arguments[1:3]
    if training and probability:
        raise UnsupportedNode(
            f"dropout of {probability:g} that stays on in evaluation; the nearest is nn.Dropout, or dropout with "
            "training=self.training"
        )


@checks(aten.to.dtype)
def _check_dtype(arguments: Sequence[Any]) -> None:
    check_wide(arguments[1])


@checks(aten.to.dtype_layout)
def _check_dtype_layout(arguments: Sequence[Any]) -> None:
    check_wide(arguments[1])


def check_wide(dtype: torch.dtype | None) -> None:
    """UnsupportedNode for a type that has fewer values than float32."""
    if dtype not in (None, torch.float32, torch.float64):
        kind = str(dtype).removeprefix("torch.")
        raise UnsupportedNode(f"a conversion to {kind}; the nearest is float32 throughout")
