"""From a quantised model to commands, weight stream and table of tensors, in the order of execution."""

from __future__ import annotations

from typing import Any

import numpy as np

from golden.integer import functions
from golden.integer.parameters import (
    QuantisedExperts,
    QuantisedLayer,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedMlp,
    QuantisedModel,
)
from hw.config import AcceleratorConfig
from hw.isa import Destination, Opcode, encode
from sw import cycles
from sw.compiler.layout import Geometry, Plan
from sw.compiler.weights import StreamBuilder, chunked, pad_axis, padded, parameter_bytes, spread, tile_bytes
from sw.cycles import Work
from sw.program import Command, Output, Tensor

ALL_TASKS = 0xFFFF


class Lowering:
    """Emits the program of one model, command by command.

    Parameters
    ----------
    quantised:
        The model.
    plan:
        Its scratchpad addresses; must fit.
    """

    def __init__(self, quantised: QuantisedModel, plan: Plan) -> None:
        self.quantised, self.plan = quantised, plan
        self.geometry: Geometry = plan.geometry
        self.config: AcceleratorConfig = self.geometry.config
        self.model = quantised.config
        self.stream = StreamBuilder()
        self.encoded: list[bytes] = []
        self.commands: list[Command] = []
        self.outputs: list[Output] = []
        self._layer: int | None = None

    def lower(self) -> None:
        """Emit everything."""
        self._embed()
        for index, layer in enumerate(self.quantised.layers):
            self._layer = index
            self._attend(layer, f"layer{index:02d}")
            if isinstance(layer.mlp, QuantisedExperts):
                self._route(layer.norm2, layer.mlp, f"layer{index:02d}")
            else:
                self._mlp(layer.norm2, layer.mlp, f"layer{index:02d}")
        self._layer = None
        self._finish()

    # Emission ---------------------------------------------------------------------------------------------------------

    def _emit(
        self,
        opcode: Opcode,
        name: str,
        *tensors: Tensor,
        work: Work = Work(),  # noqa: B008
        task_mask: int = ALL_TASKS,
        **fields: int,
    ) -> None:
        self.encoded.append(encode(opcode, task_mask=task_mask, **fields))
        self.commands.append(
            Command(
                index=len(self.commands),
                name=name,
                op=opcode.name,
                layer=self._layer,
                task_mask=task_mask,
                macs=work.macs,
                ideal_cycles=work.ideal_cycles,
                stream_bytes=fields.get("stream_bytes", 0) * fields.get("experts", 1),
                tensors=tensors,
            )
        )

    def _block(self, block: np.ndarray) -> dict[str, int]:
        """Append a block to the weight stream; its address and size as command fields."""
        block = chunked(block, self.config)
        return {"stream_address": self.stream.append(block), "stream_bytes": len(block)}

    def _tensor(self, name: str, rows: int, channels: int, *, base: int | None = None, **changes: Any) -> Tensor:
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

    def _residual(self, name: str, *, skip: int = 0, **changes: Any) -> Tensor:
        """The residual stream from row ``skip`` on."""
        rows, words = self.model.tokens - skip, self.geometry.dim_words
        return self._tensor(
            name, rows, self.model.dim, base=skip * words, **{"space": "residual", "first_row": skip, **changes}
        )

    def _heads(self, name: str) -> Tensor:
        """Q, K or the attention output: every head starts at a word."""
        g = self.geometry
        return self._tensor(
            name,
            self.model.tokens,
            self.model.dim,
            stride=g.heads_words,
            extent=self.model.tokens * g.heads_words,
            block=self.model.head_dim,
            block_words=g.head_words,
        )

    def _pad_outputs(self, linear: QuantisedLinear, channels: int, heads: bool = False) -> QuantisedLinear:
        """Zero output channels appended, at the end or to every head."""
        arrays = {name: np.asarray(values) for name, values in vars(linear).items()}
        if heads:
            size = channels // self.model.heads
            arrays = {name: spread(values, 0, self.model.head_dim, size) for name, values in arrays.items()}
        return QuantisedLinear(**{name: pad_axis(values, 0, channels) for name, values in arrays.items()})

    def _linear_block(self, linear: QuantisedLinear, words: int, wide: bool = False) -> np.ndarray:
        """Stream block of padded outputs: parameter sets, then tiles; inputs are padded to ``words``."""
        inputs = words * self.config.lanes // (2 if wide else 1)
        weight = self._narrow(pad_axis(linear.weight, 1, inputs), wide)
        parameters = parameter_bytes(linear.bias, linear.multiplier, linear.shift)
        return np.concatenate([chunked(parameters, self.config), tile_bytes(weight, self.config)])

    def _narrow(self, weight: np.ndarray, wide: bool = False) -> np.ndarray:
        target = np.dtype("<i2" if wide else "i1")
        narrow = weight.astype(target)
        if (narrow != weight).any():
            raise ValueError(f"weights reach {np.abs(weight).max()}; the machine holds {8 * target.itemsize} bits")
        return narrow

    def _linear(
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
        stride: int | None = None,
        **flags: int,
    ) -> None:
        """One LINEAR with streamed weights; ``flags`` are ``wide`` and ``broadcast_unsigned``."""
        macs = steps * linear.weight.size
        channels = padded(len(linear.weight), self.config.lanes) if channels is None else channels
        wide = bool(flags.get("wide"))
        block = self._block(self._linear_block(self._pad_outputs(linear, channels, heads), words, wide))
        self._emit(
            Opcode.LINEAR,
            name,
            tensor,
            work=cycles.linear(self.config, macs=macs, steps=steps, stationary_rows=channels, words=words),
            task_mask=task_mask,
            **block,
            broadcast_base=source,
            broadcast_stride=words if stride is None else stride,
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

    def _norm(
        self,
        norm: QuantisedLayerNorm,
        tensor: Tensor,
        wide: Tensor | None = None,
        *,
        skip: int = 0,
        task_mask: int = ALL_TASKS,
    ) -> None:
        words = self.geometry.dim_words
        shifts = pad_axis(np.asarray(norm.channel_shift, np.uint8), 0, words * self.config.lanes)
        self._emit(
            Opcode.LAYERNORM,
            tensor.name,
            *([tensor] if wide is None else [tensor, wide]),
            task_mask=task_mask,
            **self._block(shifts),
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

    # The network ------------------------------------------------------------------------------------------------------

    def _embed(self) -> None:
        g, model = self.geometry, self.model
        pixels = self._tensor("pixels", model.patches, model.patch_inputs, signed=False)
        self._emit(
            Opcode.LOAD_IMAGE,
            "image",
            pixels,
            destination_base=pixels.base,
            destination_stride=pixels.stride,
            patch=model.patch,
            grid_rows=model.grid[0],
            grid_columns=model.grid[1],
            row_bytes=model.image_width,
            plane_bytes=model.image_width * model.image_height,
        )
        initial = pad_axis(self.quantised.initial_residual, 1, g.dim_words * self.config.lanes)
        self._emit(
            Opcode.LOAD_RESIDUAL,
            "residual.init",
            self._residual("residual.init"),
            **self._block(initial.astype("<i4").reshape(-1).view(np.uint8)),
            destination_base=0,
            words=model.tokens * g.dim_words,
        )
        self._linear(
            "embed",
            self.quantised.patch_embedding,
            self._residual("residual.embed", skip=1),
            source=pixels.base,
            words=g.patch_words,
            steps=model.patches,
            destination=Destination.RESIDUAL_ADD,
            broadcast_unsigned=1,
        )

    def _attend(self, layer: QuantisedLayer, name: str) -> None:
        g, model, attention = self.geometry, self.model, layer.attention
        normed = self._tensor(f"{name}.norm1", model.tokens, model.dim)
        self._norm(layer.norm1, normed)
        q, k, mixed = (self._heads(f"{name}.{part}") for part in ("q", "k", "attention"))
        for label, linear, tensor in (("query", attention.q, q), ("key", attention.k, k)):
            self._linear(
                f"{name}.{label}",
                linear,
                tensor,
                source=normed.base,
                words=g.dim_words,
                steps=model.tokens,
                destination=Destination.ACTIVATION,
                channels=g.heads_words * self.config.lanes,
                heads=True,
            )
        value = self._value(attention.v, normed, name)
        self._emit(
            Opcode.ATTENTION,
            f"{name}.attention",
            *self._attention_tensors(name),
            mixed,
            work=cycles.attention(self.config, tokens=model.tokens, heads=model.heads, head_dim=model.head_dim),
            query_base=q.base,
            query_stride=q.stride,
            key_base=k.base,
            key_stride=k.stride,
            value_base=value.base,
            value_stride=value.stride,
            destination_base=mixed.base,
            destination_stride=mixed.stride,
            tokens=model.tokens,
            heads=model.heads,
            head_words=g.head_words,
            score_multiplier=attention.score_multiplier,
            score_shift=attention.score_shift,
            output_multiplier=attention.output_multiplier,
            output_shift=attention.output_shift,
        )
        projection = attention.projection
        columns = spread(projection.weight, 1, model.head_dim, g.head_words * self.config.lanes)
        self._linear(
            f"{name}.projection",
            QuantisedLinear(**{**vars(projection), "weight": columns}),
            self._residual(f"{name}.residual_attention"),
            source=mixed.base,
            words=g.heads_words,
            steps=model.tokens,
            destination=Destination.RESIDUAL_ADD,
        )

    def _attention_tensors(self, name: str) -> tuple[Tensor, Tensor]:
        """Scores and exponentials: tiles of P queries through double buffers."""
        c, model = self.config, self.model
        shape = (model.heads, model.tokens, model.tokens)
        common: dict[str, Any] = {"shape": shape, "elements": c.elements, "padding": None}
        scores = Tensor(
            name=f"{name}.scores",
            space="score",
            layout="scores",
            room=c.max_tokens,
            extent=c.max_tokens + model.tokens,
            lanes=c.elements,
            **common,
        )
        room = c.attention_buffer(1) - c.attention_buffer(0)
        exponentials = Tensor(
            name=f"{name}.exponentials",
            space="exponential",
            layout="exponentials",
            base=c.attention_buffer(0) + c.query_words,
            room=room,
            extent=room + self.geometry.token_words,
            lanes=c.lanes,
            signed=False,
            **common,
        )
        return scores, exponentials

    def _value(self, linear: QuantisedLinear, normed: Tensor, name: str) -> Tensor:
        """Stage V's weights, then multiply with swapped roles so that V is written transposed."""
        g, model = self.geometry, self.model
        channels = g.heads_words * self.config.lanes
        if np.any(linear.bias):
            raise ValueError(f"{name}.v has a bias; fold it into the projection's, as attention weights sum to 1")
        linear = self._pad_outputs(linear, channels, heads=True)
        weights = self._tensor(f"{name}.v_weights", channels, model.dim)
        matrix = self._narrow(pad_axis(linear.weight, 1, g.dim_words * self.config.lanes))
        self._emit(
            Opcode.STAGE,
            weights.name,
            weights,
            **self._block(matrix.view(np.uint8).reshape(-1)),
            destination_base=weights.base,
            words=channels * g.dim_words,
        )
        value = self._heads(f"{name}.v")
        changes = {"layout": "transposed", "stride": g.token_words, "extent": channels * g.token_words}
        value = Tensor(**{**vars(value), **changes})
        self._emit(
            Opcode.LINEAR,
            f"{name}.value",
            value,
            work=cycles.linear(
                self.config,
                macs=model.tokens * model.dim * model.dim,
                steps=channels,
                stationary_rows=model.tokens,
                words=g.dim_words,
            ),
            **self._block(parameter_bytes(linear.bias, linear.multiplier, linear.shift)),
            broadcast_base=weights.base,
            broadcast_stride=g.dim_words,
            steps=channels,
            words=g.dim_words,
            stationary_base=normed.base,
            stationary_stride=normed.stride,
            stationary_rows=model.tokens,
            channels=channels,
            destination_base=value.base,
            destination_stride=value.stride,
            destination=Destination.ACTIVATION,
            gelu=0,
            swapped=1,
            wide=0,
            broadcast_unsigned=0,
            gelu_multiplier=0,
            gelu_shift=0,
        )
        return value

    def _hidden_padding(self, mlp: QuantisedMlp) -> int:
        """What GELU makes of a padded channel: the zero point."""
        return int(functions.gelu_activation(0, mlp.gelu_multiplier, mlp.gelu_shift, self.config.numerics))

    def _mlp(self, norm: QuantisedLayerNorm, mlp: QuantisedMlp, name: str) -> None:
        g, model = self.geometry, self.model
        normed = self._tensor(f"{name}.norm2", model.tokens, model.dim)
        hidden = self._tensor(
            f"{name}.hidden", model.tokens, model.mlp_hidden, signed=False, padding=self._hidden_padding(mlp)
        )
        self._norm(norm, normed)
        self._linear(
            f"{name}.fc1",
            mlp.first,
            hidden,
            source=normed.base,
            words=g.dim_words,
            steps=model.tokens,
            destination=Destination.ACTIVATION,
            gelu=(mlp.gelu_multiplier, mlp.gelu_shift),
        )
        self._linear(
            f"{name}.fc2",
            mlp.second,
            self._residual(f"{name}.residual"),
            source=hidden.base,
            words=g.hidden_words,
            steps=model.tokens,
            destination=Destination.RESIDUAL_ADD,
            broadcast_unsigned=1,
        )

    def _route(self, norm: QuantisedLayerNorm, mlp: QuantisedExperts, name: str) -> None:
        g, model, c = self.geometry, self.model, self.config
        normed = self._tensor(f"{name}.norm2", model.tokens, model.dim)
        wide = self._tensor(
            f"{name}.norm2_wide",
            model.tokens,
            model.dim,
            layout="wide",
            stride=2 * g.dim_words,
            extent=model.tokens * 2 * g.dim_words,
        )
        self._norm(norm, normed, wide)
        tiles = g.tiles(model.experts)
        scores = Tensor(
            name=f"{name}.gate_scores",
            space="score",
            shape=(model.tokens, model.experts),
            layout="logits",
            extent=tiles * model.tokens,
            lanes=c.elements,
            elements=c.elements,
        )
        for task, gate in enumerate(mlp.gates):
            self._linear(
                f"{name}.gate.{model.tasks[task].name}",
                gate,
                scores,
                source=wide.base,
                words=2 * g.dim_words,
                steps=model.tokens,
                destination=Destination.SCORE,
                channels=g.gate_channels,
                task_mask=1 << task,
                wide=1,
            )
        choices = (model.tokens, model.top_k)
        self._emit(
            Opcode.GATE,
            f"{name}.route",
            *(
                Tensor(name=f"{name}.{part}", space="queue", shape=choices, layout="queue", lanes=1, signed=False)
                for part in ("expert_indices", "expert_weights", "queues")
            ),
            tokens=model.tokens,
            experts=model.experts,
            top_k=model.top_k,
        )
        self._experts(mlp, normed, name)

    def _experts(self, mlp: QuantisedExperts, normed: Tensor, name: str) -> None:
        g, model, lanes = self.geometry, self.model, self.config.lanes
        gelu = {(expert.gelu_multiplier, expert.gelu_shift) for expert in mlp.experts}
        if len(gelu) != 1:
            raise ValueError(f"{name}: experts have {len(gelu)} GELU scales; quantise them with one for the layer")
        blocks = []
        for expert in mlp.experts:
            first = self._pad_outputs(expert.first, g.expert_words * lanes)
            second = self._pad_outputs(expert.second, g.dim_words * lanes)
            blocks += [self._linear_block(first, g.dim_words), self._linear_block(second, g.expert_words)]
        hidden = self._tensor(
            f"{name}.expert_hidden",
            model.tokens,
            model.expert_hidden,
            layout="positions",
            signed=False,
            padding=self._hidden_padding(mlp.experts[0]),
        )
        updates = self._residual(f"{name}.expert_residual", layout="accumulated")
        each = len(blocks[0]) + len(blocks[1])
        self._emit(
            Opcode.EXPERTS,
            f"{name}.experts",
            hidden,
            updates,
            self._residual(f"{name}.residual", layout="last"),
            work=cycles.experts(
                self.config, routed=model.tokens * model.top_k, dim=model.dim, hidden=model.expert_hidden
            ),
            stream_address=self.stream.append(np.concatenate(blocks)),
            stream_bytes=each,
            source_base=normed.base,
            source_stride=normed.stride,
            hidden_base=hidden.base,
            hidden_stride=hidden.stride,
            destination_base=0,
            destination_stride=g.dim_words,
            source_words=g.dim_words,
            hidden_channels=g.expert_words * lanes,
            hidden_words=g.expert_words,
            channels=g.dim_words * lanes,
            gelu_multiplier=mlp.experts[0].gelu_multiplier,
            gelu_shift=mlp.experts[0].gelu_shift,
            first_bytes=len(blocks[0]),
            experts=model.experts,
        )

    # Results ----------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Final norm, heads and stores of every task, then END."""
        with_head = sum(1 << task for task, head in enumerate(self.quantised.heads) if head is not None)
        if with_head:
            if self.quantised.norm is None:
                raise ValueError("a head needs the final norm: its input must be an activation; set final_norm")
            normed = self._tensor("norm", self.model.patches, self.model.dim)
            self._norm(self.quantised.norm, normed, skip=1, task_mask=with_head)
        for task, head in enumerate(self.quantised.heads):
            if head is None:
                name = f"layer{self.model.layers - 1:02d}.residual"
                self._store(task, name, self.model.tokens, 0)
                shape = (self.model.tokens, self.model.dim)
            else:
                self._head(task, head, normed)
                shape = (self.model.patches, len(head.weight))
            row_bytes = 4 * self.geometry.output_words(task) * self.config.lanes
            self.outputs.append(Output(task=self.model.tasks[task].name, shape=shape, row_bytes=row_bytes))
        self._emit(Opcode.END, "end")

    def _head(self, task: int, head: QuantisedLinear, normed: Tensor) -> None:
        """Logits of as many patches at a time as the residual memory holds."""
        words, room = self.geometry.dim_words, self.geometry.head_rows(task)
        for first in range(0, self.model.patches, room):
            rows = min(room, self.model.patches - first)
            self._linear(
                f"head.{self.model.tasks[task].name}",
                head,
                self._tensor("head", rows, len(head.weight), base=0, space="residual", first_row=first),
                source=normed.base + first * words,
                words=words,
                steps=rows,
                destination=Destination.RESIDUAL_SET,
                task_mask=1 << task,
            )
            self._store(task, "head", rows, first)

    def _store(self, task: int, name: str, rows: int, first: int) -> None:
        words = self.geometry.output_words(task)
        channels = self.quantised.heads[task]
        width = self.model.dim if channels is None else len(channels.weight)
        self._emit(
            Opcode.STORE,
            f"store.{self.model.tasks[task].name}",
            self._tensor(name, rows, width, base=first * words, space="memory", first_row=first),
            task_mask=1 << task,
            source_base=0,
            source_stride=words,
            rows=rows,
            words=words,
            offset=4 * first * words * self.config.lanes,
        )
