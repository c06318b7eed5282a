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
from program.commands import CommandKind, Label, Phase
from program.program import Output
from program.tensors import Tensor
from sw.compiler.attention import AttentionLowering
from sw.compiler.emission import NOTHING, Emitter, Order, Product, span_of
from sw.compiler.layout import Plan
from sw.compiler.weights import pad_axis
from sw.cycles import bound


class Lowering:
    """Emits the program of one model, command by command.

    Parameters
    ----------
    quantised:
        The model.
    plan:
        Its scratchpad addresses; must fit.

    Members
    -------
    emitter:
        Commands and weight stream so far.
    outputs:
        Results of the tasks, in the order of the model's tasks.
    """

    def __init__(self, quantised: QuantisedModel, plan: Plan) -> None:
        self.emitter = Emitter(plan)
        self.outputs: list[Output] = []
        self._quantised, self._plan = quantised, plan
        self._geometry, self._config, self._model = plan.geometry, self.emitter.config, self.emitter.model
        self._attention = AttentionLowering(self.emitter)

    def lower(self) -> None:
        """Emit everything."""
        self._embed()
        rows = Follow.NOTHING if self._plan.tiling.pixels_apart else Follow.ENGINE
        for index, layer in enumerate(self._quantised.layers):
            self.emitter.layer = index
            # Experts finish the rows of the residual stream in no order; and pixels may lie in LayerNorm's place.
            order = Order(after=NOTHING if rows else Unit.ENGINE, follow=rows)
            self._attention.attend(layer, f"layer{index:02d}", order)
            if isinstance(layer.mlp, QuantisedExperts):
                self._route(layer.norm2, layer.mlp, f"layer{index:02d}")
                rows = Follow.NOTHING
            else:
                self._mlp(layer.norm2, layer.mlp, f"layer{index:02d}")
                rows = Follow.ENGINE
        self.emitter.layer = None
        self.emitter.phase = Phase.OUTPUT
        self._finish()

    def _embed(self) -> None:
        g, model = self._geometry, self._model
        pixels = self.emitter.tensor("pixels", model.patches, model.patch_inputs, signed=False)
        self.emitter.emit(
            Opcode.LOAD_IMAGE,
            Label(CommandKind.IMAGE),
            pixels,
            order=Order(after=NOTHING),
            destination_base=pixels.base,
            destination_stride=pixels.stride,
            patch=model.patch,
            grid_rows=model.grid[0],
            grid_columns=model.grid[1],
            row_bytes=model.image_width,
            plane_bytes=model.image_width * model.image_height,
        )
        initial = pad_axis(self._quantised.initial_residual, 1, g.dim_words * self._config.lanes)
        self.emitter.emit(
            Opcode.LOAD_RESIDUAL,
            Label(CommandKind.INITIAL_RESIDUAL),
            self.emitter.residual("residual.init"),
            order=Order(after=NOTHING),
            **self.emitter.block(initial.astype("<i4").reshape(-1).view(np.uint8)),
            destination_base=0,
            words=model.tokens * g.dim_words,
        )
        self.emitter.linear(
            Label(CommandKind.EMBED),
            Product(
                linear=self._quantised.patch_embedding,
                tensor=self.emitter.residual("residual.embed", rows=range(1, model.tokens)),
                source=pixels.base,
                words=g.patch_words,
                steps=model.patches,
                destination=Destination.RESIDUAL_ADD,
                unsigned=True,
            ),
            Order(after=Unit.STREAM, follow=Follow.IMAGE),
        )

    def _hidden_padding(self, mlp: QuantisedMlp) -> int:
        """What GELU makes of a padded channel: the zero point."""
        return int(functions.gelu_activation(0, mlp.gelu_multiplier, mlp.gelu_shift, self._config.numerics))

    def _mlp(self, norm: QuantisedLayerNorm, mlp: QuantisedMlp, name: str) -> None:
        """The dense MLP, in blocks of tokens where its hidden layer does not fit on chip.

        The next LayerNorm, of all tokens, follows the rows of the last block: others were finished before.
        """
        g, model = self._geometry, self._model
        self.emitter.phase = Phase.MLP
        normed = self.emitter.tensor(f"{name}.norm2", model.tokens, model.dim)
        self.emitter.norm(CommandKind.NORM2, norm, normed, order=Order(after=NOTHING, follow=Follow.ENGINE))
        first = second = None
        for rows in self._plan.tiling.tokens(g):
            span = span_of("token", rows, model.tokens)
            hidden = self.emitter.tensor(
                f"{name}.hidden",
                len(rows),
                model.mlp_hidden,
                signed=False,
                padding=self._hidden_padding(mlp),
                first_row=rows.start,
            )
            first = self.emitter.linear(
                Label(CommandKind.FC1, span),
                Product(
                    linear=mlp.first,
                    tensor=hidden,
                    source=normed.base + rows.start * g.dim_words,
                    words=g.dim_words,
                    steps=len(rows),
                    destination=Destination.ACTIVATION,
                    gelu=(mlp.gelu_multiplier, mlp.gelu_shift),
                ),
                Order(
                    # Only the first block begins at the row at which LayerNorm does.
                    after=Unit.NORM if rows.start else NOTHING,
                    follow=Follow.NOTHING if rows.start else Follow.NORM,
                ),
                block=first,
            )
            second = self.emitter.linear(
                Label(CommandKind.FC2, span),
                Product(
                    linear=mlp.second,
                    tensor=self.emitter.residual(f"{name}.residual", rows=rows),
                    source=hidden.base,
                    words=g.hidden_words,
                    steps=len(rows),
                    destination=Destination.RESIDUAL_ADD,
                    unsigned=True,
                ),
                Order(after=NOTHING, follow=Follow.ENGINE),
                block=second,
            )

    def _route(self, norm: QuantisedLayerNorm, mlp: QuantisedExperts, name: str) -> None:
        g, model, c = self._geometry, self._model, self._config
        self.emitter.phase = Phase.EXPERTS
        normed = self.emitter.tensor(f"{name}.norm2", model.tokens, model.dim)
        wide = self.emitter.tensor(
            f"{name}.norm2_wide",
            model.tokens,
            model.dim,
            layout="wide",
            stride=2 * g.dim_words,
            extent=model.tokens * 2 * g.dim_words,
        )
        self.emitter.norm(CommandKind.NORM2, norm, normed, wide, order=Order(after=NOTHING, follow=Follow.ENGINE))
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
            self.emitter.linear(
                Label(CommandKind.GATE, task=model.tasks[task].name),
                Product(
                    linear=gate,
                    tensor=scores,
                    source=wide.base,
                    words=2 * g.dim_words,
                    steps=model.tokens,
                    destination=Destination.SCORE,
                    channels=g.gate_channels,
                    wide=True,
                ),
                Order(task_mask=1 << task, after=NOTHING, follow=Follow.NORM),
            )
        choices = (model.tokens, model.top_k)
        self.emitter.emit(
            Opcode.GATE,
            Label(CommandKind.ROUTE),
            *(
                Tensor(name=f"{name}.{part}", space="queue", shape=choices, layout="queue", lanes=1, signed=False)
                for part in ("expert_indices", "expert_weights", "queues")
            ),
            order=Order(after=NOTHING, follow=Follow.ENGINE),
            tokens=model.tokens,
            experts=model.experts,
            top_k=model.top_k,
        )
        self._experts(mlp, normed, name)

    def _experts(self, mlp: QuantisedExperts, normed: Tensor, name: str) -> None:
        g, model, lanes = self._geometry, self._model, self._config.lanes
        gelu = {(expert.gelu_multiplier, expert.gelu_shift) for expert in mlp.experts}
        if len(gelu) != 1:
            raise ValueError(f"{name}: experts have {len(gelu)} GELU scales; quantise them with one for the layer")
        blocks = []
        for expert in mlp.experts:
            first = self.emitter.pad_outputs(expert.first, g.expert_words * lanes)
            second = self.emitter.pad_outputs(expert.second, g.dim_words * lanes)
            blocks += [self.emitter.linear_block(first, g.dim_words), self.emitter.linear_block(second, g.expert_words)]
        hidden = self.emitter.tensor(
            f"{name}.expert_hidden",
            model.tokens,
            model.expert_hidden,
            layout="positions",
            signed=False,
            padding=self._hidden_padding(mlp.experts[0]),
        )
        updates = self.emitter.residual(f"{name}.expert_residual", layout="accumulated")
        each = len(blocks[0]) + len(blocks[1])
        self.emitter.emit(
            Opcode.EXPERTS,
            Label(CommandKind.EXPERTS),
            hidden,
            updates,
            self.emitter.residual(f"{name}.residual", layout="last"),
            work=bound.experts(
                self._config, routed=model.tokens * model.top_k, dim=model.dim, hidden=model.expert_hidden
            ),
            order=Order(after=Unit.GATE),
            stream_address=self.emitter.stream.append(np.concatenate(blocks)),
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
        with_head = [task for task, head in enumerate(self._quantised.heads) if head is not None]
        if with_head and self._quantised.norm is None:
            raise ValueError("a head needs the final norm: its input must be an activation; set final_norm")
        masks: dict[range, int] = {}
        for task in with_head:
            read = self._geometry.head_tokens(task)
            masks[read] = masks.get(read, 0) | 1 << task
        for read, mask in masks.items():
            assert self._quantised.norm is not None
            normed = self.emitter.tensor("norm", len(read), self._model.dim)
            self.emitter.norm(
                CommandKind.NORM, self._quantised.norm, normed, order=Order(task_mask=mask), skip=read.start
            )
        for task, head in enumerate(self._quantised.heads):
            if head is None:
                name = f"layer{self._model.layers - 1:02d}.residual"
                self._store(task, name, self._model.tokens, 0)
                shape = (self._model.tokens, self._model.dim)
            else:
                self._head(task, head, normed)
                shape = (len(self._geometry.head_tokens(task)), len(head.weight))
            row_bytes = 4 * self._geometry.output_words(task) * self._config.lanes
            self.outputs.append(Output(task=self._model.tasks[task].name, shape=shape, row_bytes=row_bytes))
        self.emitter.phase = Phase.CONTROL
        self.emitter.emit(Opcode.END, Label(CommandKind.END))

    def _head(self, task: int, head: QuantisedLinear, normed: Tensor) -> None:
        """Logits of as many tokens at a time as the residual memory holds."""
        words, room = self._geometry.dim_words, self._geometry.head_rows(task)
        tokens = len(self._geometry.head_tokens(task))
        for first in range(0, tokens, room):
            rows = min(room, tokens - first)
            logits = self.emitter.tensor("head", rows, len(head.weight), base=0, space="residual", first_row=first)
            self.emitter.linear(
                Label(CommandKind.HEAD, task=self._model.tasks[task].name),
                Product(
                    linear=head,
                    tensor=logits,
                    source=normed.base + first * words,
                    words=words,
                    steps=rows,
                    destination=Destination.RESIDUAL_SET,
                ),
                Order(task_mask=1 << task),
            )
            self._store(task, "head", rows, first)

    def _store(self, task: int, name: str, rows: int, first: int) -> None:
        words = self._geometry.output_words(task)
        channels = self._quantised.heads[task]
        width = self._model.dim if channels is None else len(channels.weight)
        self.emitter.emit(
            Opcode.STORE,
            Label(CommandKind.STORE, task=self._model.tasks[task].name),
            self.emitter.tensor(name, rows, width, base=first * words, space="memory", first_row=first),
            order=Order(task_mask=1 << task),
            source_base=0,
            source_stride=words,
            rows=rows,
            words=words,
            offset=4 * first * words * self._config.lanes,
        )
