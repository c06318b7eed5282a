"""Attention as operations: Q, K, V transposed, attention.

V's weights are staged while Q and K are computed: the engine has read what lay in their place before it took Q.
Attention needs all of Q, K and V.

Where not all heads fit on chip they go through Q, K, V and attention in groups, each in the place of the one before.
V's weights of the next group are staged while the attention of this one is computed, which needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.golden.integer.parameters import QuantisedAttention, QuantisedLinear, QuantisedProduct
from tessera.golden.integer.steps import AttentionStep, ProductStep, Rows
from tessera.hw.isa import Destination, Opcode, Unit
from tessera.program.commands import Span
from tessera.program.layouts.rows import Rows as RowsLayout
from tessera.program.layouts.rows import RowsOf, Transposed
from tessera.program.layouts.tiles import ExponentialTiles, QueryScaleTiles, ScoreTiles
from tessera.program.tensors import Tensor
from tessera.sw.compiler.context import Context, span_of
from tessera.sw.compiler.emission import Emitter, Product
from tessera.sw.compiler.operations import Access, Operation, Order
from tessera.sw.compiler.weights import pad_axis, parameter_bytes
from tessera.sw.cycles import bound


@dataclass(frozen=True)
class _Group:
    """Some heads of an attention."""

    step: AttentionStep
    heads: range

    @property
    def span(self) -> Span | None:
        """How commands name them."""
        return span_of("head", self.heads, self.step.heads)

    def size(self, step: ProductStep | AttentionStep) -> int:
        """Channels of one head of a tensor."""
        return step.channels // self.step.heads

    def channels(self, step: ProductStep) -> int:
        """Channels of a tensor's heads in the group."""
        return len(self.heads) * self.size(step)


class AttentionLowering:
    """Operations of one attention and of the products that make its queries, keys and values."""

    def __init__(self, context: Context, step: AttentionStep) -> None:
        self._context, self._step, self._sizes = context, step, context.sizes
        self._query, self._key, self._value = (self._product(rows) for rows in step.reads)

    def lower(self) -> None:
        """Append them, group by group."""
        context, sizes, step = self._context, self._sizes, self._step
        groups = [_Group(step, heads) for heads in context.cuts.heads(step)]
        largest = len(groups[0].heads)
        for part in (self._query, self._key):
            context.region(part.name, part.rows * largest * sizes.words(groups[0].size(part)))
        width = largest * sizes.channels(groups[0].size(self._value))
        context.region(self._value.name, width * sizes.words(self._value.rows))
        context.region(self._weights, width * sizes.row_words(self._value.source.tensor))
        context.region(step.name, step.rows * sizes.row_words(step.name))
        for index, group in enumerate(groups):
            # The first group's weights come beside Q and K, the others' beside the attention before.
            if index:
                self._stage(group)
            for part in (self._query, self._key):
                self._rows(part, group)
            if not index:
                self._stage(group)
            self._transposed(group)
            self._attend(group)

    def _product(self, rows: Rows) -> ProductStep:
        """The product that makes queries, keys or values."""
        found = self._sizes.plan.by_name[rows.tensor]
        assert isinstance(found, ProductStep), f"{self._step.name} reads {rows.tensor}, which no product makes"
        return found

    @property
    def _weights(self) -> str:
        """Region of V's weights."""
        return f"{self._value.name}.weights"

    def _linear(self, emitter: Emitter, step: ProductStep, group: _Group) -> QuantisedLinear:
        """The output channels of some heads."""
        linear, size = emitter.model.of(step.name, QuantisedProduct).linear, group.size(step)
        channels = slice(group.heads.start * size, group.heads.stop * size)
        return QuantisedLinear(**{name: np.asarray(values)[channels] for name, values in vars(linear).items()})

    def _heads(self, emitter: Emitter, step: Any, group: _Group, *, beside: bool = False) -> Tensor[RowsLayout]:
        """Q, K or the attention's result of some heads: every head starts at a word.

        With ``beside`` their rows hold the other heads, too; without, rows of these heads follow each other.
        """
        size = group.size(step)
        words, heads = self._sizes.words(size), group.heads
        return emitter.rows(
            step.name,
            step.name,
            "scratchpad",
            (step.rows, len(heads) * size),
            stride=words * (self._step.heads if beside else len(heads)),
            base=emitter.bases[step.name] + (heads.start * words if beside else 0),
            block=size,
            first_channel=heads.start * size,
        )

    def _rows(self, step: ProductStep, group: _Group) -> None:
        """Queries or keys of some heads."""
        context, sizes = self._context, self._sizes

        def emit(emitter: Emitter, order: Order) -> None:
            words = sizes.row_words(step.source.tensor)
            emitter.linear(
                context.label(step, span=group.span),
                Product(
                    linear=self._linear(emitter, step, group),
                    tensor=self._heads(emitter, step, group),
                    source=emitter.bases[context.where(step.source.tensor)] + step.source.start * words,
                    words=words,
                    steps=step.rows,
                    destination=Destination.ACTIVATION,
                    channels=len(group.heads) * sizes.channels(group.size(step)),
                    block=group.size(step),
                ),
                order,
            )

        context.add(
            Operation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(context.access(step.source),),
                writes=(Access(region=step.name, rows=step.rows),),
                row_by_row=True,
                in_rows=True,
                tasks=step.tasks,
            )
        )

    def _stage(self, group: _Group) -> None:
        """V's weights of some heads."""
        step, sizes, context = self._value, self._sizes, self._context
        channels = len(group.heads) * sizes.channels(group.size(step))

        def emit(emitter: Emitter, order: Order) -> None:
            linear = self._linear(emitter, step, group)
            padded = emitter.pad_outputs(linear, channels, group.size(step))
            inputs = linear.weight.shape[1]
            words = sizes.words(inputs)
            matrix = emitter.narrow(pad_axis(padded.weight, 1, words * emitter.config.lanes))
            weights = emitter.rows(self._weights, self._weights, "scratchpad", (channels, inputs), of=RowsOf.OUTPUTS)
            emitter.emit(
                Opcode.STAGE,
                context.label(step, whole=self._weights, span=group.span),
                weights,
                order=order,
                **emitter.block(matrix.view(np.uint8).reshape(-1)),
                destination_base=weights.layout.base,
                words=channels * words,
            )

        context.add(Operation(unit=Unit.STREAM, emit=emit, writes=(Access(region=self._weights),), tasks=step.tasks))

    def _transposed(self, group: _Group) -> None:
        """V: multiply with the staged weights, roles swapped, so that it is written transposed."""
        step, sizes, context = self._value, self._sizes, self._context
        channels = len(group.heads) * sizes.channels(group.size(step))

        def emit(emitter: Emitter, order: Order) -> None:
            linear = self._linear(emitter, step, group)
            padded = emitter.pad_outputs(linear, channels, group.size(step))
            words = sizes.row_words(step.source.tensor)
            value = Transposed(
                shape=(step.rows, group.channels(step)),
                lanes=emitter.config.lanes,
                stride=sizes.words(step.rows),
                base=emitter.bases[step.name],
                block=group.size(step),
                first_channel=group.heads.start * group.size(step),
            )
            emitter.emit(
                Opcode.LINEAR,
                context.label(step, span=group.span),
                Tensor(name=step.name, space="scratchpad", layout=value),
                order=order,
                work=bound.linear(
                    emitter.config,
                    macs=step.rows * linear.weight.size,
                    steps=channels,
                    stationary_rows=step.rows,
                    words=words,
                ),
                **emitter.block(parameter_bytes(padded.bias, padded.multiplier, padded.shift)),
                broadcast_base=emitter.bases[self._weights],
                broadcast_stride=words,
                steps=channels,
                words=words,
                stationary_base=emitter.bases[context.where(step.source.tensor)] + step.source.start * words,
                stationary_stride=words,
                stationary_rows=step.rows,
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

        context.add(
            Operation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(Access(region=self._weights), context.access(step.source)),
                writes=(Access(region=step.name, rows=step.rows),),
                tasks=step.tasks,
            )
        )

    def _attend(self, group: _Group) -> None:
        """Attention of some heads."""
        step, context = self._step, self._context

        def emit(emitter: Emitter, order: Order) -> None:
            constants = emitter.model.of(step.name, QuantisedAttention)
            query, key = (self._heads(emitter, part, group).layout for part in (self._query, self._key))
            mixed = self._heads(emitter, step, group, beside=True)
            size = group.size(step)
            emitter.emit(
                Opcode.ATTENTION,
                context.label(step, span=group.span),
                *self._tiles(emitter, group),
                mixed,
                order=order,
                work=bound.attention(emitter.config, tokens=step.rows, heads=len(group.heads), head_dim=size),
                query_base=query.base,
                query_stride=query.stride,
                key_base=key.base,
                key_stride=key.stride,
                value_base=emitter.bases[self._value.name],
                value_stride=self._sizes.words(self._value.rows),
                destination_base=mixed.layout.base,
                destination_stride=mixed.layout.stride,
                tokens=step.rows,
                heads=len(group.heads),
                head_words=self._sizes.words(size),
                **vars(constants),
            )

        parts = (self._query, self._key, self._value)
        context.add(
            Operation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=tuple(Access(region=part.name, rows=part.rows) for part in parts),
                writes=(Access(region=step.name, rows=step.rows),),
                settles=True,
                tasks=step.tasks,
            )
        )

    def _tiles(self, emitter: Emitter, group: _Group) -> tuple[Tensor, ...]:
        """Scores, exponentials and query scales: tiles of P queries through double buffers."""
        config, step = emitter.config, self._step
        tiles = {"elements": config.elements, "first_head": group.heads.start}
        pairs = (len(group.heads), self._query.rows, self._key.rows)
        halves = config.attention_buffer(0), config.attention_buffer(1)
        exponentials = ExponentialTiles(
            shape=pairs, lanes=config.lanes, base=halves[0] + config.query_words, room=halves[1] - halves[0], **tiles
        )
        scales = (
            Tensor(
                name=step.inner(part), space="query", layout=QueryScaleTiles(shape=pairs[:2], base=2 * index, **tiles)
            )
            for index, part in enumerate(("query_multiplier", "query_shift"))
        )
        scores = ScoreTiles(shape=pairs, room=config.max_tokens, **tiles)
        return (
            Tensor(name=step.inner("scores"), space="score", layout=scores),
            Tensor(name=step.inner("exponentials"), space="exponential", layout=exponentials),
            *scales,
        )
