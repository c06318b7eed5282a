"""Products as operations: activations, MLPs in blocks of tokens, sums onto the residual stream, and results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tessera.golden.integer.parameters import QuantisedProduct
from tessera.golden.integer.steps import AttentionStep, ProductStep, Step
from tessera.hw.isa import Destination, Opcode, Unit
from tessera.program.commands import CommandKind, Phase
from tessera.program.memory_map import Output
from tessera.sw.compiler.context import Context, span_of
from tessera.sw.compiler.convolutions import Windows
from tessera.sw.compiler.cuts import mlps
from tessera.sw.compiler.emission import Emitter, Label, Product
from tessera.sw.compiler.functions import code_of, load_function, zero_activation
from tessera.sw.compiler.operands import Operand, layer, load_list, operand, written_channels
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.compiler.swapped import SwappedLowering
from tessera.sw.cycles import bound


class ProductLowering:
    """Operations of products, and of the stores of what they leave.

    Attributes
    ----------
    outputs:
        Results of the tasks, by index.
    """

    def __init__(self, context: Context) -> None:
        self._context, self._sizes = context, context.sizes
        self._plan = context.sizes.plan
        blocked = mlps(self._plan) if context.cuts.token_blocks > 1 else {}
        self._firsts = {second.name: first for first, second in blocked}
        self._done = {rows.tensor for step in self._plan.of_kind(AttentionStep) for rows in step.reads}
        self._done |= {first.name for first in self._firsts.values()}  # comes with the second

    def lower(self, step: ProductStep) -> None:
        """Append the operations of one product, unless they came with others."""
        if step.name in self._done:
            return
        if step.swapped:
            SwappedLowering(self._context, step).lower()
        elif step.taps is not None:
            self._convolve(step)
        elif step.name in self._firsts:
            self._blocks(self._firsts[step.name], step)
        elif self._context.is_result(step):
            self._result(step)
        else:
            self._region(step)
            self._rows(step, range(step.rows if step.onto is None else len(step.onto)))

    def _blocks(self, first: ProductStep, second: ProductStep) -> None:
        """An MLP in blocks of tokens; the next norm, of all tokens, follows the rows of the last block."""
        blocks = self._context.cuts.tokens(first.rows)
        self._context.region(first.name, len(blocks[0]) * self._sizes.words(first.channels))
        self._region(second)
        shared: dict[str, list[dict[str, Any]]] = {}
        for rows in blocks:
            for step in (first, second):
                self._rows(step, rows, in_block=True, shared=shared)

    def _region(self, step: ProductStep) -> None:
        if step.residual:
            self._context.stream(step, step.onto)
        else:
            self._context.region(step.name, step.rows * self._sizes.words(step.channels))

    # Products ---------------------------------------------------------------------------------------------------------

    def _rows(
        self,
        step: ProductStep,
        rows: range,
        *,
        in_block: bool = False,
        shared: dict[str, list[dict[str, Any]]] | None = None,
    ) -> None:
        """Some rows of a product; all of them but in blocks, of which ``shared`` keeps the weights' places."""
        source, shared = operand(self._context, step), {} if shared is None else shared
        hidden = in_block and not step.residual  # in the place of the block before
        blocked = in_block and step.residual  # what it reads is of the block alone
        before = 0 if step.onto is None else step.onto.start
        for part in source.parts(rows):
            inside = range(part.start - rows.start, part.stop - rows.start)
            span = span_of("token", part, step.rows) if in_block or len(part) < len(rows) else None
            written = inside.start if hidden else before + part.start
            label = self._context.label(step, span=span)
            self._command(step, source.some(inside if blocked else part), part, written, label, shared)

    def _command(
        self,
        step: ProductStep,
        source: Operand,
        rows: range,
        written: int,
        label: Label,
        shared: dict[str, list[dict[str, Any]]],
    ) -> None:
        """Rows of a product in one command: which of the step they are, and the first of the region."""
        context = self._context
        entries, table = load_list(context, step, source), load_function(context, step)
        tiled = context.where(step.name) in context.tiled

        def emit(emitter: Emitter, order: Order) -> None:
            skipped, words = self._inputs(step, source)
            product = Product(
                linear=layer(context, emitter, step),
                tensor=self._tensor(emitter, step, rows, written, tiled),
                source=emitter.bases[source.region] + source.skipped + skipped,
                words=words,
                stride=source.words,
                steps=len(source.rows),
                destination=self._destination(step),
                function=code_of(step.function),
                requantise=self._requantise(emitter, step),
                unsigned=self._sizes.unsigned(step.source.tensor),
                listed=entries[0].first if entries else None,
                parts=source.parts_of_row,
            )
            shared[step.name] = emitter.linear(label, product, order, blocks=shared.get(step.name, ()))

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(source.access, *entries, *table),
                writes=(RegionAccess(region=context.where(step.name), first=written, rows=len(rows)),),
                row_by_row=source.rows.plain,
                in_rows=source.parts_of_row == 1,
                tasks=step.tasks,
            )
        )

    def _convolve(self, step: ProductStep) -> None:
        """A product of windows, whole; it reads rows in no order that it could follow."""
        context, rows = self._context, range(step.rows if step.onto is None else len(step.onto))
        result = context.is_result(step)
        self._region(step)
        written = 0 if step.onto is None else step.onto.start
        tiled = context.where(step.name) in context.tiled

        def emit(emitter: Emitter, order: Order) -> None:
            windows, linear = Windows.of(step, self._sizes), emitter.model.of(step.name, QuantisedProduct).linear
            tensor = self._tensor(emitter, step, rows, written, tiled)
            channels = self._sizes.channels(len(linear.weight))
            outputs = emitter.pad_outputs(replace(linear, weight=windows.matrix(linear.weight)), channels)
            base = emitter.bases[context.where(step.source.tensor)] + step.source.start * windows.stride
            fields = windows.fields(base, channels, tensor.layout.stride)
            multiplier, shift = self._requantise(emitter, step)
            work = bound.linear(
                emitter.config,
                macs=len(rows) * linear.weight.size,
                steps=len(rows),
                stationary_rows=channels,
                words=windows.words,
            )
            emitter.emit(
                Opcode.CONVOLUTION,
                context.label(step),
                tensor,
                order=order,
                work=work,
                **emitter.block(emitter.linear_block(outputs, windows.words)),
                **fields,
                padding=emitter.model.of(step.name, QuantisedProduct).padding,
                destination_base=tensor.layout.base,
                destination=self._destination(step),
                function=code_of(step.function),
                broadcast_unsigned=int(self._sizes.unsigned(step.source.tensor)),
                function_multiplier=multiplier,
                function_shift=shift,
            )

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(context.access(step.source), *load_function(context, step)),
                writes=(RegionAccess(region=context.where(step.name), first=written, rows=len(rows)),),
                in_rows=True,
                alone=result,
                tasks=step.tasks,
            )
        )
        if result:
            for task, found in enumerate(self._plan.results):
                if found.tensor == step.name:
                    self._store(task, step, context.where(step.name), rows, 0)

    def _inputs(self, step: ProductStep, source: Operand) -> tuple[int, int]:
        """Words of a row of the source that are skipped, and those that are read."""
        if step.inputs is None:
            return 0, source.words
        start, stop = step.inputs
        return start // self._sizes.config.lanes, self._sizes.words(stop - start)

    def _tensor(self, emitter: Emitter, step: ProductStep, rows: range, written: int, tiled: bool) -> Any:
        """Where rows of a product go; ``rows`` are those of the operator, ``written`` the first of the region.

        ``tiled``: whether the padding of the stream that they are added to holds anything.
        """
        region = self._context.where(step.name)
        channels, words = written_channels(self._context, step), self._sizes.words(step.channels)
        shape = (len(rows), channels.stop - channels.start)
        first = emitter.bases[region] + written * words + self._sizes.words(channels.start)
        fields: dict[str, Any] = {"base": first, "stride": words, "first_channel": channels.start}
        fields["first_row"] = rows.start + (0 if step.onto is None else step.onto.start)
        if step.residual:
            return emitter.stream_rows(step.name, region, "residual", shape, tiled, **fields)
        if step.function is not None:
            quantised = emitter.model.of(step.name, QuantisedProduct)
            multiplier, shift = quantised.function_multiplier, quantised.function_shift
            fields |= {
                "signed": False,
                "padding": zero_activation(step.function, multiplier, shift, emitter.config.numerics),
            }
        return emitter.rows(step.name, region, "scratchpad", shape, **fields)

    def _destination(self, step: ProductStep) -> Destination:
        if not step.residual:
            return Destination.ACTIVATION
        if step.factor:
            return Destination.RESIDUAL_MULTIPLY
        return Destination.RESIDUAL_SET if step.onto is None else Destination.RESIDUAL_ADD

    def _requantise(self, emitter: Emitter, step: ProductStep) -> tuple[int, int]:
        quantised = emitter.model.of(step.name, QuantisedProduct)
        return quantised.function_multiplier, quantised.function_shift

    # Results ----------------------------------------------------------------------------------------------------------

    def _result(self, step: ProductStep) -> None:
        """As many rows at a time as the residual memory holds, and the store of each."""
        context, words = self._context, self._sizes.words(step.channels)
        room = max(1, min(step.rows, self._sizes.config.residual_words // words))
        region = context.region(step.name, room * words, "residual")
        blocks: list[dict[str, Any]] = []
        tasks = [task for task, rows in enumerate(self._plan.results) if rows.tensor == step.name]
        source = operand(context, step)
        for first in range(0, step.rows, room):
            rows = range(first, min(first + room, step.rows))
            for part in source.parts(rows):
                self._part(step, source.some(part), part, part.start - first, blocks)
            for task in tasks:
                self._store(task, step, region, rows, first)

    def _part(
        self, step: ProductStep, source: Operand, rows: range, written: int, blocks: list[dict[str, Any]]
    ) -> None:
        """Rows of a result, from row ``written`` of its region on; ``blocks`` are where its weights lie."""
        context = self._context
        entries = load_list(context, step, source)

        def emit(emitter: Emitter, order: Order) -> None:
            product = Product(
                linear=layer(context, emitter, step),
                tensor=self._tensor(emitter, step, rows, written, tiled=False),
                source=emitter.bases[source.region] + source.skipped,
                words=source.words,
                steps=len(rows),
                destination=Destination.RESIDUAL_SET,
                unsigned=self._sizes.unsigned(step.source.tensor),
                listed=entries[0].first if entries else None,
            )
            blocks[:] = emitter.linear(context.label(step), product, order, blocks=blocks)

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(source.access, *entries),
                writes=(RegionAccess(region=step.name, first=written, rows=len(rows)),),
                alone=True,
                tasks=step.tasks,
            )
        )

    def store_streams(self) -> None:
        """Append the stores of results that are no product of their own."""
        for task, rows in enumerate(self._plan.results):
            step = self._plan.by_name[rows.tensor]
            if not self._context.is_result(step):
                self._store(task, step, self._context.where(step.name), range(len(rows)), rows.start)

    def _store(self, task: int, step: Step, region: str, rows: range, first: int) -> None:
        """The store of rows of a region; ``rows`` are those of the result, ``first`` the first of them in memory."""
        context, words = self._context, self._sizes.words(step.channels)
        name = context.network.tasks[task].name
        alone, tiled = context.is_result(step), region in context.tiled

        def emit(emitter: Emitter, order: Order) -> None:
            start = 0 if alone else first
            shown = emitter.stream_rows(
                step.name,
                region,
                "memory",
                (len(rows), step.channels),
                tiled,
                base=rows.start * words,
                first_row=rows.start if alone else first,
            )
            emitter.emit(
                Opcode.STORE,
                Label(whole=f"store.{name}", kind=CommandKind.STORE, phase=Phase.OUTPUT, task_mask=1 << task),
                shown,
                order=order,
                source_base=emitter.bases[region] + start * words,
                source_stride=words,
                rows=len(rows),
                words=words,
                offset=4 * rows.start * words * emitter.config.lanes,
            )

        context.add(
            MachineOperation(
                unit=Unit.STORE,
                emit=emit,
                reads=(RegionAccess(region=region, first=0 if alone else first, rows=len(rows)),),
                alone=True,
                tasks=(task,),
            )
        )


def outputs(context: Context) -> list[Output]:
    """Result of each task, in the order of the tasks."""
    plan, sizes = context.sizes.plan, context.sizes
    found = []
    for task, rows in zip(context.network.tasks, plan.results, strict=True):
        channels = plan.by_name[rows.tensor].channels
        row_bytes = 4 * sizes.words(channels) * sizes.config.lanes
        found.append(Output(task=task.name, shape=(len(rows), channels), row_bytes=row_bytes))
    return found
