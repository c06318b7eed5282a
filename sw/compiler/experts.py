"""A mixture of experts as operations: the tasks' gates, routing, and the loop over the experts."""

from __future__ import annotations

from typing import Any

import numpy as np

from tessera.golden.integer.parameters import QuantisedExperts
from tessera.golden.integer.steps import ExpertsStep, NormStep
from tessera.hw.isa import Destination, Opcode, Unit
from tessera.program.commands import CommandKind
from tessera.program.layouts.routed import Accumulated, QueueEntries, QueuePositions
from tessera.program.layouts.rows import LastRows
from tessera.program.layouts.tiles import GateLogits
from tessera.program.tensors import Tensor
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.emission import Emitter, Product
from tessera.sw.compiler.functions import code_of, load_function, zero_activation
from tessera.sw.compiler.lists import QUEUES
from tessera.sw.compiler.operations import MachineOperation, Order, RegionAccess
from tessera.sw.cycles import bound


class ExpertsLowering:
    """Operations of one mixture of experts."""

    def __init__(self, context: Context, step: ExpertsStep) -> None:
        self._context, self._step, self._sizes = context, step, context.sizes
        norm = context.sizes.plan.by_name[step.source.tensor]
        assert isinstance(norm, NormStep) and norm.wide, f"{step.name} needs a norm with a wide output"
        self._wide = norm.inner("wide")
        self._hidden, self._scores = (step.inner(part) for part in ("expert_hidden", "scores"))
        self._queues = RegionAccess(region=QUEUES, rows=step.experts * context.sizes.config.max_tokens)

    def lower(self) -> None:
        """Append them."""
        context, step = self._context, self._step
        context.stream(step, step.onto)
        context.region(self._hidden, len(step.source) * self._sizes.words(step.hidden))
        context.region(self._scores, space="score")
        context.region(QUEUES, space="queue")
        context.lists.overwrite(self._queues)
        tasks = range(len(step.gates)) if step.tasks is None else step.tasks
        for task in tasks:
            self._gate(task)
        self._route()
        self._run()

    def _gate(self, task: int) -> None:
        context, step, sizes = self._context, self._step, self._sizes
        name = context.network.tasks[task].name
        rows = len(step.source)

        def emit(emitter: Emitter, order: Order) -> None:
            logits = GateLogits(shape=(rows, step.experts), elements=emitter.config.elements)
            words = 2 * sizes.words(step.channels)
            emitter.linear(
                context.label(
                    step,
                    CommandKind.GATE,
                    whole=f"{step.product}.gate.{name}",
                    task_mask=1 << task,
                    mixture=step.product,
                ),
                Product(
                    linear=emitter.model.of(step.name, QuantisedExperts).gates[task],
                    tensor=Tensor(name=step.inner("gate_scores"), space="score", layout=logits),
                    source=emitter.bases[context.where(self._wide)] + step.source.start * words,
                    words=words,
                    steps=rows,
                    destination=Destination.SCORE,
                    channels=sizes.tiles(step.experts),
                    wide=True,
                ),
                order,
            )

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(RegionAccess(region=context.where(self._wide), first=step.source.start, rows=rows),),
                writes=(RegionAccess(region=self._scores, rows=rows),),
                row_by_row=True,
                in_rows=True,
                tasks=(task,),
            )
        )

    def _route(self) -> None:
        context, step, rows = self._context, self._step, len(self._step.source)
        fields = {"expert_indices": ("expert",), "expert_weights": ("weight",), "queues": ("position", "token")}

        def emit(emitter: Emitter, order: Order) -> None:
            tensors = (
                Tensor(
                    name=step.inner(part),
                    space="queue",
                    layout=QueueEntries(shape=(rows, step.top_k), fields=names),
                    routing=step.product,
                )
                for part, names in fields.items()
            )
            emitter.emit(
                Opcode.GATE,
                context.label(step, CommandKind.GATE, whole=f"{step.product}.route", mixture=step.product),
                *tensors,
                order=order,
                tokens=rows,
                experts=step.experts,
                top_k=step.top_k,
            )

        context.add(
            MachineOperation(
                unit=Unit.GATE,
                emit=emit,
                reads=(RegionAccess(region=self._scores, rows=rows),),
                writes=(self._queues,),
                row_by_row=True,
                tasks=step.tasks,
            )
        )

    def _run(self) -> None:
        context, step = self._context, self._step
        stream, table = context.access(step.onto), load_function(context, step)

        def emit(emitter: Emitter, order: Order) -> None:
            self._emit_experts(emitter, order)

        context.add(
            MachineOperation(
                unit=Unit.ENGINE,
                emit=emit,
                reads=(context.access(step.source), self._queues, *table),
                writes=(stream, RegionAccess(region=context.where(self._hidden))),
                tasks=step.tasks,
            )
        )

    def _emit_experts(self, emitter: Emitter, order: Order) -> None:
        context, step, sizes, lanes = self._context, self._step, self._sizes, emitter.config.lanes
        mlp, rows = emitter.model.of(step.name, QuantisedExperts), len(step.source)
        source_words, hidden_words = sizes.words(step.channels), sizes.words(step.hidden)
        blocks = []
        for expert in mlp.experts:
            first = emitter.pad_outputs(expert.first, hidden_words * lanes)
            second = emitter.pad_outputs(expert.second, source_words * lanes)
            blocks += [emitter.linear_block(first, source_words), emitter.linear_block(second, hidden_words)]
        hidden = QueuePositions(
            shape=(rows, step.hidden),
            lanes=lanes,
            stride=hidden_words,
            base=emitter.bases[context.where(self._hidden)],
            padding=zero_activation(
                step.function, mlp.function_multiplier, mlp.function_shift, emitter.config.numerics
            ),
            signed=False,
        )
        base = emitter.bases[context.where(step.onto.tensor)] + step.onto.start * source_words
        fields: dict[str, Any] = {"shape": (rows, step.channels), "lanes": lanes, "stride": source_words, "base": base}
        fields["elements"] = emitter.config.elements if context.where(step.onto.tensor) in context.tiled else None
        updates, whole = Accumulated(**fields), LastRows(**fields, first_row=step.onto.start)
        normed = emitter.bases[context.where(step.source.tensor)] + step.source.start * source_words
        each = len(blocks[0]) + len(blocks[1])
        emitter.emit(
            Opcode.EXPERTS,
            context.label(step, whole=step.product, mixture=step.product),
            Tensor(name=self._hidden, space="scratchpad", layout=hidden, routing=step.product),
            Tensor(name=step.inner("expert_residual"), space="residual", layout=updates, routing=step.product),
            Tensor(name=step.name, space="residual", layout=whole),
            work=bound.experts(emitter.config, routed=rows * step.top_k, dim=step.channels, hidden=step.hidden),
            order=order,
            stream_address=emitter.stream.append(np.concatenate(blocks)),
            stream_bytes=each,
            source_base=normed,
            source_stride=source_words,
            hidden_base=hidden.base,
            hidden_stride=hidden.stride,
            destination_base=base,
            destination_stride=source_words,
            source_words=source_words,
            hidden_channels=hidden_words * lanes,
            hidden_words=hidden_words,
            channels=source_words * lanes,
            function=code_of(step.function),
            function_multiplier=mlp.function_multiplier,
            function_shift=mlp.function_shift,
            first_bytes=len(blocks[0]),
            experts=step.experts,
        )
