"""Rows that products read: those that follow each other, those that a list names, and copies in a list's order.

A product gathers its rows by a list. Where rows must follow each other (values, which are held; several rows as one)
they are first copied in the order of the list, by a product with the unit matrix whose results are what they were.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tessera.golden.integer.parameters import QuantisedLinear, QuantisedProduct
from tessera.golden.integer.steps import ProductStep, RowSelection
from tessera.hw.isa import Destination, Opcode, Unit
from tessera.program.layouts.rows import ListedRows
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.emission import Emitter, Product
from tessera.sw.compiler.lists import QUEUES
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.compiler.weights import spread

_EXACT = 15
"""Shift that makes of a multiplier of ``1 << _EXACT`` a factor of 1."""


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Rows as the commands of a product read them.

    Parameters
    ----------
    region:
        Where they lie.
    rows:
        Which rows of the region.
    row_words:
        Words of a row of the region.
    longest:
        Rows of a list at most.
    parts_of_row:
        Of these rows, how many make one of the product.
    """

    region: str
    rows: RowSelection
    row_words: int
    longest: int
    parts_of_row: int = 1

    @property
    def words(self) -> int:
        """Words from one row to the next, where rows follow each other."""
        return self.row_words * self.rows.fold

    @property
    def skipped(self) -> int:
        """Words of the region before its first row; a list names rows from the region's first on."""
        return 0 if self.listed else self.rows.start * self.row_words

    @property
    def listed(self) -> tuple[int, ...]:
        """The rows by a list; nothing where they follow each other."""
        return () if self.rows.listed is None else self.rows.listed[self.rows.start : self.rows.stop]

    @property
    def access(self) -> RegionAccess:
        """What of the region is read."""
        if listed := self.listed:
            return RegionAccess(region=self.region, first=min(listed), rows=max(listed) - min(listed) + 1)
        return RegionAccess(region=self.region, first=self.rows.start, rows=self.rows.stop - self.rows.start)

    def some(self, part: range) -> Operand:
        """What makes some rows of the product."""
        return replace(self, rows=self.rows.within(part.start * self.parts_of_row, part.stop * self.parts_of_row))

    def parts(self, rows: range) -> list[range]:
        """These rows of the product, in parts whose lists are not too long."""
        most = self.longest // self.parts_of_row if self.listed else len(rows)
        return [range(first, min(first + most, rows.stop)) for first in range(rows.start, rows.stop, most)]


def operand(context: Context, step: ProductStep) -> Operand:
    """The rows that a product reads; appends the operations that copy them, where it needs a copy."""
    rows = step.operand if context.sizes.parts_are_rows(step) else step.source
    made = Operand(
        region=context.where(rows.tensor),
        rows=rows,
        row_words=context.sizes.row_words(rows.tensor),
        longest=context.lists.longest,
        parts_of_row=step.source.fold // rows.fold,
    )
    flat = replace(rows, fold=1)
    if flat not in context.copied:
        return made
    if flat not in context.copies:
        name = f"{rows.tensor}.rows{len(context.operations)}"
        context.copies[flat] = context.region(name, len(flat) * made.row_words)
        _copy(context, step, replace(made, rows=flat), context.copies[flat])
    in_order = RowSelection(tensor=rows.tensor, start=0, stop=len(flat), fold=rows.fold)
    return replace(made, region=context.copies[flat], rows=in_order)


def load_list(context: Context, step: ProductStep, rows: Operand) -> tuple[RegionAccess, ...]:
    """Append the load of the list of rows, unless the memory holds it; returns its entries, nothing without a list."""
    if not rows.listed:
        return ()
    known = context.lists.find(rows.listed, step.tasks)
    if known is not None:
        return (known,)
    access = context.lists.place(rows.listed, step.tasks)
    context.region(QUEUES, space="queue")

    def emit(emitter: Emitter, order: Order) -> None:
        chunks = np.zeros((len(rows.listed), emitter.config.chunk_bytes), np.uint8)
        chunks[:, :2] = np.array(rows.listed, "<u2").view(np.uint8).reshape(-1, 2)
        emitter.emit(
            Opcode.LIST,
            context.label(step, whole=f"{step.name}.list"),
            order=order,
            **emitter.block(chunks.reshape(-1)),
            destination_base=access.first,
            words=len(rows.listed),
        )

    context.add(MachineOperation(unit=Unit.STREAM, emit=emit, writes=(access,), tasks=step.tasks))
    return (access,)


def _copy(context: Context, step: ProductStep, rows: Operand, region: str) -> None:
    """Append the copy of listed rows, in their order, to a region of its own."""
    tensor = context.step(rows.rows.tensor)
    for part in rows.parts(range(len(rows.rows))):
        some = rows.some(part)
        entries = load_list(context, replace(step, tasks=tensor.tasks), some)

        def emit(
            emitter: Emitter, order: Order, part: range = part, some: Operand = some, first: int = entries[0].first
        ) -> None:
            layout = emitter.rows(
                tensor.name,
                region,
                "scratchpad",
                (len(part), tensor.channels),
                ListedRows,
                stride=rows.row_words,
                base=emitter.bases[region] + part.start * rows.row_words,
                block=context.sizes.block(tensor.name),
                listed=some.listed,
            )
            product = Product(
                linear=_unit(rows.row_words * emitter.config.lanes),
                tensor=layout,
                source=emitter.bases[rows.region],
                words=rows.row_words,
                steps=len(part),
                destination=Destination.ACTIVATION,
                listed=first,
            )
            label = replace(context.label(step, whole=region), task_mask=context.label(tensor).task_mask)
            emitter.linear(label, product, order)

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(some.access, *entries),
                writes=(RegionAccess(region=region, first=part.start, rows=len(part)),),
                in_rows=True,
                tasks=tensor.tasks,
            )
        )


def _unit(channels: int) -> QuantisedLinear:
    """A layer whose results are its inputs, integer by integer."""
    return QuantisedLinear(
        weight=np.eye(channels, dtype=np.int16),
        bias=np.zeros(channels, np.int64),
        multiplier=np.full(channels, 1 << _EXACT, np.int64),
        shift=np.full(channels, _EXACT, np.int64),
    )


def layer(context: Context, emitter: Emitter, step: ProductStep) -> QuantisedLinear:
    """A product's integers, with the columns where the rows that it reads have its channels."""
    linear, sizes, source = emitter.model.of(step.name, QuantisedProduct).linear, context.sizes, step.source
    if step.apart and not sizes.parts_are_rows(step):
        fold = source.fold
        tiled = {name: np.tile(values, fold) for name, values in vars(linear).items() if name != "weight"}
        linear = QuantisedLinear(weight=np.kron(np.eye(fold, dtype=np.int16), linear.weight), **tiled)
    if step.span != (whole := written_channels(context, step)):  # to what other products make in its words it adds 0
        around = (step.span.start - whole.start, whole.stop - step.span.stop)
        arrays = {name: np.asarray(values) for name, values in vars(linear).items()}
        linear = QuantisedLinear(
            **{name: np.pad(values, [around, *[(0, 0)] * (values.ndim - 1)]) for name, values in arrays.items()}
        )
    block = sizes.block(source.tensor)
    if block is None and source.fold > 1 and not sizes.whole_words(source.tensor):
        block = sizes.plan.by_name[source.tensor].channels
    if block is None:
        return linear
    return replace(linear, weight=spread(linear.weight, 1, block, sizes.channels(block)))


def written_channels(context: Context, step: ProductStep) -> slice:
    """Channels of its tensor that a product writes: whole words."""
    lanes = context.sizes.config.lanes
    stop = min(context.sizes.channels(step.span.stop), step.channels)
    return slice(step.span.start // lanes * lanes, stop)
