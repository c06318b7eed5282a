"""The attention half of a transformer block as commands: LayerNorm, Q, K, V transposed, attention, projection."""

from __future__ import annotations

import numpy as np

from tessera.golden.integer.parameters import QuantisedAttention, QuantisedLayer, QuantisedLinear
from tessera.hw.isa import Destination, Follow, Function, Opcode, Unit
from tessera.program.commands import CommandKind, Label, Phase, Span
from tessera.program.layouts.rows import Rows, RowsOf, Transposed
from tessera.program.layouts.tiles import ExponentialTiles, QueryScaleTiles, ScoreTiles
from tessera.program.tensors import Tensor, tensor_name
from tessera.sw.compiler.emission import NOTHING, Emitter, Order, Product, span_of
from tessera.sw.compiler.weights import pad_axis, parameter_bytes, spread
from tessera.sw.cycles import bound

PLAIN = {
    "windows": 1,
    **dict.fromkeys(("query_window", "key_window", "value_window", "destination_window"), 0),
    **dict.fromkeys(("bias_words", "bias_base", "bias_shared"), 0),
}
"""Fields of an ATTENTION of all tokens at once without a bias."""


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

    def attend(self, layer: QuantisedLayer, order: Order) -> None:
        """Emit one layer's attention, from LayerNorm, which runs in this ``order``, to the residual stream."""
        emitter, g, model, projection = self._emitter, self._geometry, self._model, layer.attention.projection
        emitter.phase = Phase.ATTENTION
        normed = emitter.rows("norm1", model.tokens, model.dim)
        emitter.norm(CommandKind.NORM1, layer.norm1, normed, order=order)
        rows = Follow.NORM
        for heads in emitter.plan.tiling.heads(g):
            self._mix(layer.attention, normed.layout, heads, follow=rows)
            rows = Follow.NOTHING
        columns = spread(projection.weight, 1, model.head_dim, g.head_words * self._config.lanes)
        emitter.linear(
            Label(CommandKind.PROJECTION),
            Product(
                linear=QuantisedLinear(**{**vars(projection), "weight": columns}),
                tensor=emitter.residual("residual_attention"),
                source=emitter.base("attention"),
                words=g.heads_words,
                steps=model.tokens,
                destination=Destination.RESIDUAL_ADD,
            ),
            Order(after=Unit.ENGINE),
        )

    def _mix(self, attention: QuantisedAttention, normed: Rows, heads: range, *, follow: Follow) -> None:
        """Q, K, V and attention of some heads; ``follow`` is of the first product."""
        emitter, g, model = self._emitter, self._geometry, self._model
        span = span_of("head", heads, model.heads)
        q, k = (emitter.heads(part, heads) for part in ("q", "k"))
        # The first group's weights come beside Q and K, the others' beside the attention before.
        weights = None if follow else self._stage(attention.v, heads, span)
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
        weights = weights or self._stage(attention.v, heads, span)
        value = self._value(attention.v, normed, weights, heads, span)
        mixed = emitter.heads("attention", heads, beside=True)
        emitter.emit(
            Opcode.ATTENTION,
            Label(CommandKind.ATTENTION, span),
            *self._attention_tensors(heads),
            mixed,
            work=bound.attention(
                self._config,
                queries=model.tokens,
                keys=model.tokens,
                heads=len(heads),
                head_dim=model.head_dim,
                value_dim=model.head_dim,
            ),
            order=Order(after=Unit.ENGINE),
            query_base=q.layout.base,
            query_stride=q.layout.stride,
            key_base=k.layout.base,
            key_stride=k.layout.stride,
            value_base=value.base,
            value_stride=value.stride,
            destination_base=mixed.layout.base,
            destination_stride=mixed.layout.stride,
            queries=model.tokens,
            keys=model.tokens,
            heads=len(heads),
            head_words=g.head_words,
            value_words=g.head_words,
            **PLAIN,
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

    def _attention_tensors(self, heads: range) -> tuple[Tensor, ...]:
        """Scores, exponentials and query scales: tiles of P queries through double buffers."""
        c, model = self._config, self._model
        tiles = {"elements": c.elements, "first_head": heads.start}
        pairs = (len(heads), model.tokens, model.tokens)
        halves = c.attention_buffer(0), c.attention_buffer(1)
        exponentials = ExponentialTiles(
            shape=pairs, lanes=c.lanes, base=halves[0] + c.query_words, room=halves[1] - halves[0], **tiles
        )
        scales = (
            self._emitter.tensor(part, "query", QueryScaleTiles(shape=pairs[:2], base=2 * index, **tiles))
            for index, part in enumerate(("query_multiplier", "query_shift"))
        )
        return (
            self._emitter.tensor("scores", "score", ScoreTiles(shape=pairs, room=c.max_tokens, **tiles)),
            self._emitter.tensor("exponentials", "exponential", exponentials),
            *scales,
        )

    def _stage(self, linear: QuantisedLinear, heads: range, span: Span | None) -> Rows:
        """Stage V's weights of some heads."""
        g = self._geometry
        if np.any(linear.bias):
            name = tensor_name("v", self._emitter.layer)
            raise ValueError(f"{name} has a bias; fold it into the projection's, as attention weights sum to 1")
        channels = len(heads) * g.head_words * self._config.lanes
        linear = self._emitter.pad_outputs(self._of_heads(linear, heads), channels, heads=True)
        weights = self._emitter.rows("v_weights", channels, self._model.dim, of=RowsOf.OUTPUTS)
        matrix = self._emitter.narrow(pad_axis(linear.weight, 1, g.dim_words * self._config.lanes))
        self._emitter.emit(
            Opcode.STAGE,
            Label(CommandKind.VALUE_WEIGHTS, span),
            weights,
            order=Order(after=NOTHING),
            **self._emitter.block(matrix.view(np.uint8).reshape(-1)),
            destination_base=weights.layout.base,
            words=channels * g.dim_words,
        )
        return weights.layout

    def _value(
        self, linear: QuantisedLinear, normed: Rows, weights: Rows, heads: range, span: Span | None
    ) -> Transposed:
        """Multiply with the staged weights, roles swapped, so that V is written transposed."""
        g, model, channels = self._geometry, self._model, weights.shape[0]
        linear = self._emitter.pad_outputs(self._of_heads(linear, heads), channels, heads=True)
        value = Transposed(
            shape=(model.tokens, len(heads) * model.head_dim),
            lanes=self._config.lanes,
            stride=g.token_words,
            base=self._emitter.base("v"),
            block=model.head_dim,
            first_channel=heads.start * model.head_dim,
        )
        self._emitter.emit(
            Opcode.LINEAR,
            Label(CommandKind.VALUE, span),
            self._emitter.tensor("v", "scratchpad", value),
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
            stationary_window=0,
            windows=1,
            channels=channels,
            destination_base=value.base,
            destination_stride=value.stride,
            destination_window=0,
            destination=Destination.ACTIVATION,
            function=Function.NONE,
            swapped=1,
            gather=0,
            scatter=0,
            list=0,
            wide=0,
            broadcast_unsigned=0,
            function_multiplier=0,
            function_shift=0,
        )
        return value
