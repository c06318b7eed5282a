"""Products with swapped roles: tokens are stationary, and the rows of the matrix, staged on chip, are broadcast.

So the result is written transposed: an output of the matrix is a row, and a row of the source a channel. As many
outputs go at a time as leave room for the rest on chip.
"""

from __future__ import annotations

import numpy as np

from tessera.golden.integer.parameters import QuantisedLinear
from tessera.golden.integer.steps import ProductStep
from tessera.hw.isa import Destination, Function, Opcode, Unit
from tessera.program.layouts.rows import RowsOf, TiledRows
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.emission import UNLISTED, Emitter
from tessera.sw.compiler.operands import layer, operand
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.compiler.weights import pad_axis, parameter_bytes
from tessera.sw.cycles import bound

_SHARE = 8
"""Part of the scratchpad that staged weights may take."""


class SwappedLowering:
    """Operations of one product with swapped roles."""

    def __init__(self, context: Context, step: ProductStep) -> None:
        self._context, self._step, self._sizes = context, step, context.sizes
        self._source = operand(context, step)
        self._words = self._source.words

    def lower(self) -> None:
        """Append them, some outputs at a time."""
        context, step, sizes = self._context, self._step, self._sizes
        outputs = step.matrix.stop - step.matrix.start
        most = max(1, min(outputs, sizes.config.scratchpad_words // _SHARE // self._words))
        context.region(self._weights, most * self._words)
        if step.residual:
            context.tiled.add(context.stream(step, step.onto))
        else:
            context.region(step.name, step.rows * sizes.words(step.channels))
        for first in range(0, outputs, most):
            some = range(first, min(first + most, outputs))
            self._stage(some)
            self._multiply(some)

    @property
    def _weights(self) -> str:
        """Region of the staged weights."""
        return f"{self._step.name}.weights"

    def _linear(self, emitter: Emitter, some: range) -> QuantisedLinear:
        linear = layer(self._context, emitter, self._step)
        picked = slice(some.start, some.stop)
        return QuantisedLinear(**{name: np.asarray(values)[picked] for name, values in vars(linear).items()})

    def _stage(self, some: range) -> None:
        context, step = self._context, self._step

        def emit(emitter: Emitter, order: Order) -> None:
            linear = self._linear(emitter, some)
            shape = (len(some), linear.weight.shape[1])
            matrix = emitter.narrow(pad_axis(linear.weight, 1, self._words * emitter.config.lanes))
            weights = emitter.rows(self._weights, context.where(self._weights), "scratchpad", shape, of=RowsOf.OUTPUTS)
            emitter.emit(
                Opcode.STAGE,
                context.label(step, whole=self._weights),
                weights,
                order=order,
                **emitter.block(matrix.view(np.uint8).reshape(-1)),
                destination_base=weights.layout.base,
                words=len(some) * self._words,
            )

        context.add(
            MachineOperation(
                unit=Unit.STREAM,
                emit=emit,
                writes=(RegionAccess(region=context.where(self._weights)),),
                tasks=step.tasks,
            )
        )

    def _multiply(self, some: range) -> None:
        context, step = self._context, self._step
        first = some.start + context.first(step)

        def emit(emitter: Emitter, order: Order) -> None:
            self._emit(emitter, order, some, first)

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(RegionAccess(region=context.where(self._weights)), self._source.access),
                writes=(RegionAccess(region=context.where(step.name), first=first, rows=len(some)),),
                tasks=step.tasks,
            )
        )

    def _emit(self, emitter: Emitter, order: Order, some: range, first: int) -> None:
        context, step, sizes = self._context, self._step, self._sizes
        linear, rows = self._linear(emitter, some), len(step.source)
        region, stride = context.where(step.name), sizes.words(step.channels)
        tensor = emitter.rows(
            step.name,
            region,
            "residual" if step.residual else "scratchpad",
            (len(some), rows),
            TiledRows,
            base=emitter.bases[region] + first * stride,
            first_row=first,
            elements=emitter.config.elements,
        )
        sets = emitter.pad_outputs(linear, sizes.channels(len(some)))  # the machine reads whole groups of them
        destination = Destination.ACTIVATION
        if step.residual:
            destination = Destination.RESIDUAL_SET if step.onto is None else Destination.RESIDUAL_ADD
        emitter.emit(
            Opcode.LINEAR,
            context.label(step),
            tensor,
            order=order,
            work=bound.linear(
                emitter.config,
                macs=rows * linear.weight.size,
                steps=len(some),
                stationary_rows=rows,
                words=self._words,
            ),
            **emitter.block(parameter_bytes(sets.bias, sets.multiplier, sets.shift)),
            broadcast_base=emitter.bases[context.where(self._weights)],
            broadcast_stride=self._words,
            broadcast_unsigned=0,
            steps=len(some),
            words=self._words,
            stationary_base=emitter.bases[self._source.region] + self._source.skipped,
            stationary_stride=self._words,
            stationary_rows=rows,
            stationary_window=0,
            windows=1,
            channels=len(sets.bias),
            destination_base=tensor.layout.base,
            destination_stride=stride,
            destination_window=0,
            destination=destination,
            function=Function.NONE,
            swapped=1,
            **UNLISTED,
            wide=0,
            function_multiplier=0,
            function_shift=0,
        )
