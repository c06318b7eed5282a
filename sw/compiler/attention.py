"""The attention half of a transformer block as commands: LayerNorm, Q, K, V transposed, attention, projection."""

from __future__ import annotations

from typing import Any

import numpy as np

from golden.integer.parameters import QuantisedAttention, QuantisedLayer, QuantisedLinear
from hw.isa import Destination, Follow, Opcode, Unit
from program.commands import CommandKind, Label, Phase, Span
from program.tensors import Tensor
from sw.compiler.emission import NOTHING, Emitter, Order, Product, span_of
from sw.compiler.weights import pad_axis, parameter_bytes, spread
from sw.cycles import bound


class AttentionLowering:
    """Emits the attention of each layer; its tensors take turns in the scratchpad as the plan says.

    Q follows LayerNorm, which follows what it normalises. V's weights are staged while Q and K are computed: the engine
    has read what lay in their place before it took Q. Attention needs all of Q, K and V, the projection all heads.

    Where not all heads fit on chip they go through Q, K, V and attention in groups, each in the place of the one
    before: when the engine takes a product it has read all that the command before needed. V's weights of the next
    group are staged while the attention of this one is computed, which needs none.

    Parameters
    ----------
    emitter:
        Collector of the commands.
    """

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._geometry, self._config, self._model = emitter.geometry, emitter.config, emitter.model

    def attend(self, layer: QuantisedLayer, name: str, order: Order) -> None:
        """Emit one layer's attention, from LayerNorm, which runs in this ``order``, to the residual stream."""
        emitter, g, model, projection = self._emitter, self._geometry, self._model, layer.attention.projection
        emitter.phase = Phase.ATTENTION
        normed = emitter.tensor(f"{name}.norm1", model.tokens, model.dim)
        emitter.norm(CommandKind.NORM1, layer.norm1, normed, order=order)
        rows = Follow.NORM
        for heads in emitter.plan.tiling.heads(g):
            self._mix(layer.attention, normed, name, heads, follow=rows)
            rows = Follow.NOTHING
        columns = spread(projection.weight, 1, model.head_dim, g.head_words * self._config.lanes)
        emitter.linear(
            Label(CommandKind.PROJECTION),
            Product(
                linear=QuantisedLinear(**{**vars(projection), "weight": columns}),
                tensor=emitter.residual(f"{name}.residual_attention"),
                source=emitter.plan.bases[f"{name}.attention"],
                words=g.heads_words,
                steps=model.tokens,
                destination=Destination.RESIDUAL_ADD,
            ),
            Order(after=Unit.ENGINE),
        )

    def _mix(self, attention: QuantisedAttention, normed: Tensor, name: str, heads: range, *, follow: Follow) -> None:
        """Q, K, V and attention of some heads; ``follow`` is of the first product."""
        emitter, g, model = self._emitter, self._geometry, self._model
        span = span_of("head", heads, model.heads)
        q, k = (emitter.heads(f"{name}.{kind}", heads) for kind in ("q", "k"))
        # The first group's weights come beside Q and K, the others' beside the attention before.
        weights = None if follow else self._stage(attention.v, name, heads, span)
        for kind, linear, tensor, rows in (
            (CommandKind.QUERY, attention.q, q, follow),
            (CommandKind.KEY, attention.k, k, Follow.NOTHING),
        ):
            emitter.linear(
                Label(kind, span),
                Product(
                    linear=self._of_heads(linear, heads),
                    tensor=tensor,
                    source=normed.base,
                    words=g.dim_words,
                    steps=model.tokens,
                    destination=Destination.ACTIVATION,
                    channels=len(heads) * g.head_words * self._config.lanes,
                    heads=True,
                ),
                Order(after=NOTHING, follow=rows),
            )
        weights = weights or self._stage(attention.v, name, heads, span)
        value = self._value(attention.v, normed, weights, name, heads, span)
        mixed = emitter.heads(f"{name}.attention", heads)
        base, stride = mixed.base + heads.start * g.head_words, g.heads_words
        extent = (model.tokens - 1) * stride + mixed.stride
        mixed = Tensor(**{**vars(mixed), "base": base, "stride": stride, "extent": extent})
        emitter.emit(
            Opcode.ATTENTION,
            Label(CommandKind.ATTENTION, span),
            *self._attention_tensors(name, heads),
            mixed,
            work=bound.attention(self._config, tokens=model.tokens, heads=len(heads), head_dim=model.head_dim),
            order=Order(after=Unit.ENGINE),
            query_base=q.base,
            query_stride=q.stride,
            key_base=k.base,
            key_stride=k.stride,
            value_base=value.base,
            value_stride=value.stride,
            destination_base=mixed.base,
            destination_stride=mixed.stride,
            tokens=model.tokens,
            heads=len(heads),
            head_words=g.head_words,
            score_multiplier=attention.score_multiplier,
            score_shift=attention.score_shift,
            output_multiplier=attention.output_multiplier,
            output_shift=attention.output_shift,
        )

    def _of_heads(self, linear: QuantisedLinear, heads: range) -> QuantisedLinear:
        """The output channels of some heads."""
        size = self._model.head_dim
        channels = slice(heads.start * size, heads.stop * size)
        return QuantisedLinear(**{name: np.asarray(values)[channels] for name, values in vars(linear).items()})

    def _attention_tensors(self, name: str, heads: range) -> tuple[Tensor, ...]:
        """Scores, exponentials and query scales: tiles of P queries through double buffers."""
        c, model = self._config, self._model
        shape = (len(heads), model.tokens, model.tokens)
        common: dict[str, Any] = {
            "shape": shape,
            "elements": c.elements,
            "padding": None,
            "first_row": heads.start,
        }
        scores = Tensor(
            name=f"{name}.scores",
            space="score",
            layout="scores",
            room=c.max_tokens,
            extent=c.max_tokens + model.tokens,
            lanes=c.elements,
            **common,
        )
        room = c.attention_buffer(1) - c.attention_buffer(0)
        exponentials = Tensor(
            name=f"{name}.exponentials",
            space="exponential",
            layout="exponentials",
            base=c.attention_buffer(0) + c.query_words,
            room=room,
            extent=room + self._geometry.token_words,
            lanes=c.lanes,
            signed=False,
            **common,
        )
        scales = (
            Tensor(
                name=f"{name}.{part}",
                space="query",
                layout="queries",
                base=2 * index,
                room=1,
                extent=2,
                lanes=c.elements,
                signed=False,
                **{**common, "shape": shape[:2]},
            )
            for index, part in enumerate(("query_multiplier", "query_shift"))
        )
        return scores, exponentials, *scales

    def _stage(self, linear: QuantisedLinear, name: str, heads: range, span: Span | None) -> Tensor:
        """Stage V's weights of some heads."""
        g = self._geometry
        if np.any(linear.bias):
            raise ValueError(f"{name}.v has a bias; fold it into the projection's, as attention weights sum to 1")
        channels = len(heads) * g.head_words * self._config.lanes
        linear = self._emitter.pad_outputs(self._of_heads(linear, heads), channels, heads=True)
        weights = self._emitter.tensor(f"{name}.v_weights", channels, self._model.dim)
        matrix = self._emitter.narrow(pad_axis(linear.weight, 1, g.dim_words * self._config.lanes))
        self._emitter.emit(
            Opcode.STAGE,
            Label(CommandKind.VALUE_WEIGHTS, span),
            weights,
            order=Order(after=NOTHING),
            **self._emitter.block(matrix.view(np.uint8).reshape(-1)),
            destination_base=weights.base,
            words=channels * g.dim_words,
        )
        return weights

    def _value(
        self, linear: QuantisedLinear, normed: Tensor, weights: Tensor, name: str, heads: range, span: Span | None
    ) -> Tensor:
        """Multiply with the staged weights, roles swapped, so that V is written transposed."""
        g, model, channels = self._geometry, self._model, weights.shape[0]
        linear = self._emitter.pad_outputs(self._of_heads(linear, heads), channels, heads=True)
        value = self._emitter.heads(f"{name}.v", heads)
        changes = {"layout": "transposed", "stride": g.token_words, "extent": channels * g.token_words}
        value = Tensor(**{**vars(value), **changes})
        self._emitter.emit(
            Opcode.LINEAR,
            Label(CommandKind.VALUE, span),
            value,
            work=bound.linear(
                self._config,
                macs=model.tokens * model.dim * len(heads) * model.head_dim,
                steps=channels,
                stationary_rows=model.tokens,
                words=g.dim_words,
            ),
            order=Order(after=Unit.STREAM),
            **self._emitter.block(parameter_bytes(linear.bias, linear.multiplier, linear.shift)),
            broadcast_base=weights.base,
            broadcast_stride=g.dim_words,
            steps=channels,
            words=g.dim_words,
            stationary_base=normed.base,
            stationary_stride=normed.stride,
            stationary_rows=model.tokens,
            channels=channels,
            destination_base=value.base,
            destination_stride=value.stride,
            destination=Destination.ACTIVATION,
            gelu=0,
            swapped=1,
            wide=0,
            broadcast_unsigned=0,
            gelu_multiplier=0,
            gelu_shift=0,
        )
        return value
