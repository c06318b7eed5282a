"""Operators of PyTorch that only move values."""

from __future__ import annotations

import torch

aten = torch.ops.aten

MOVES = frozenset(
    {
        aten.alias.default,
        aten.chunk.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.detach.default,
        aten.detach_.default,
        aten.expand.default,
        aten.expand_as.default,
        aten.flatten.using_ints,
        aten.flip.default,
        aten.index_select.default,
        aten.mT.default,
        aten.movedim.int,
        aten.movedim.intlist,
        aten.narrow.default,
        aten.permute.default,
        aten.pixel_shuffle.default,
        aten.pixel_unshuffle.default,
        aten.reshape.default,
        aten.reshape_as.default,
        aten.view_as.default,
        aten.roll.default,
        aten.select.int,
        aten.slice.Tensor,
        aten.split.Tensor,
        aten.split_with_sizes.default,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.t.default,
        aten.transpose.int,
        aten.unbind.int,
        aten.unflatten.int,
        aten.unsqueeze.default,
        aten.view.default,
        aten._unsafe_view.default,
    }
)
"""They are carried out on the places of values."""

LIKE = frozenset({aten.expand_as.default, aten.reshape_as.default, aten.view_as.default})
"""Of these, those that take the shape of another tensor."""

SAME = frozenset(
    {
        aten.alpha_dropout.default,
        aten.dropout.default,
        aten.dropout_.default,
        aten.feature_dropout.default,
        aten.lift_fresh_copy.default,
        aten.to.dtype,
        aten.to.dtype_layout,
        aten._assert_tensor_metadata.default,
    }
)
"""At inference they give back what they got."""

KEPT = MOVES | SAME
"""No operator of ours is made of them."""

SHAPES = frozenset({aten.view.default, aten.reshape.default})
"""They are carried out on scores, too, where queries and keys stay the last two axes."""
