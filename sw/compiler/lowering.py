"""From a quantised model to commands, in the order of execution."""

from __future__ import annotations

import numpy as np

from tessera.golden.config import layer_name
from tessera.golden.integer import functions
from tessera.golden.integer.parameters import (
    QuantisedExperts,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedMlp,
    QuantisedModel,
)
from tessera.hw.isa import Destination, Follow, Function, Opcode, Unit
from tessera.program.commands import CommandKind, Label, Phase
from tessera.program.layouts.routed import Accumulated, QueueEntries, QueuePositions
from tessera.program.layouts.rows import LastRows, Rows, RowsOf, WideRows
from tessera.program.layouts.tiles import GateLogits
from tessera.program.memory_map import Output
from tessera.program.tensors import Tensor
from tessera.sw.compiler.attention import AttentionLowering
from tessera.sw.compiler.emission import NOTHING, Emitter, Order, Product, span_of
from tessera.sw.compiler.layout import Plan
from tessera.sw.compiler.weights import pad_axis
from tessera.sw.cycles import bound


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
            self._attention.attend(layer, order)
            if isinstance(layer.mlp, QuantisedExperts):
                self._route(layer.norm2, layer.mlp)
                rows = Follow.NOTHING
            else:
                self._mlp(layer.norm2, layer.mlp)
                rows = Follow.ENGINE
        self.emitter.layer = None
        self.emitter.phase = Phase.OUTPUT
        self._finish()

    def _embed(self) -> None:
        g, model = self._geometry, self._model
        pixels = self.emitter.rows("pixels", model.patches, model.patch_inputs, signed=False, of=RowsOf.PATCHES)
        self.emitter.emit(
            Opcode.LOAD_IMAGE,
            Label(CommandKind.IMAGE),
            pixels,
            order=Order(after=NOTHING),
            destination_base=pixels.layout.base,
            destination_stride=pixels.layout.stride,
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
                source=pixels.layout.base,
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

    def _mlp(self, norm: QuantisedLayerNorm, mlp: QuantisedMlp) -> None:
        """The dense MLP, in blocks of tokens where its hidden layer does not fit on chip.

        The next LayerNorm, of all tokens, follows the rows of the last block: others were finished before.
        """
        g, model = self._geometry, self._model
        self.emitter.phase = Phase.MLP
        normed = self.emitter.rows("norm2", model.tokens, model.dim)
        self.emitter.norm(CommandKind.NORM2, norm, normed, order=Order(after=NOTHING, follow=Follow.ENGINE))
        first = second = None
        for rows in self._plan.tiling.tokens(g):
            span = span_of("token", rows, model.tokens)
            hidden = self.emitter.rows(
                "hidden",
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
                    source=normed.layout.base + rows.start * g.dim_words,
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
                    tensor=self.emitter.residual("residual", rows),
                    source=hidden.layout.base,
                    words=g.hidden_words,
                    steps=len(rows),
                    destination=Destination.RESIDUAL_ADD,
                    unsigned=True,
                ),
                Order(after=NOTHING, follow=Follow.ENGINE),
                block=second,
            )

    def _route(self, norm: QuantisedLayerNorm, mlp: QuantisedExperts) -> None:
        g, model, c = self._geometry, self._model, self._config
        self.emitter.phase = Phase.EXPERTS
        normed = self.emitter.rows("norm2", model.tokens, model.dim)
        rows = (model.tokens, model.dim)
        halves = WideRows(shape=rows, lanes=c.lanes, stride=2 * g.dim_words, base=self.emitter.base("norm2_wide"))
        wide = self.emitter.tensor("norm2_wide", "scratchpad", halves)
        self.emitter.norm(CommandKind.NORM2, norm, normed, wide, order=Order(after=NOTHING, follow=Follow.ENGINE))
        logits = GateLogits(shape=(model.tokens, model.experts), elements=c.elements)
        scores = self.emitter.tensor("gate_scores", "score", logits)
        for task, gate in enumerate(mlp.gates):
            self.emitter.linear(
                Label(CommandKind.GATE, task=model.tasks[task].name),
                Product(
                    linear=gate,
                    tensor=scores,
                    source=wide.layout.base,
                    words=2 * g.dim_words,
                    steps=model.tokens,
                    destination=Destination.SCORE,
                    channels=g.gate_channels,
                    wide=True,
                ),
                Order(task_mask=1 << task, after=NOTHING, follow=Follow.NORM),
            )
        fields = {"expert_indices": ("expert",), "expert_weights": ("weight",), "queues": ("position", "token")}
        choices = (model.tokens, model.top_k)
        self.emitter.emit(
            Opcode.GATE,
            Label(CommandKind.ROUTE),
            *(
                self.emitter.tensor(part, "queue", QueueEntries(shape=choices, fields=names))
                for part, names in fields.items()
            ),
            order=Order(after=NOTHING, follow=Follow.ENGINE),
            tokens=model.tokens,
            experts=model.experts,
            top_k=model.top_k,
        )
        self._experts(mlp, normed.layout)

    def _experts(self, mlp: QuantisedExperts, normed: Rows) -> None:
        g, model, lanes = self._geometry, self._model, self._config.lanes
        gelu = {(expert.gelu_multiplier, expert.gelu_shift) for expert in mlp.experts}
        if len(gelu) != 1:
            name = layer_name(self.emitter.layer or 0)
            raise ValueError(f"{name}: experts have {len(gelu)} GELU scales; quantise them with one for the layer")
        blocks = []
        for expert in mlp.experts:
            first = self.emitter.pad_outputs(expert.first, g.expert_words * lanes)
            second = self.emitter.pad_outputs(expert.second, g.dim_words * lanes)
            blocks += [self.emitter.linear_block(first, g.dim_words), self.emitter.linear_block(second, g.expert_words)]
        hidden = QueuePositions(
            shape=(model.tokens, model.expert_hidden),
            lanes=lanes,
            stride=g.expert_words,
            base=self.emitter.base("expert_hidden"),
            padding=self._hidden_padding(mlp.experts[0]),
            signed=False,
        )
        updates = Accumulated(shape=(model.tokens, model.dim), lanes=lanes, stride=g.dim_words)
        each = len(blocks[0]) + len(blocks[1])
        self.emitter.emit(
            Opcode.EXPERTS,
            Label(CommandKind.EXPERTS),
            self.emitter.tensor("expert_hidden", "scratchpad", hidden),
            self.emitter.tensor("expert_residual", "residual", updates),
            self.emitter.residual("residual", kind=LastRows),
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
            function=Function.GELU,
            function_multiplier=mlp.experts[0].gelu_multiplier,
            function_shift=mlp.experts[0].gelu_shift,
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
            normed = self.emitter.rows("norm", len(read), self._model.dim, of=RowsOf.PATCHES)
            self.emitter.norm(
                CommandKind.NORM, self._quantised.norm, normed, order=Order(task_mask=mask), skip=read.start
            )
        for task, head in enumerate(self._quantised.heads):
            if head is None:
                self._store(task, self._model.tokens, 0)
                shape = (self._model.tokens, self._model.dim)
            else:
                self._head(task, head, normed.layout)
                shape = (len(self._geometry.head_tokens(task)), len(head.weight))
            row_bytes = 4 * self._geometry.output_words(task) * self._config.lanes
            self.outputs.append(Output(task=self._model.tasks[task].name, shape=shape, row_bytes=row_bytes))
        self.emitter.phase = Phase.CONTROL
        self.emitter.emit(Opcode.END, Label(CommandKind.END))

    def _head(self, task: int, head: QuantisedLinear, normed: Rows) -> None:
        """Logits of as many tokens at a time as the residual memory holds."""
        words, room = self._geometry.dim_words, self._geometry.head_rows(task)
        tokens = len(self._geometry.head_tokens(task))
        for first in range(0, tokens, room):
            rows = min(room, tokens - first)
            logits = self._result(task, rows, first, 0)
            self.emitter.linear(
                Label(CommandKind.HEAD, task=self._model.tasks[task].name),
                Product(
                    linear=head,
                    tensor=self.emitter.tensor("head", "residual", logits),
                    source=normed.base + first * words,
                    words=words,
                    steps=rows,
                    destination=Destination.RESIDUAL_SET,
                ),
                Order(task_mask=1 << task),
            )
            self._store(task, rows, first)

    def _result(self, task: int, rows: int, first: int, base: int) -> Rows:
        """Some rows of a task's result, from token ``first`` of those on that its head reads, at a word ``base``."""
        head = self._quantised.heads[task]
        return Rows(
            shape=(rows, self._model.dim if head is None else len(head.weight)),
            lanes=self._config.lanes,
            stride=self._geometry.output_words(task),
            base=base,
            first_row=first,
            of=RowsOf.TOKENS if head is None else RowsOf.PATCHES,
        )

    def _store(self, task: int, rows: int, first: int) -> None:
        words = self._geometry.output_words(task)
        features = self._quantised.heads[task] is None
        part, layer = ("residual", self._model.layers - 1) if features else ("head", None)
        layout = self._result(task, rows, first, first * words)
        self.emitter.emit(
            Opcode.STORE,
            Label(CommandKind.STORE, task=self._model.tasks[task].name),
            Tensor(part=part, layer=layer, space="memory", layout=layout),
            order=Order(task_mask=1 << task),
            source_base=0,
            source_stride=words,
            rows=rows,
            words=words,
            offset=4 * first * words * self._config.lanes,
        )
