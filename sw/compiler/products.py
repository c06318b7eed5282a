"""Products as operations: activations, MLPs in blocks of tokens, sums onto the residual stream, and results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tessera.golden.integer.parameters import QuantisedProduct
from tessera.golden.integer.steps import AttentionStep, ProductStep, Step
from tessera.hw.isa import Destination, Opcode, Unit
from tessera.program.commands import CommandKind, Phase
from tessera.program.layouts.rows import ApartRows, Rows
from tessera.program.memory_map import Output
from tessera.program.tensors import Tensor
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.convolutions import CORNERS, Corner, Windows
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
        self._done = {rows.tensor for step in self._plan.of_kind(AttentionStep) for rows in step.reads}

    def lower(self, step: ProductStep) -> None:
        """Append the operations of one product, unless they came with others."""
        if step.name in self._done:
            return
        if step.swapped:
            SwappedLowering(self._context, step).lower()
        elif step.taps is not None:
            self._convolve(step)
        elif self._context.is_result(step):
            self._result(step)
        else:
            self._region(step)
            self._rows(step)

    def _region(self, step: ProductStep) -> None:
        if step.residual:
            self._context.stream(step, step.onto)
        else:
            rows = len(self._context.block.held.get(step.name, range(step.rows)))
            self._context.region(step.name, rows * self._sizes.row_words(step.name))

    # Products ---------------------------------------------------------------------------------------------------------

    def _rows(self, step: ProductStep) -> None:
        """A product of rows, in as many commands as its lists need."""
        rows = range(step.rows if step.onto is None else len(step.onto))
        source = operand(self._context, step)
        before = self._context.first(step)
        for part in source.parts(rows):
            label = self._context.label(step, rows=part if len(part) < len(rows) else None)
            self._command(step, source.some(part), part, before + part.start, label)

    def _command(self, step: ProductStep, source: Operand, rows: range, written: int, label: Label) -> None:
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
            emitter.linear(label, product, order)

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
        assert step.taps is not None
        context, rows = self._context, range(step.rows if step.onto is None else len(step.onto))
        result = context.is_result(step)
        self._region(step)
        written = context.first(step)
        tiled = context.where(step.name) in context.tiled
        for corner in CORNERS if step.taps.enlarges else (None,):

            def emit(emitter: Emitter, order: Order, corner: Corner | None = corner) -> None:
                tensor = self._tensor(emitter, step, rows, written, tiled)
                self._emit_windows(emitter, step, tensor, corner, order)

            context.add(
                MachineOperation(
                    unit=Unit.ENGINE,
                    emit=emit,
                    reads=(context.access(step.source), *load_function(context, step)),
                    writes=(RegionAccess(region=context.where(step.name), first=written, rows=len(rows)),),
                    in_rows=corner is None,
                    alone=result,
                    tasks=step.tasks,
                )
            )
        if result:
            for task, found in enumerate(self._plan.results):
                if found.tensor == step.name:
                    self._store(task, step, rows, 0, self._golden(step, rows))

    def _emit_windows(
        self, emitter: Emitter, step: ProductStep, tensor: Tensor[Rows], corner: Corner | None, order: Order
    ) -> None:
        """Append a product of windows, or a corner of an enlarged map."""
        context, quantised = self._context, emitter.model.of(step.name, QuantisedProduct)
        windows, linear, layout = Windows.of(step, self._sizes), quantised.linear, tensor.layout
        channels = self._sizes.channels(len(linear.weight))
        base = emitter.bases[context.where(step.source.tensor)] + step.source.start * windows.stride
        if corner is None:
            fields = windows.fields(base, channels, layout.base, layout.stride)
        else:
            fields = windows.corner_fields(corner, base, channels, layout.base, layout.stride)
            linear = replace(linear, weight=linear.weight[:, corner.taps])
            tensor = replace(tensor, layout=_apart(layout, corner.rows(windows.taps.made)))
        outputs = emitter.pad_outputs(replace(linear, weight=windows.matrix(linear.weight)), channels)
        work = bound.linear(
            emitter.config,
            macs=fields["steps"] * linear.weight.size,
            steps=fields["steps"],
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
            padding=quantised.padding,
            destination=self._destination(step),
            function=code_of(step.function),
            broadcast_unsigned=int(self._sizes.unsigned(step.source.tensor)),
            function_multiplier=quantised.function_multiplier,
            function_shift=quantised.function_shift,
        )

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
        fields["first_row"] = rows.start + (0 if self._context.is_result(step) else self._context.first(step))
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
        context.region(step.name, room * words, "residual")
        tasks = [task for task, rows in enumerate(self._plan.results) if rows.tensor == step.name]
        source = operand(context, step)
        for first in range(0, step.rows, room):
            rows = range(first, min(first + room, step.rows))
            for part in source.parts(rows):
                self._part(step, source.some(part), part, part.start - first)
            for task in tasks:
                self._store(task, step, rows, 0, self._golden(step, rows))

    def _golden(self, step: Step, rows: range) -> int:
        """The first of rows that are on chip, in the whole tensor."""
        return int(self._context.block.rows(step.name, rows.start, 1)[0])

    def _part(self, step: ProductStep, source: Operand, rows: range, written: int) -> None:
        """Rows of a result, from row ``written`` of its region on."""
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
            emitter.linear(context.label(step), product, order)

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(source.access, *entries),
                writes=(RegionAccess(region=context.where(step.name), first=written, rows=len(rows)),),
                alone=True,
                tasks=step.tasks,
            )
        )

    def store_streams(self) -> None:
        """Append the stores of results that are no product of their own."""
        for task, rows in enumerate(self._plan.results):
            step = self._plan.by_name[rows.tensor]
            if not self._context.is_result(step):
                self._store(task, step, range(rows.start, rows.start + len(rows)), rows.start, 0)

    def _store(self, task: int, step: Step, rows: range, place: int, at: int) -> None:
        """The store of ``rows`` that are on chip: the first's place in its region, and in the result."""
        context, words = self._context, self._sizes.words(step.channels)
        name, region = context.network.tasks[task].name, context.where(step.name)
        tiled = region in context.tiled

        def emit(emitter: Emitter, order: Order) -> None:
            shape, base = (len(rows), step.channels), at * words
            shown = emitter.stream_rows(step.name, region, "memory", shape, tiled, base=base, first_row=rows.start)
            emitter.emit(
                Opcode.STORE,
                Label(whole=f"store.{name}", kind=CommandKind.STORE, phase=Phase.OUTPUT, task_mask=1 << task),
                shown,
                order=order,
                source_base=emitter.bases[region] + place * words,
                source_stride=words,
                rows=len(rows),
                words=words,
                offset=4 * base * emitter.config.lanes,
            )

        context.add(
            MachineOperation(
                unit=Unit.STORE,
                emit=emit,
                reads=(RegionAccess(region=region, first=place, rows=len(rows)),),
                alone=True,
                tasks=(task,),
            )
        )


def _apart(layout: Rows, rows: np.ndarray) -> ApartRows:
    """Some rows of a layout, where they are."""
    first = layout.first_row
    return ApartRows(
        shape=(len(rows), layout.shape[1]),
        lanes=layout.lanes,
        stride=layout.stride,
        base=layout.base,
        first_row=first,
        first_channel=layout.first_channel,
        padding=layout.padding,
        signed=layout.signed,
        listed=tuple(int(row) + first for row in rows),
        elements=layout.tile,
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
