"""Building blocks of a program: commands with their stream blocks, and the tensors they write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from tessera.golden.integer.parameters import QuantisedLinear, QuantisedModel
from tessera.hw.isa import Destination, Function, Opcode, encode
from tessera.program.commands import Command, CommandKind, Phase, Span
from tessera.program.layouts.base import Layout
from tessera.program.layouts.rows import ListedRows, Rows, TiledRows
from tessera.program.tensors import Space, Tensor
from tessera.sw.compiler.blocks import RowBlock
from tessera.sw.compiler.operations import NOTHING, Order
from tessera.sw.compiler.sizes import Sizes
from tessera.sw.compiler.weights import StreamBuilder, chunked, pad_axis, parameter_bytes, spread, tile_bytes
from tessera.sw.cycles import bound
from tessera.sw.cycles.bound import Workload

Placed = TypeVar("Placed", bound=Layout)
ALL_TASKS = 0xFFFF
UNLISTED = {"gather": 0, "scatter": 0, "list": 0}
"""Fields of a LINEAR command whose rows follow each other."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """What people want to know of a command; members as :class:`tessera.program.commands.Command` has them."""

    whole: str
    kind: CommandKind
    phase: Phase
    place: str = ""
    span: Span | None = None
    task_mask: int = ALL_TASKS
    mixture: str = ""


@dataclass(frozen=True, kw_only=True)
class Product:
    """A LINEAR command with streamed weights.

    Parameters
    ----------
    linear:
        Weights and constants of the layer.
    tensor:
        Result.
    source:
        Word address of the input's first row.
    words:
        Words of an input row that are read.
    stride:
        Words from one input row to the next; None if rows are read whole.
    listed:
        First entry of the list that names the input rows; None if they follow each other.
    parts:
        Results, one after another, that make a row of the tensor.
    steps:
        Input rows.
    destination:
        Memory that takes the result.
    channels:
        Output channels with padding; by default as few as whole words hold.
    block:
        Channels of a block of outputs that is padded to whole words; None if only the last channel is.
    function, requantise:
        The function behind the product, with the multiplier and shift of its results.
    wide:
        Whether inputs and weights have 16 bits.
    unsigned:
        Whether inputs are unsigned.
    """

    linear: QuantisedLinear
    tensor: Tensor
    source: int
    words: int
    steps: int
    destination: Destination
    channels: int | None = None
    block: int | None = None
    function: Function = Function.NONE
    requantise: tuple[int, int] = (0, 0)
    wide: bool = False
    unsigned: bool = False
    stride: int | None = None
    listed: int | None = None
    parts: int = 1


class Emitter:
    """Collects commands, stream blocks and tensors.

    Parameters
    ----------
    model:
        The integers of every step.
    sizes:
        Padded sizes on the machine.
    bases:
        First word of every region, by its name.
    results:
        Bytes of the results, behind which rows wait in external memory.

    Attributes
    ----------
    block_rows:
        The block that commands are emitted of.
    """

    def __init__(self, model: QuantisedModel, sizes: Sizes, bases: Mapping[str, int], results: int) -> None:
        self.model, self.sizes, self.config, self.bases = model, sizes, sizes.config, bases
        self._results, self.block_rows = results, RowBlock(steps=())
        self.stream = StreamBuilder()
        self.encoded: list[bytes] = []
        self.commands: list[Command] = []

    def emit(
        self,
        opcode: Opcode,
        label: Label,
        *tensors: Tensor,
        order: Order,
        work: Workload | None = None,
        **fields: int,
    ) -> None:
        """Append one command; ``fields`` are those of the opcode."""
        work = work or Workload()
        self.encoded.append(encode(opcode, task_mask=label.task_mask, **vars(order), **fields))
        self.commands.append(
            Command(
                **vars(label),
                index=len(self.commands),
                op=opcode.name,
                macs=work.macs,
                ideal_cycles=work.ideal_cycles,
                stream_bytes=fields.get("stream_bytes", 0) * fields.get("experts", 1),
                tensors=tensors,
            )
        )

    def block(self, block: np.ndarray) -> dict[str, Any]:
        """Append a block to the weight stream; its address and size as command fields."""
        block = chunked(block, self.config)
        return {"stream_address": self.stream.append(block), "stream_bytes": len(block)}

    def stored_bytes(self, region: str) -> int:
        """First byte of a region in external memory, from the output base."""
        return self._results + 4 * self.config.lanes * self.bases[region]

    def rows(
        self, name: str, region: str, space: Space, shape: tuple[int, int], kind: type[Rows] = Rows, **fields: Any
    ) -> Tensor[Rows]:
        """Rows one after another in a region, in a ``kind`` of layout; ``first_row`` counts those that are on chip."""
        fields = {"stride": self.sizes.words(shape[1]), "base": self.bases[region], **fields}
        if name in self.block_rows.held:
            kind, fields = self._golden_rows(name, shape[0], kind, fields)
        return Tensor(name=name, space=space, layout=kind(shape=shape, lanes=self.config.lanes, **fields))

    def _golden_rows(
        self, name: str, count: int, kind: type[Rows], fields: dict[str, Any]
    ) -> tuple[type[Rows], dict[str, Any]]:
        """The layout of rows that are not the tensor's first ones."""
        if "listed" in fields:
            held = self.block_rows.held[name]
            return kind, fields | {"listed": tuple(int(held[row]) for row in fields["listed"])}
        rows = self.block_rows.rows(name, fields.get("first_row", 0), count)
        if (np.diff(rows) == 1).all():
            return kind, fields | {"first_row": int(rows[0])}
        assert kind is Rows, f"{name} has rows that do not follow each other in a layout of its own"
        return ListedRows, fields | {"listed": tuple(int(row) for row in rows)}

    def stream_rows(
        self, name: str, region: str, space: Space, shape: tuple[int, int], tiled: bool, **fields: Any
    ) -> Tensor:
        """Rows of a stream; ``tiled`` where a product with swapped roles left anything in its padding."""
        if tiled:
            return self.rows(name, region, space, shape, TiledRows, elements=self.config.elements, **fields)
        return self.rows(name, region, space, shape, **fields)

    def pad_outputs(self, linear: QuantisedLinear, channels: int, block: int | None = None) -> QuantisedLinear:
        """Zero output channels appended, at the end or to every ``block`` of them."""
        arrays = {name: np.asarray(values) for name, values in vars(linear).items()}
        if block is not None:
            size = self.sizes.channels(block)
            arrays = {name: spread(values, 0, block, size) for name, values in arrays.items()}
        return QuantisedLinear(**{name: pad_axis(values, 0, channels) for name, values in arrays.items()})

    def linear_block(self, linear: QuantisedLinear, words: int, wide: bool = False) -> np.ndarray:
        """Stream block of padded outputs: parameter sets, then tiles; inputs are padded to ``words``."""
        inputs = words * self.config.lanes // (2 if wide else 1)
        weight = self.narrow(pad_axis(linear.weight, 1, inputs), wide)
        parameters = parameter_bytes(linear.bias, linear.multiplier, linear.shift)
        return np.concatenate([chunked(parameters, self.config), tile_bytes(weight, self.config)])

    def narrow(self, weight: np.ndarray, wide: bool = False) -> np.ndarray:
        """Weights as int8, or int16 for ``wide``; ValueError if they do not fit."""
        target = np.dtype("<i2" if wide else "i1")
        narrow = weight.astype(target)
        if (narrow != weight).any():
            raise ValueError(f"weights reach {np.abs(weight).max()}; the machine holds {8 * target.itemsize} bits")
        return narrow

    def linear(self, label: Label, product: Product, order: Order) -> None:
        """Append LINEAR with streamed weights: one for as many channels as the machine has parameter sets."""
        for index, (part, span) in enumerate(self._parts(product)):
            named = label if span is None else replace(label, span=span)
            self._linear(named, part, Order(after=NOTHING) if index else order)

    def _parts(self, product: Product) -> list[tuple[Product, Span | None]]:
        """A product as parts of its channels, each with the name of these."""
        outputs, most = len(product.linear.weight), self.config.parameter_entries
        layout = product.tensor.layout
        if outputs <= most:
            return [(product, None)]
        assert product.block is None and product.channels is None and isinstance(layout, Rows)
        parts: list[tuple[Product, Span | None]] = []
        for first in range(0, outputs, most):
            some = slice(first, min(first + most, outputs))
            linear = QuantisedLinear(**{name: np.asarray(one)[some] for name, one in vars(product.linear).items()})
            place = replace(
                layout,
                shape=(layout.shape[0], some.stop - first),
                base=layout.base + self.sizes.words(first),
                first_channel=layout.first_channel + first,
            )
            part = replace(product, linear=linear, tensor=replace(product.tensor, layout=place))
            parts.append((part, Span("channel", first, some.stop - 1)))
        return parts

    def _linear(self, label: Label, product: Product, order: Order) -> None:
        """Append one LINEAR."""
        linear, words, steps = product.linear, product.words, product.steps
        channels = self.sizes.channels(len(linear.weight)) if product.channels is None else product.channels
        outputs = self.pad_outputs(linear, channels, product.block)
        # Scores have a memory of their own, which their tile addresses.
        layout = product.tensor.layout
        base, stride = (layout.base, layout.stride // product.parts) if isinstance(layout, Rows) else (0, 0)
        self.emit(
            Opcode.LINEAR,
            label,
            product.tensor,
            order=order,
            work=bound.linear(
                self.config, macs=steps * linear.weight.size, steps=steps, stationary_rows=channels, words=words
            ),
            **self.block(self.linear_block(outputs, words, product.wide)),
            broadcast_base=product.source,
            broadcast_stride=words if product.stride is None else product.stride,
            broadcast_unsigned=int(product.unsigned),
            steps=steps,
            words=words,
            stationary_base=0,
            stationary_stride=0,
            stationary_rows=channels,
            stationary_window=0,
            windows=1,
            channels=channels,
            destination_base=base,
            destination_stride=stride,
            destination_window=0,
            destination=product.destination,
            swapped=0,
            gather=int(product.listed is not None),
            scatter=0,
            list=product.listed or 0,
            wide=int(product.wide),
            function=product.function,
            function_multiplier=product.requantise[0],
            function_shift=product.requantise[1],
        )
