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

from tessera.golden.integer.parameters import BIAS_PARTS, QuantisedAttention, QuantisedLinear
from tessera.golden.integer.steps import AttentionStep, ProductStep, RowSelection
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Destination, Function, Opcode, Unit
from tessera.program.commands import Span
from tessera.program.layouts.rows import Rows, RowsOf, Transposed
from tessera.program.layouts.tiles import ExponentialTiles, QueryScaleTiles, ScoreTiles
from tessera.program.tensors import Tensor
from tessera.sw.compiler.context import Context, span_of
from tessera.sw.compiler.cuts import parts
from tessera.sw.compiler.emission import UNLISTED, Emitter, Product
from tessera.sw.compiler.operands import Operand, layer, load_list, operand
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.compiler.weights import pad_axis, parameter_bytes
from tessera.sw.cycles import bound

_STAGED_SHARE = 4
"""Part of the scratchpad that V's staged weights may take."""


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
        whole = context.sizes.plan.by_name[step.name]
        assert isinstance(whole, AttentionStep)
        self._several = whole.windows > 1
        first = int(context.block.rows(step.name, 0, 1)[0])
        self._first_window, self._first_query = divmod(first, whole.rows // whole.windows)
        # Keys and values of a block before, which this one has in common with it.
        self._known = self._key.name in context.block.done

    def lower(self) -> None:
        """Append them, group by group."""
        context, sizes, step = self._context, self._sizes, self._step
        # Blocks that have keys in common take all heads at a time: those of a group would be gone by the next.
        lasting = self._key.name in context.block.lasting
        groups = [_Group(step, heads) for heads in parts(step.heads, 1 if lasting else context.head_groups)]
        largest = len(groups[0].heads)
        for part in (self._query, self._key):
            context.region(part.name, part.rows * largest * sizes.words(groups[0].size(part)))
        width = largest * sizes.channels(groups[0].size(self._value))
        context.region(self._value.name, width * step.windows * self._key_words)
        chunks = [self._chunks(group) for group in groups]
        staged = len(chunks[0][0].heads) * sizes.channels(groups[0].size(self._value))
        context.region(self._weights, staged * self._value_words)
        context.region(step.name, step.rows * sizes.row_words(step.name))
        for index, group in enumerate(groups):
            first, *others = chunks[index]
            if self._known:
                self._rows(self._query, group)
                self._windows(group)
                continue
            # The first group's weights come beside Q and K, the others' beside the attention before.
            if index:
                self._stage(first)
            for part in (self._query, self._key):
                self._rows(part, group)
            if not index:
                self._stage(first)
            self._transposed(first, group)
            for chunk in others:
                self._stage(chunk)
                self._transposed(chunk, group)
            self._windows(group)

    def _chunks(self, group: _Group) -> list[_Group]:
        """A group's heads in parts whose weights of V leave room on chip for the rest."""
        sizes, heads = self._sizes, group.heads
        each = sizes.channels(group.size(self._value)) * self._value_words
        most = max(1, sizes.config.scratchpad_words // _STAGED_SHARE // each)
        return [_Group(self._step, heads[first : first + most]) for first in range(0, len(heads), most)]

    @property
    def _value_words(self) -> int:
        """Words of a row that values are made of."""
        return self._sizes.row_words(self._value.source.tensor) * self._value.source.fold

    @property
    def _keys(self) -> int:
        """Keys of a window."""
        return self._key.rows // self._step.windows

    @property
    def _key_words(self) -> int:
        """Words of a window's keys along the lanes, as V transposed has them."""
        return self._sizes.words(self._keys)

    def _product(self, rows: RowSelection) -> ProductStep:
        """The product that makes queries, keys or values."""
        found = self._context.step(rows.tensor)
        assert isinstance(found, ProductStep), f"{self._step.name} reads {rows.tensor}, which no product makes"
        return found

    @property
    def _weights(self) -> str:
        """Region of V's weights."""
        return f"{self._value.name}.weights"

    def _linear(self, emitter: Emitter, step: ProductStep, group: _Group) -> QuantisedLinear:
        """The output channels of some heads."""
        linear, size = layer(self._context, emitter, step), group.size(step)
        channels = slice(group.heads.start * size, group.heads.stop * size)
        return QuantisedLinear(**{name: np.asarray(values)[channels] for name, values in vars(linear).items()})

    def _heads(
        self, emitter: Emitter, step: Any, group: _Group, *, beside: bool = False, rows: range | None = None
    ) -> Tensor[Rows]:
        """Q, K or the attention's result of some heads, of all or some ``rows``: every head starts at a word.

        With ``beside`` their rows hold the other heads, too; without, rows of these heads follow each other.
        """
        size, rows = group.size(step), range(step.rows) if rows is None else rows
        words, heads = self._sizes.words(size), group.heads
        stride = words * (self._step.heads if beside else len(heads))
        return emitter.rows(
            step.name,
            self._context.where(step.name),
            "scratchpad",
            (len(rows), len(heads) * size),
            stride=stride,
            base=emitter.bases[self._context.where(step.name)]
            + rows.start * stride
            + (heads.start * words if beside else 0),
            first_row=rows.start,
            block=size,
            first_channel=heads.start * size,
        )

    def _rows(self, step: ProductStep, group: _Group) -> None:
        """Queries or keys of some heads."""
        source = operand(self._context, step)
        for part in source.parts(range(step.rows)):
            self._some_rows(step, group, source.some(part), part)

    def _some_rows(self, step: ProductStep, group: _Group, source: Operand, rows: range) -> None:
        """Some rows of them in one command."""
        context, sizes, entries = self._context, self._sizes, load_list(self._context, step, source)

        def emit(emitter: Emitter, order: Order) -> None:
            emitter.linear(
                context.label(step, span=group.span),
                Product(
                    linear=self._linear(emitter, step, group),
                    tensor=self._heads(emitter, step, group, rows=rows),
                    source=emitter.bases[source.region] + source.skipped,
                    words=source.words,
                    steps=len(rows),
                    destination=Destination.ACTIVATION,
                    channels=len(group.heads) * sizes.channels(group.size(step)),
                    block=group.size(step),
                    unsigned=sizes.unsigned(step.source.tensor),
                    listed=entries[0].first if entries else None,
                ),
                order,
            )

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(source.access, *entries),
                writes=(RegionAccess(region=context.where(step.name), first=rows.start, rows=len(rows)),),
                row_by_row=source.rows.plain,
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
            region = context.where(self._weights)
            weights = emitter.rows(self._weights, region, "scratchpad", (channels, inputs), of=RowsOf.OUTPUTS)
            emitter.emit(
                Opcode.STAGE,
                context.label(step, whole=self._weights, span=group.span),
                weights,
                order=order,
                **emitter.block(matrix.view(np.uint8).reshape(-1)),
                destination_base=weights.layout.base,
                words=channels * words,
            )

        context.add(
            MachineOperation(
                unit=Unit.STREAM,
                emit=emit,
                writes=(RegionAccess(region=context.where(self._weights)),),
                tasks=step.tasks,
            )
        )

    def _transposed(self, group: _Group, whole: _Group) -> None:
        """V of some heads of a ``whole`` group: multiply with the staged weights, roles swapped, so that it is written
        transposed.
        """
        step, sizes, context = self._value, self._sizes, self._context
        source = operand(context, step)
        before = (group.heads.start - whole.heads.start) * sizes.channels(group.size(step))
        channels = len(group.heads) * sizes.channels(group.size(step))

        def emit(emitter: Emitter, order: Order) -> None:
            linear = self._linear(emitter, step, group)
            padded = emitter.pad_outputs(linear, channels, group.size(step))
            words, windows = source.words, self._step.windows
            value = self._value_layout(emitter, group, before)
            emitter.emit(
                Opcode.LINEAR,
                context.label(step, span=group.span),
                Tensor(name=step.name, space="scratchpad", layout=value),
                order=order,
                work=bound.linear(
                    emitter.config,
                    macs=step.rows * linear.weight.size,
                    steps=channels,
                    stationary_rows=self._keys,
                    words=words,
                    windows=windows,
                ),
                **emitter.block(parameter_bytes(padded.bias, padded.multiplier, padded.shift)),
                broadcast_base=emitter.bases[context.where(self._weights)],
                broadcast_stride=words,
                steps=channels,
                words=words,
                stationary_base=emitter.bases[source.region] + source.skipped,
                stationary_stride=words,
                stationary_rows=self._keys,
                stationary_window=self._keys * words if windows > 1 else 0,
                windows=windows,
                channels=channels,
                destination_base=value.base,
                destination_stride=value.stride,
                destination_window=value.window_stride,
                destination=Destination.ACTIVATION,
                function=Function.NONE,
                swapped=1,
                **UNLISTED,
                wide=0,
                broadcast_unsigned=0,
                function_multiplier=0,
                function_shift=0,
            )

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(RegionAccess(region=context.where(self._weights)), source.access),
                writes=(RegionAccess(region=context.where(step.name), rows=step.rows),),
                tasks=step.tasks,
            )
        )

    def _value_layout(self, emitter: Emitter, group: _Group, before: int) -> Transposed:
        """Where V of some heads lies, ``before`` channels behind the first that the scratchpad holds."""
        step, windows = self._value, self._step.windows
        return Transposed(
            shape=(step.rows, group.channels(step)),
            lanes=emitter.config.lanes,
            stride=windows * self._key_words,
            base=emitter.bases[self._context.where(step.name)] + before * windows * self._key_words,
            block=group.size(step),
            first_row=int(self._context.block.rows(step.name, 0, 1)[0]),
            first_channel=group.heads.start * group.size(step),
            window=self._keys if windows > 1 else None,
            window_stride=self._key_words if windows > 1 else 0,
        )

    def _windows(self, group: _Group) -> None:
        """Attention of some heads: a command for each run of windows with one bias, behind the table of that bias."""
        step = self._step
        if step.bias is None:
            self._attend(group, range(step.windows), table=False)
            return
        shape = self._context.network.weights[step.bias.tensor]
        runs = [range(step.windows)] if len(shape) == 3 else [range(one, one + 1) for one in range(step.windows)]
        for windows in runs:
            self._stage_bias(group, windows.start)
            self._attend(group, windows, table=True)

    @property
    def _table(self) -> str:
        """Region of the table of bias."""
        return f"{self._step.name}.bias"

    def _stage_bias(self, group: _Group, window: int) -> None:
        """The table of a window's bias, for some heads."""
        context, step, config = self._context, self._step, self._sizes.config
        queries = step.rows // step.windows
        tiles = -(-queries // config.elements)
        most = config.elements + len(group.heads) * tiles * self._keys
        context.region(self._table, BIAS_PARTS * most)

        def emit(emitter: Emitter, order: Order) -> None:
            constants = emitter.model.of(step.name, QuantisedAttention)
            part = range(self._first_query, self._first_query + queries)
            table = bias_table(constants, group.heads, self._first_window + window, part, config)
            region = context.where(self._table)
            words = emitter.rows(self._table, region, "scratchpad", table.shape, of=RowsOf.OUTPUTS)
            emitter.emit(
                Opcode.STAGE,
                context.label(step, whole=self._table, span=group.span),
                words,
                order=order,
                **emitter.block(emitter.narrow(table).view(np.uint8).reshape(-1)),
                destination_base=words.layout.base,
                words=len(table),
            )

        context.add(
            MachineOperation(
                unit=Unit.STREAM,
                emit=emit,
                writes=(RegionAccess(region=context.where(self._table)),),
                tasks=step.tasks,
            )
        )

    def _attend(self, group: _Group, windows: range, *, table: bool) -> None:
        """Attention of some heads in some windows."""
        step, context = self._step, self._context

        def emit(emitter: Emitter, order: Order) -> None:
            self._emit_attention(emitter, order, group, windows)

        parts = (self._query, self._key, self._value)
        tables = (RegionAccess(region=context.where(self._table)),) if table else ()
        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(*(RegionAccess(region=context.where(part.name), rows=part.rows) for part in parts), *tables),
                writes=(RegionAccess(region=context.where(step.name), rows=step.rows),),
                settles=True,
                tasks=step.tasks,
            )
        )

    def _emit_attention(self, emitter: Emitter, order: Order, group: _Group, windows: range) -> None:
        step, sizes, several = self._step, self._sizes, len(windows) > 1
        constants = emitter.model.of(step.name, QuantisedAttention)
        query, key = (self._heads(emitter, part, group).layout for part in (self._query, self._key))
        queries, key_size, value_size = step.rows // step.windows, group.size(self._key), group.size(self._value)
        mixed = self._heads(
            emitter, step, group, beside=True, rows=range(windows.start * queries, windows.stop * queries)
        )
        parts = 0 if constants.bias is None else len(constants.bias)
        first, value_stride = windows.start, step.windows * self._key_words
        emitter.emit(
            Opcode.ATTENTION,
            self._context.label(step, span=group.span),
            *self._tiles(emitter, group, windows),
            mixed,
            order=order,
            work=bound.attention(
                emitter.config,
                queries=queries,
                keys=self._keys,
                heads=len(group.heads),
                head_dim=key_size,
                value_dim=value_size,
                windows=len(windows),
                bias_words=parts,
            ),
            query_base=query.base + first * queries * query.stride,
            query_stride=query.stride,
            query_window=queries * query.stride if several else 0,
            key_base=key.base + first * self._keys * key.stride,
            key_stride=key.stride,
            key_window=self._keys * key.stride if several else 0,
            value_base=emitter.bases[self._context.where(self._value.name)] + first * self._key_words,
            value_stride=value_stride,
            value_window=self._key_words if several else 0,
            destination_base=mixed.layout.base,
            destination_stride=mixed.layout.stride,
            destination_window=queries * mixed.layout.stride if several else 0,
            windows=len(windows),
            queries=queries,
            keys=self._keys,
            heads=len(group.heads),
            head_words=sizes.words(key_size),
            value_words=sizes.words(value_size),
            bias_words=parts,
            bias_base=emitter.bases[self._context.where(self._table)] if parts else 0,
            bias_shared=0,
            score_multiplier=constants.score_multiplier,
            score_shift=constants.score_shift,
            output_multiplier=constants.output_multiplier,
            output_shift=constants.output_shift,
        )

    def _tiles(self, emitter: Emitter, group: _Group, windows: range) -> tuple[Tensor, ...]:
        """Scores, exponentials and query scales: tiles of P queries through double buffers."""
        config, step = emitter.config, self._step
        tiles: dict[str, Any] = {"elements": config.elements, "first_head": group.heads.start}
        pairs: tuple[int, ...] = (len(group.heads), step.rows // step.windows, self._keys)
        if self._several:
            pairs = (len(windows), *pairs)
            tiles["first_window"] = self._first_window + windows.start
        else:
            tiles["first_query"] = self._first_query
        halves = config.attention_buffer(0), config.attention_buffer(1)
        exponentials = ExponentialTiles(
            shape=pairs, lanes=config.lanes, base=halves[0] + config.query_words, room=halves[1] - halves[0], **tiles
        )
        scales = (
            Tensor(
                name=step.inner(part), space="query", layout=QueryScaleTiles(shape=pairs[:-1], base=2 * index, **tiles)
            )
            for index, part in enumerate(("query_multiplier", "query_shift"))
        )
        scores = ScoreTiles(shape=pairs, room=config.max_tokens, **tiles)
        return (
            Tensor(name=step.inner("scores"), space="score", layout=scores),
            Tensor(name=step.inner("exponentials"), space="exponential", layout=exponentials),
            *scales,
        )


def bias_table(
    constants: QuantisedAttention, heads: range, window: int, part: range, config: AcceleratorConfig
) -> np.ndarray:
    """Words of the table of bias, (words, T), for some queries of a window: see ``tessera.hw.isa.FIELDS``."""
    assert constants.bias is not None and constants.bias_factors is not None
    bias = constants.bias if constants.bias.ndim == 4 else constants.bias[:, window]
    bias = bias[:, :, part.start : part.stop]
    parts, (_, queries, keys) = len(bias), bias.shape[1:]
    p, tiles = config.elements, -(-queries // config.elements)
    factors = np.zeros((p, parts, config.lanes), np.int64)
    factors[np.arange(p), :, np.arange(p)] = constants.bias_factors
    padded = np.zeros((parts, len(heads), tiles * p, keys), np.int64)
    padded[:, :, :queries] = bias[:, heads.start : heads.stop]
    words = padded.reshape(parts, len(heads), tiles, p, keys).transpose(1, 2, 4, 0, 3)
    table = np.zeros((*words.shape[:-1], config.lanes), np.int64)
    table[..., :p] = words
    return np.concatenate([factors.reshape(-1, config.lanes), table.reshape(-1, config.lanes)])
