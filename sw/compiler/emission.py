"""Building blocks of a program: commands with their stream blocks, and the tensors they write."""

from __future__ import annotations

from typing import Any

import numpy as np

from golden.integer.parameters import QuantisedLayerNorm, QuantisedLinear
from hw.config import AcceleratorConfig
from hw.isa import EVERYTHING, Destination, Follow, Opcode, Unit, encode
from program.program import Command, Tensor
from sw.compiler.geometry import Geometry
from sw.compiler.layout import Plan
from sw.compiler.weights import StreamBuilder, chunked, pad_axis, padded, parameter_bytes, spread, tile_bytes
from sw.cycles import bound
from sw.cycles.bound import Work

ALL_TASKS = 0xFFFF
NOTHING = Unit(0)
"""A command after nothing starts as soon as its unit takes it."""


def suffix(kind: str, part: range, count: int) -> str:
    """What tells the commands for ``part`` of ``count`` heads or tokens from those for the others; empty for all."""
    if len(part) == count:
        return ""
    return f".{kind}{part.start}" if len(part) == 1 else f".{kind}s{part.start}-{part.stop - 1}"


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
        self.layer: int | None = None

    def emit(
        self,
        opcode: Opcode,
        name: str,
        *tensors: Tensor,
        work: Work | None = None,
        task_mask: int = ALL_TASKS,
        after: Unit = EVERYTHING,
        follow: Follow = Follow.NOTHING,
        **fields: int,
    ) -> None:
        """Append one command; ``fields`` are those of the opcode. Without ``after`` it runs alone."""
        work = work or Work()
        self.encoded.append(encode(opcode, task_mask=task_mask, after=after, follow=follow, **fields))
        self.commands.append(
            Command(
                index=len(self.commands),
                name=name,
                op=opcode.name,
                layer=self.layer,
                task_mask=task_mask,
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

    def tensor(self, name: str, rows: int, channels: int, *, base: int | None = None, **changes: Any) -> Tensor:
        """Token-major tensor in the scratchpad, in the buffer of its name."""
        words = self.geometry.words(channels)
        fields: dict[str, Any] = {
            "name": name,
            "space": "scratchpad",
            "shape": (rows, channels),
            "base": self.plan.bases[name] if base is None else base,
            "stride": words,
            "extent": rows * words,
            "lanes": self.config.lanes,
        }
        return Tensor(**{**fields, **changes})

    def residual(self, name: str, *, rows: range | None = None, **changes: Any) -> Tensor:
        """The residual stream, or some ``rows`` of it."""
        words = self.geometry.dim_words
        rows = range(self.model.tokens) if rows is None else rows
        return self.tensor(
            name,
            len(rows),
            self.model.dim,
            base=rows.start * words,
            **{"space": "residual", "first_row": rows.start, **changes},
        )

    def heads(self, name: str, heads: range) -> Tensor:
        """Q, K or the attention output of some ``heads``: every head starts at a word."""
        g = self.geometry
        words = len(heads) * g.head_words
        return self.tensor(
            name,
            self.model.tokens,
            len(heads) * self.model.head_dim,
            stride=words,
            extent=self.model.tokens * words,
            block=self.model.head_dim,
            block_words=g.head_words,
            first_channel=heads.start * self.model.head_dim,
        )

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
        self,
        name: str,
        linear: QuantisedLinear,
        tensor: Tensor,
        *,
        source: int,
        words: int,
        steps: int,
        destination: Destination,
        channels: int | None = None,
        gelu: tuple[int, int] | None = None,
        heads: bool = False,
        task_mask: int = ALL_TASKS,
        after: Unit = EVERYTHING,
        follow: Follow = Follow.NOTHING,
        block: dict[str, Any] | None = None,
        **flags: int,
    ) -> dict[str, Any]:
        """One LINEAR with streamed weights; ``flags`` are ``wide`` and ``broadcast_unsigned``.

        Returns where its block of the weight stream lies, for a later LINEAR to read it again as its ``block``.
        """
        macs = steps * linear.weight.size
        channels = padded(len(linear.weight), self.config.lanes) if channels is None else channels
        wide = bool(flags.get("wide"))
        if block is None:
            block = self.block(self.linear_block(self.pad_outputs(linear, channels, heads), words, wide))
        self.emit(
            Opcode.LINEAR,
            name,
            tensor,
            work=bound.linear(self.config, macs=macs, steps=steps, stationary_rows=channels, words=words),
            task_mask=task_mask,
            after=after,
            follow=follow,
            **block,
            broadcast_base=source,
            broadcast_stride=words,
            steps=steps,
            words=words,
            stationary_base=0,
            stationary_stride=0,
            stationary_rows=channels,
            channels=channels,
            destination_base=0 if destination == Destination.SCORE else tensor.base,
            destination_stride=0 if destination == Destination.SCORE else tensor.stride,
            destination=destination,
            gelu=int(gelu is not None),
            swapped=0,
            **{"wide": 0, "broadcast_unsigned": 0, **flags},
            gelu_multiplier=gelu[0] if gelu else 0,
            gelu_shift=gelu[1] if gelu else 0,
        )
        return block

    def norm(
        self,
        norm: QuantisedLayerNorm,
        tensor: Tensor,
        wide: Tensor | None = None,
        *,
        skip: int = 0,
        task_mask: int = ALL_TASKS,
        after: Unit = EVERYTHING,
        follow: Follow = Follow.NOTHING,
    ) -> None:
        """One LAYERNORM of the residual rows from ``skip`` on, with its channel shifts."""
        words = self.geometry.dim_words
        shifts = pad_axis(np.asarray(norm.channel_shift, np.uint8), 0, words * self.config.lanes)
        self.emit(
            Opcode.LAYERNORM,
            tensor.name,
            *([tensor] if wide is None else [tensor, wide]),
            task_mask=task_mask,
            after=after,
            follow=follow,
            **self.block(shifts),
            source_base=skip * words,
            source_stride=words,
            destination_base=tensor.base,
            destination_stride=tensor.stride,
            wide_base=wide.base if wide else 0,
            wide_stride=wide.stride if wide else 0,
            rows=tensor.shape[0],
            words=words,
            channels=self.model.dim,
            wide=int(wide is not None),
            mean_multiplier=norm.mean_multiplier,
            mean_shift=norm.mean_shift,
            epsilon=norm.epsilon,
            scale_multiplier=norm.scale_multiplier,
            shift=norm.shift,
            wide_shift=norm.wide_shift,
        )
