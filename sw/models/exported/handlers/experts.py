"""Mixtures of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from tessera.golden.mixture import MIX_EXPERTS
from tessera.golden.network.operators import MixExperts
from tessera.sw.models.exported.handlers.registry import handles, rows_made
from tessera.sw.models.exported.handlers.sums import with_factor
from tessera.sw.models.exported.nodes import place_of
from tessera.sw.models.exported.reader import Reader
from tessera.sw.models.exported.values import View

aten = torch.ops.aten


@handles(MIX_EXPERTS)
def _mix_experts(reader: Reader, node: fx.Node, arguments: Sequence[Any]) -> View:
    value, gate, embedding, *layers, top_k = arguments[:8]
    view = with_factor(reader, value)
    source = rows_made(reader, node, view)
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
