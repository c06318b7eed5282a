"""From a quantised model's steps to operations, in the order of execution."""

from __future__ import annotations

from typing import Any

import numpy as np

from tessera.golden.integer.parameters import QuantisedLayerNorm, QuantisedStream
from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    Step,
    StreamStep,
)
from tessera.hw.isa import Opcode, Unit
from tessera.program.commands import CommandKind, Phase
from tessera.program.layouts.rows import Rows, RowsOf, WideRows
from tessera.program.tensors import Tensor
from tessera.sw.compiler.attention import AttentionLowering
from tessera.sw.compiler.blocks import RowBlock
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.emission import Emitter, Label
from tessera.sw.compiler.experts import ExpertsLowering
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.compiler.products import ProductLowering
from tessera.sw.compiler.segments import Segment
from tessera.sw.compiler.streams import Streams
from tessera.sw.compiler.weights import pad_axis


def lower(context: Context) -> list[range]:
    """Fill ``context`` with the operations of every step, of the stores of all results, and of END.

    Returns
    -------
    list
        The operations of each segment, by their places.
    """
    streams, places = Streams(context), list[range]()
    lowering = _Lowering(context, streams)
    for number, (segment, some) in enumerate(zip(context.segments, context.cuts.segments, strict=True)):
        first = len(context.operations)
        context.head_groups = some.head_groups
        streams.settle(segment, number, some.blocks)
        blocks = streams.blocks(segment, number, some.blocks)
        _lower_blocks(context, lowering, streams, segment, blocks, number, ahead=some.ahead)
        streams.leave(segment, blocks, number)
        places.append(range(first, len(context.operations)))
    streams.finish()
    lowering.products.store_streams()
    context.add(MachineOperation(unit=None, emit=_end))
    return places


def _lower_blocks(
    context: Context,
    lowering: _Lowering,
    streams: Streams,
    segment: Segment,
    blocks: list[RowBlock],
    number: int,
    *,
    ahead: bool,
) -> None:
    """A segment block by block; ``ahead``: a block's rows are loaded beside the last job of the block before."""
    begin = len(context.operations)
    for block in blocks:
        context.enter(block)
        engine = (place for place in range(len(context.operations) - 1, begin - 1, -1) if _is_job(context, place))
        last = next(engine, len(context.operations)) if ahead else len(context.operations)
        behind = context.operations[last:]
        del context.operations[last:]
        streams.load(block)
        context.operations += behind
        for step in block.steps:
            lowering.step(step)
        streams.store(segment, block, number)


def _is_job(context: Context, place: int) -> bool:
    return context.operations[place].unit == Unit.ENGINE


def _end(emitter: Emitter, order: Order) -> None:
    emitter.emit(Opcode.END, Label(whole="end", kind=CommandKind.CONTROL, phase=Phase.CONTROL), order=order)


class _Lowering:
    """One step after another."""

    def __init__(self, context: Context, streams: Streams) -> None:
        self._context, self._sizes, self._streams = context, context.sizes, streams
        self.products = ProductLowering(context)

    def step(self, step: Step) -> None:
        """Append the operations of one step."""
        match step:
            case PatchStep():
                self._patches(step)
            case StreamStep():
                self._begin(step)
            case ProductStep():
                self.products.lower(step)
            case NormStep():
                self._normalise(step)
            case AttentionStep():
                AttentionLowering(self._context, step).lower()
            case ExpertsStep():
                ExpertsLowering(self._context, step).lower()

    def _patches(self, step: PatchStep) -> None:
        context, network = self._context, self._context.network
        region = context.region(step.name, step.rows * self._sizes.words(step.channels))

        def emit(emitter: Emitter, order: Order) -> None:
            shape = (step.rows, step.channels)
            pixels = emitter.rows(step.name, region, "scratchpad", shape, signed=False, of=RowsOf.PATCHES)
            emitter.emit(
                Opcode.LOAD_IMAGE,
                context.label(step),
                pixels,
                order=order,
                destination_base=pixels.layout.base,
                destination_stride=pixels.layout.stride,
                patch=step.patch,
                grid_rows=step.grid[0],
                grid_columns=step.grid[1],
                row_bytes=network.image_width,
                plane_bytes=network.image_width * network.image_height,
                offset=int(context.block.rows(step.name, 0, 1)[0]) // step.grid[1] * step.patch * network.image_width,
            )

        writes = (RegionAccess(region=region, rows=step.rows),)
        context.add(MachineOperation(unit=Unit.IMAGE, emit=emit, writes=writes, in_rows=True, tasks=step.tasks))

    def _begin(self, step: StreamStep) -> None:
        context = self._context
        region = context.stream(step)

        def emit(emitter: Emitter, order: Order) -> None:
            words = self._sizes.words(step.channels)
            first = context.first(step)
            values = emitter.model.of(step.name, QuantisedStream).values
            padded = pad_axis(values[context.block.rows(step.name, first, step.rows)], 1, words * emitter.config.lanes)
            base = emitter.bases[region] + first * words
            tensor = emitter.rows(step.name, region, "residual", (step.rows, step.channels), base=base, first_row=first)
            emitter.emit(
                Opcode.LOAD_RESIDUAL,
                context.label(step),
                tensor,
                order=order,
                **emitter.block(padded.astype("<i4").reshape(-1).view(np.uint8)),
                destination_base=tensor.layout.base,
                words=step.rows * words,
                stored=0,
            )

        writes = (RegionAccess(region=region, first=context.first(step), rows=step.rows),)
        context.add(MachineOperation(unit=Unit.STREAM, emit=emit, writes=writes, tasks=step.tasks))

    def _normalise(self, step: NormStep) -> None:
        context, words = self._context, self._sizes.words(step.channels)
        context.region(step.name, step.rows * words)
        if step.wide:
            context.region(step.inner("wide"), step.rows * 2 * words)
        for read, rows in self._streams.pieces(step):
            self._normalise_rows(step, read, rows)

    def _normalise_rows(self, step: NormStep, read: RegionAccess, rows: range) -> None:
        """A norm of some of a step's rows."""
        context, sizes = self._context, self._sizes
        before = sizes.plan.by_name[step.source.tensor]
        regions = [context.where(step.name)] + [context.where(step.inner("wide"))] * step.wide

        def emit(emitter: Emitter, order: Order) -> None:
            words = sizes.words(step.channels)
            where: dict[str, Any] = {"base": emitter.bases[regions[0]] + rows.start * words, "first_row": rows.start}
            shape, signed = (len(rows), step.channels), not step.positive
            tensors: list[Tensor] = [emitter.rows(step.name, regions[0], "scratchpad", shape, signed=signed, **where)]
            if step.wide:
                tensors.append(self._wide(emitter, step, regions[1]))
            label = context.label(step, rows=rows if len(rows) < step.rows else None)
            first = read.first * sizes.words(before.channels)
            self._emit_norm(emitter, step, label, tensors, emitter.bases[read.region] + first, order)

        reads_pixels = isinstance(before, ProductStep) and isinstance(
            sizes.plan.by_name[before.source.tensor], PatchStep
        )
        context.add(
            MachineOperation(
                unit=Unit.NORM,
                emit=emit,
                reads=(read,),
                writes=tuple(RegionAccess(region=name, first=rows.start, rows=len(rows)) for name in regions),
                row_by_row=step.source.plain and not (context.cuts.pixels_apart and reads_pixels),
                in_rows=True,
                tasks=step.tasks,
            )
        )

    def _wide(self, emitter: Emitter, step: NormStep, region: str) -> Tensor:
        """The rows that a gate reads."""
        layout = WideRows(
            shape=(step.rows, step.channels),
            lanes=emitter.config.lanes,
            stride=2 * self._sizes.words(step.channels),
            base=emitter.bases[region],
        )
        return Tensor(name=step.inner("wide"), space="scratchpad", layout=layout)

    def _emit_norm(
        self, emitter: Emitter, step: NormStep, label: Label, tensors: list[Tensor], source: int, order: Order
    ) -> None:
        """Append the norm of rows that begin at the word ``source``."""
        norm = emitter.model.of(step.name, QuantisedLayerNorm)
        words = self._sizes.words(step.channels)
        shifts = pad_axis(np.asarray(norm.channel_shift, np.uint8), 0, words * emitter.config.lanes)
        layout, wide = tensors[0].layout, tensors[1].layout if step.wide else None
        assert isinstance(layout, Rows)
        emitter.emit(
            Opcode.LAYERNORM,
            label,
            *tensors,
            order=order,
            **emitter.block(shifts),
            source_base=source,
            source_stride=words,
            destination_base=layout.base,
            destination_stride=layout.stride,
            wide_base=wide.base if isinstance(wide, WideRows) else 0,
            wide_stride=wide.stride if isinstance(wide, WideRows) else 0,
            rows=layout.shape[0],
            words=words,
            channels=step.channels,
            wide=int(step.wide),
            mode=norm.mode,
            mean_multiplier=norm.mean_multiplier,
            mean_shift=norm.mean_shift,
            epsilon=norm.epsilon,
            scale_multiplier=norm.scale_multiplier,
            shift=norm.shift,
            wide_shift=norm.wide_shift,
        )
