"""From a quantised model to commands, in the order of execution."""

from __future__ import annotations

import numpy as np

from golden.integer import functions
from golden.integer.parameters import (
    QuantisedExperts,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedMlp,
    QuantisedModel,
)
from hw.isa import Destination, Follow, Opcode, Unit
from program.program import Output, Tensor
from sw.compiler.attention import AttentionLowering
from sw.compiler.emission import NOTHING, suffix
from sw.compiler.layout import Plan
from sw.compiler.weights import pad_axis
from sw.cycles import bound


class Lowering(AttentionLowering):
    """Emits the program of one model, command by command.

    Parameters
    ----------
    quantised:
        The model.
    plan:
        Its scratchpad addresses; must fit.
    """

    def __init__(self, quantised: QuantisedModel, plan: Plan) -> None:
        super().__init__(plan)
        self.quantised = quantised
        self.outputs: list[Output] = []

    def lower(self) -> None:
        """Emit everything."""
        self._embed()
        rows = Follow.NOTHING if self.plan.tiling.pixels_apart else Follow.ENGINE
        for index, layer in enumerate(self.quantised.layers):
            self.layer = index
            # Experts finish the rows of the residual stream in no order; and pixels may lie in LayerNorm's place.
            self.attend(layer, f"layer{index:02d}", after=NOTHING if rows else Unit.ENGINE, follow=rows)
            if isinstance(layer.mlp, QuantisedExperts):
                self._route(layer.norm2, layer.mlp, f"layer{index:02d}")
                rows = Follow.NOTHING
            else:
                self._mlp(layer.norm2, layer.mlp, f"layer{index:02d}")
                rows = Follow.ENGINE
        self.layer = None
        self._finish()

    def _embed(self) -> None:
        g, model = self.geometry, self.model
        pixels = self.tensor("pixels", model.patches, model.patch_inputs, signed=False)
        self.emit(
            Opcode.LOAD_IMAGE,
            "image",
            pixels,
            after=NOTHING,
            destination_base=pixels.base,
            destination_stride=pixels.stride,
            patch=model.patch,
            grid_rows=model.grid[0],
            grid_columns=model.grid[1],
            row_bytes=model.image_width,
            plane_bytes=model.image_width * model.image_height,
        )
        initial = pad_axis(self.quantised.initial_residual, 1, g.dim_words * self.config.lanes)
        self.emit(
            Opcode.LOAD_RESIDUAL,
            "residual.init",
            self.residual("residual.init"),
            after=NOTHING,
            **self.block(initial.astype("<i4").reshape(-1).view(np.uint8)),
            destination_base=0,
            words=model.tokens * g.dim_words,
        )
        self.linear(
            "embed",
            self.quantised.patch_embedding,
            self.residual("residual.embed", rows=range(1, model.tokens)),
            source=pixels.base,
            words=g.patch_words,
            steps=model.patches,
            destination=Destination.RESIDUAL_ADD,
            after=Unit.STREAM,
            follow=Follow.IMAGE,
            broadcast_unsigned=1,
        )

    def _hidden_padding(self, mlp: QuantisedMlp) -> int:
        """What GELU makes of a padded channel: the zero point."""
        return int(functions.gelu_activation(0, mlp.gelu_multiplier, mlp.gelu_shift, self.config.numerics))

    def _mlp(self, norm: QuantisedLayerNorm, mlp: QuantisedMlp, name: str) -> None:
        """The dense MLP, in blocks of tokens where its hidden layer does not fit on chip.

        The next LayerNorm, of all tokens, follows the rows of the last block: others were finished before.
        """
        g, model = self.geometry, self.model
        normed = self.tensor(f"{name}.norm2", model.tokens, model.dim)
        self.norm(norm, normed, after=NOTHING, follow=Follow.ENGINE)
        first = second = None
        for rows in self.plan.tiling.tokens(g):
            part = suffix("token", rows, model.tokens)
            hidden = self.tensor(
                f"{name}.hidden",
                len(rows),
                model.mlp_hidden,
                signed=False,
                padding=self._hidden_padding(mlp),
                first_row=rows.start,
            )
            first = self.linear(
                f"{name}.fc1{part}",
                mlp.first,
                hidden,
                source=normed.base + rows.start * g.dim_words,
                words=g.dim_words,
                steps=len(rows),
                destination=Destination.ACTIVATION,
                # Only the first block begins at the row at which LayerNorm does.
                after=Unit.NORM if rows.start else NOTHING,
                follow=Follow.NOTHING if rows.start else Follow.NORM,
                gelu=(mlp.gelu_multiplier, mlp.gelu_shift),
                block=first,
            )
            second = self.linear(
                f"{name}.fc2{part}",
                mlp.second,
                self.residual(f"{name}.residual", rows=rows),
                source=hidden.base,
                words=g.hidden_words,
                steps=len(rows),
                destination=Destination.RESIDUAL_ADD,
                after=NOTHING,
                follow=Follow.ENGINE,
                block=second,
                broadcast_unsigned=1,
            )

    def _route(self, norm: QuantisedLayerNorm, mlp: QuantisedExperts, name: str) -> None:
        g, model, c = self.geometry, self.model, self.config
        normed = self.tensor(f"{name}.norm2", model.tokens, model.dim)
        wide = self.tensor(
            f"{name}.norm2_wide",
            model.tokens,
            model.dim,
            layout="wide",
            stride=2 * g.dim_words,
            extent=model.tokens * 2 * g.dim_words,
        )
        self.norm(norm, normed, wide, after=NOTHING, follow=Follow.ENGINE)
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
            self.linear(
                f"{name}.gate.{model.tasks[task].name}",
                gate,
                scores,
                source=wide.base,
                words=2 * g.dim_words,
                steps=model.tokens,
                destination=Destination.SCORE,
                channels=g.gate_channels,
                task_mask=1 << task,
                after=NOTHING,
                follow=Follow.NORM,
                wide=1,
            )
        choices = (model.tokens, model.top_k)
        self.emit(
            Opcode.GATE,
            f"{name}.route",
            *(
                Tensor(name=f"{name}.{part}", space="queue", shape=choices, layout="queue", lanes=1, signed=False)
                for part in ("expert_indices", "expert_weights", "queues")
            ),
            after=NOTHING,
            follow=Follow.ENGINE,
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
            first = self.pad_outputs(expert.first, g.expert_words * lanes)
            second = self.pad_outputs(expert.second, g.dim_words * lanes)
            blocks += [self.linear_block(first, g.dim_words), self.linear_block(second, g.expert_words)]
        hidden = self.tensor(
            f"{name}.expert_hidden",
            model.tokens,
            model.expert_hidden,
            layout="positions",
            signed=False,
            padding=self._hidden_padding(mlp.experts[0]),
        )
        updates = self.residual(f"{name}.expert_residual", layout="accumulated")
        each = len(blocks[0]) + len(blocks[1])
        self.emit(
            Opcode.EXPERTS,
            f"{name}.experts",
            hidden,
            updates,
            self.residual(f"{name}.residual", layout="last"),
            work=bound.experts(
                self.config, routed=model.tokens * model.top_k, dim=model.dim, hidden=model.expert_hidden
            ),
            after=Unit.GATE,
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

    def _finish(self) -> None:
        """Final norm, heads and stores of every task, then END."""
        with_head = [task for task, head in enumerate(self.quantised.heads) if head is not None]
        if with_head and self.quantised.norm is None:
            raise ValueError("a head needs the final norm: its input must be an activation; set final_norm")
        masks: dict[range, int] = {}
        for task in with_head:
            read = self.geometry.head_tokens(task)
            masks[read] = masks.get(read, 0) | 1 << task
        for read, mask in masks.items():
            assert self.quantised.norm is not None
            normed = self.tensor("norm", len(read), self.model.dim)
            self.norm(self.quantised.norm, normed, skip=read.start, task_mask=mask)
        for task, head in enumerate(self.quantised.heads):
            if head is None:
                name = f"layer{self.model.layers - 1:02d}.residual"
                self._store(task, name, self.model.tokens, 0)
                shape = (self.model.tokens, self.model.dim)
            else:
                self._head(task, head, normed)
                shape = (len(self.geometry.head_tokens(task)), len(head.weight))
            row_bytes = 4 * self.geometry.output_words(task) * self.config.lanes
            self.outputs.append(Output(task=self.model.tasks[task].name, shape=shape, row_bytes=row_bytes))
        self.emit(Opcode.END, "end")

    def _head(self, task: int, head: QuantisedLinear, normed: Tensor) -> None:
        """Logits of as many tokens at a time as the residual memory holds."""
        words, room = self.geometry.dim_words, self.geometry.head_rows(task)
        tokens = len(self.geometry.head_tokens(task))
        for first in range(0, tokens, room):
            rows = min(room, tokens - first)
            self.linear(
                f"head.{self.model.tasks[task].name}",
                head,
                self.tensor("head", rows, len(head.weight), base=0, space="residual", first_row=first),
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
        self.emit(
            Opcode.STORE,
            f"store.{self.model.tasks[task].name}",
            self.tensor(name, rows, width, base=first * words, space="memory", first_row=first),
            task_mask=1 << task,
            source_base=0,
            source_stride=words,
            rows=rows,
            words=words,
            offset=4 * first * words * self.config.lanes,
        )
