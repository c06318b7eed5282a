"""Products as operations: activations, MLPs in blocks of tokens, sums onto the residual stream, and results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tessera.golden.integer.parameters import QuantisedLinear, QuantisedProduct
from tessera.golden.integer.steps import AttentionStep, PatchStep, ProductStep, Step
from tessera.hw.isa import Destination, Opcode, Unit
from tessera.program.commands import CommandKind, Phase
from tessera.program.memory_map import Output
from tessera.sw.compiler.context import Context, span_of
from tessera.sw.compiler.convolutions import Windows
from tessera.sw.compiler.cuts import mlps
from tessera.sw.compiler.emission import Emitter, Label, Product
from tessera.sw.compiler.functions import code_of, load_function, zero_activation
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.compiler.swapped import SwappedLowering
from tessera.sw.compiler.weights import spread
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
        self._mlps = mlps(self._plan) if context.cuts.token_blocks > 1 else {}
        self._done = {rows.tensor for step in self._plan.of_kind(AttentionStep) for rows in step.reads}

    def lower(self, step: ProductStep) -> None:
        """Append the operations of one product, unless they came with others."""
        if step.name in self._done:
            return
        if step.swapped:
            SwappedLowering(self._context, step).lower()
        elif step.taps is not None:
            self._convolve(step)
        elif step.name in self._mlps:
            self._blocks(step, self._mlps[step.name])
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
        self._done.add(second.name)
        shared: dict[str, dict[str, Any]] = {}
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
        shared: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Some rows of a product; all of them but in blocks, of which ``shared`` keeps the weights' places."""
        context, source = self._context, step.source
        hidden = in_block and not step.residual  # in the place of the block before
        blocked = in_block and step.residual  # what it reads is of the block alone
        first = 0 if blocked else source.start + rows.start
        written = 0 if hidden else rows.start if step.onto is None else step.onto.start + rows.start

        def emit(emitter: Emitter, order: Order) -> None:
            stride = self._sizes.row_words(source.tensor)
            skipped, words = self._inputs(step)
            product = Product(
                linear=self._linear(emitter, step),
                tensor=self._tensor(emitter, step, rows, written),
                source=emitter.bases[context.where(source.tensor)] + first * stride + skipped,
                words=words,
                stride=stride,
                steps=len(rows),
                destination=self._destination(step),
                function=code_of(step.function),
                requantise=self._requantise(emitter, step),
                unsigned=self._unsigned(source.tensor),
            )
            known = None if shared is None else shared.get(step.name)
            label = context.label(step, span=span_of("token", rows, step.rows) if in_block else None)
            block = emitter.linear(label, product, order, block=known)
            if shared is not None:
                shared[step.name] = block

        region = context.where(source.tensor)
        table = load_function(context, step)
        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(RegionAccess(region=region, first=first, rows=len(rows)), *table),
                writes=(RegionAccess(region=context.where(step.name), first=written, rows=len(rows)),),
                row_by_row=True,
                in_rows=True,
                tasks=step.tasks,
            )
        )

    def _convolve(self, step: ProductStep) -> None:
        """A product of windows, whole; it reads rows in no order that it could follow."""
        context, rows = self._context, range(step.rows if step.onto is None else len(step.onto))
        result = context.is_result(step)
        self._region(step)
        written = 0 if step.onto is None else step.onto.start

        def emit(emitter: Emitter, order: Order) -> None:
            windows, linear = Windows.of(step, self._sizes), emitter.model.of(step.name, QuantisedProduct).linear
            tensor = self._tensor(emitter, step, rows, written)
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
                broadcast_unsigned=int(self._unsigned(step.source.tensor)),
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

    def _inputs(self, step: ProductStep) -> tuple[int, int]:
        """Words of a row of the source that are skipped, and those that are read."""
        if step.inputs is None:
            return 0, self._sizes.row_words(step.source.tensor)
        start, stop = step.inputs
        assert start % self._sizes.config.lanes == 0, f"{step.name}: its inputs begin within a word"
        return start // self._sizes.config.lanes, self._sizes.words(stop - start)

    def _tensor(self, emitter: Emitter, step: ProductStep, rows: range, written: int) -> Any:
        """Where rows of a product go; ``rows`` are those of the operator, ``written`` the first of the region."""
        region = self._context.where(step.name)
        shape = (len(rows), step.channels)
        words = self._sizes.words(step.channels)
        fields: dict[str, Any] = {"base": emitter.bases[region] + written * words}
        fields["first_row"] = rows.start + (0 if step.onto is None else step.onto.start)
        if step.residual:
            return emitter.rows(step.name, region, "residual", shape, **fields)
        if step.function is not None:
            quantised = emitter.model.of(step.name, QuantisedProduct)
            multiplier, shift = quantised.function_multiplier, quantised.function_shift
            fields |= {
                "signed": False,
                "padding": zero_activation(step.function, multiplier, shift, emitter.config.numerics),
            }
        return emitter.rows(step.name, region, "scratchpad", shape, **fields)

    def _linear(self, emitter: Emitter, step: ProductStep) -> QuantisedLinear:
        """A product's integers, with the columns where the source's rows have its channels."""
        linear = emitter.model.of(step.name, QuantisedProduct).linear
        block = self._sizes.block(step.source.tensor)
        if block is None:
            return linear
        columns = spread(linear.weight, 1, block, self._sizes.channels(block))
        return QuantisedLinear(**{**vars(linear), "weight": columns})

    def _destination(self, step: ProductStep) -> Destination:
        if not step.residual:
            return Destination.ACTIVATION
        if step.factor:
            return Destination.RESIDUAL_MULTIPLY
        return Destination.RESIDUAL_SET if step.onto is None else Destination.RESIDUAL_ADD

    def _requantise(self, emitter: Emitter, step: ProductStep) -> tuple[int, int]:
        quantised = emitter.model.of(step.name, QuantisedProduct)
        return quantised.function_multiplier, quantised.function_shift

    def _unsigned(self, name: str) -> bool:
        source = self._plan.by_name[name]
        return isinstance(source, PatchStep) or (isinstance(source, ProductStep) and source.positive)

    # Results ----------------------------------------------------------------------------------------------------------

    def _result(self, step: ProductStep) -> None:
        """As many rows at a time as the residual memory holds, and the store of each."""
        context, words = self._context, self._sizes.words(step.channels)
        room = max(1, min(step.rows, self._sizes.config.residual_words // words))
        region = context.region(step.name, room * words, "residual")
        tasks = [task for task, rows in enumerate(self._plan.results) if rows.tensor == step.name]
        for first in range(0, step.rows, room):
            rows = range(first, min(first + room, step.rows))
            self._part(step, rows, region)
            for task in tasks:
                self._store(task, step, region, rows, first)

    def _part(self, step: ProductStep, rows: range, region: str) -> None:
        context, source = self._context, step.source
        block: dict[str, Any] = {}

        def emit(emitter: Emitter, order: Order) -> None:
            words = self._sizes.row_words(source.tensor)
            tensor = emitter.rows(step.name, region, "residual", (len(rows), step.channels), first_row=rows.start)
            product = Product(
                linear=self._linear(emitter, step),
                tensor=tensor,
                source=emitter.bases[context.where(source.tensor)] + (source.start + rows.start) * words,
                words=words,
                steps=len(rows),
                destination=Destination.RESIDUAL_SET,
                unsigned=self._unsigned(source.tensor),
            )
            emitter.linear(context.label(step), product, order, block=block or None)

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(context.access(source),),
                writes=(RegionAccess(region=region, rows=len(rows)),),
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
        alone = self._context.is_result(step)

        def emit(emitter: Emitter, order: Order) -> None:
            start = 0 if alone else first
            shown = emitter.rows(
                step.name,
                region,
                "memory",
                (len(rows), step.channels),
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
