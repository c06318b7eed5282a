"""Building blocks of a program: commands with their stream blocks, and the tensors they write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from tessera.golden.integer.parameters import QuantisedLayerNorm, QuantisedLinear
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import EVERYTHING, Destination, Follow, Function, Opcode, Unit, encode
from tessera.program.commands import Command, CommandKind, Label, Phase, Span
from tessera.program.layouts.base import Layout
from tessera.program.layouts.rows import Rows, WideRows
from tessera.program.tensors import Space, Tensor, tensor_name
from tessera.sw.compiler.geometry import Geometry
from tessera.sw.compiler.layout import Plan
from tessera.sw.compiler.weights import StreamBuilder, chunked, pad_axis, padded, parameter_bytes, spread, tile_bytes
from tessera.sw.cycles import bound
from tessera.sw.cycles.bound import Workload

Placed = TypeVar("Placed", bound=Layout)
ALL_TASKS = 0xFFFF
NOTHING = Unit(0)
"""A command after nothing starts as soon as its unit takes it."""


def span_of(of: Literal["head", "token"], part: range, count: int) -> Span | None:
    """The heads or tokens of ``part``; None if they are all ``count``."""
    return None if len(part) == count else Span(of, part.start, part.stop - 1)


@dataclass(frozen=True, kw_only=True)
class Order:
    """When a command runs.

    Parameters
    ----------
    task_mask:
        Tasks that run the command, bit t for task t.
    after:
        Units that must be idle before the command starts.
    follow:
        Unit whose rows the command reads while that unit writes them.
    """

    task_mask: int = ALL_TASKS
    after: Unit = EVERYTHING
    follow: Follow = Follow.NOTHING


ALONE = Order()
"""The command runs for every task, and nothing runs beside it."""


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
        Words per input row.
    steps:
        Input rows.
    destination:
        Memory that takes the result.
    channels:
        Output channels with padding; by default as few as whole words hold.
    heads:
        Whether every head is padded to whole words, instead of the last channel.
    gelu:
        Multiplier and shift of the GELU behind the product; None for no GELU.
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
    heads: bool = False
    gelu: tuple[int, int] | None = None
    wide: bool = False
    unsigned: bool = False


class Emitter:
    """Collects commands, stream blocks and tensors.

    Parameters
    ----------
    plan:
        Scratchpad addresses; must fit.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.geometry: Geometry = plan.geometry
        self.config: AcceleratorConfig = self.geometry.config
        self.model = self.geometry.model
        self.stream = StreamBuilder()
        self.encoded: list[bytes] = []
        self.commands: list[Command] = []
        self.phase = Phase.EMBED
        self.layer: int | None = None

    def emit(
        self,
        opcode: Opcode,
        label: Label,
        *tensors: Tensor,
        order: Order = ALONE,
        work: Workload | None = None,
        **fields: int,
    ) -> None:
        """Append one command; ``fields`` are those of the opcode."""
        work = work or Workload()
        self.encoded.append(encode(opcode, **vars(order), **fields))
        self.commands.append(
            Command(
                index=len(self.commands),
                label=label,
                phase=self.phase,
                layer=self.layer,
                op=opcode.name,
                task_mask=order.task_mask,
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

    def base(self, part: str) -> int:
        """First scratchpad word of a tensor of the current layer."""
        return self.plan.bases[tensor_name(part, self.layer)]

    def tensor(self, part: str, space: Space, layout: Placed) -> Tensor[Placed]:
        """A tensor of the current layer."""
        return Tensor(part=part, layer=self.layer, space=space, layout=layout)

    def rows(self, part: str, rows: int, channels: int, **fields: Any) -> Tensor[Rows]:
        """Rows one after another in the scratchpad, in the buffer of their name."""
        stride, lanes = self.geometry.words(channels), self.config.lanes
        layout = Rows(shape=(rows, channels), lanes=lanes, stride=stride, base=self.base(part), **fields)
        return self.tensor(part, "scratchpad", layout)

    def residual(self, part: str, rows: range | None = None, kind: type[Rows] = Rows) -> Tensor[Rows]:
        """The residual stream, or some ``rows`` of it, in a ``kind`` of layout."""
        words = self.geometry.dim_words
        rows = range(self.model.tokens) if rows is None else rows
        layout = kind(
            shape=(len(rows), self.model.dim),
            lanes=self.config.lanes,
            stride=words,
            base=rows.start * words,
            first_row=rows.start,
        )
        return self.tensor(part, "residual", layout)

    def heads(self, part: str, heads: range, *, beside: bool = False) -> Tensor[Rows]:
        """Q, K or the attention output of some ``heads``: every head starts at a word.

        With ``beside`` their rows hold the other heads, too; without, rows of these heads follow each other.
        """
        words = self.geometry.head_words
        layout = Rows(
            shape=(self.model.tokens, len(heads) * self.model.head_dim),
            lanes=self.config.lanes,
            stride=self.geometry.heads_words if beside else len(heads) * words,
            base=self.base(part) + (heads.start * words if beside else 0),
            block=self.model.head_dim,
            first_channel=heads.start * self.model.head_dim,
        )
        return self.tensor(part, "scratchpad", layout)

    def pad_outputs(self, linear: QuantisedLinear, channels: int, heads: bool = False) -> QuantisedLinear:
        """Zero output channels appended, at the end or to every head."""
        arrays = {name: np.asarray(values) for name, values in vars(linear).items()}
        if heads:
            size = self.geometry.head_words * self.config.lanes
            arrays = {name: spread(values, 0, self.model.head_dim, size) for name, values in arrays.items()}
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

    def linear(
        self, label: Label, product: Product, order: Order = ALONE, *, block: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Append one LINEAR with streamed weights.

        Returns where its block of the weight stream lies, for a later LINEAR to read it again as its ``block``.
        """
        linear, words, steps = product.linear, product.words, product.steps
        channels = padded(len(linear.weight), self.config.lanes) if product.channels is None else product.channels
        if block is None:
            outputs = self.pad_outputs(linear, channels, product.heads)
            block = self.block(self.linear_block(outputs, words, product.wide))
        # Scores have a memory of their own, which their tile addresses.
        layout = product.tensor.layout
        base, stride = (layout.base, layout.stride) if isinstance(layout, Rows) else (0, 0)
        multiplier, shift = product.gelu or (0, 0)
        self.emit(
            Opcode.LINEAR,
            label,
            product.tensor,
            order=order,
            work=bound.linear(
                self.config, macs=steps * linear.weight.size, steps=steps, stationary_rows=channels, words=words
            ),
            **block,
            broadcast_base=product.source,
            broadcast_stride=words,
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
            gather=0,
            scatter=0,
            list=0,
            wide=int(product.wide),
            function=Function.NONE if product.gelu is None else Function.GELU,
            function_multiplier=multiplier,
            function_shift=shift,
        )
        return block

    def norm(
        self,
        kind: CommandKind,
        norm: QuantisedLayerNorm,
        tensor: Tensor[Rows],
        wide: Tensor[WideRows] | None = None,
        *,
        order: Order = ALONE,
        skip: int = 0,
    ) -> None:
        """Append one LAYERNORM of the residual rows from ``skip`` on, with its channel shifts."""
        words = self.geometry.dim_words
        shifts = pad_axis(np.asarray(norm.channel_shift, np.uint8), 0, words * self.config.lanes)
        self.emit(
            Opcode.LAYERNORM,
            Label(kind),
            *([tensor] if wide is None else [tensor, wide]),
            order=order,
            **self.block(shifts),
            source_base=skip * words,
            source_stride=words,
            destination_base=tensor.layout.base,
            destination_stride=tensor.layout.stride,
            wide_base=wide.layout.base if wide else 0,
            wide_stride=wide.layout.stride if wide else 0,
            rows=tensor.layout.shape[0],
            words=words,
            channels=self.model.dim,
            wide=int(wide is not None),
            mode=norm.mode,
            mean_multiplier=norm.mean_multiplier,
            mean_shift=norm.mean_shift,
            epsilon=norm.epsilon,
            scale_multiplier=norm.scale_multiplier,
            shift=norm.shift,
            wide_shift=norm.wide_shift,
        )
