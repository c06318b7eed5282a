"""What the lowering of every step shares: the network, regions, and the operations so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    RowSelection,
    Step,
    StreamStep,
)
from tessera.golden.network.network import Network
from tessera.golden.network.operators import ActivationFunction
from tessera.program.commands import CommandKind, Phase, Span
from tessera.sw.compiler.blocks import RowBlock
from tessera.sw.compiler.cuts import Cuts
from tessera.sw.compiler.emission import ALL_TASKS, Emitter, Label
from tessera.sw.compiler.lists import Lists
from tessera.sw.compiler.operations import MachineOperation, Order, Place, Region, RegionAccess
from tessera.sw.compiler.segments import Segment, is_result
from tessera.sw.compiler.sizes import Sizes

_PHASES = {
    CommandKind.EMBED: Phase.EMBED,
    CommandKind.QKV: Phase.ATTENTION,
    CommandKind.ATTENTION: Phase.ATTENTION,
    CommandKind.PROJECTION: Phase.ATTENTION,
    CommandKind.MLP: Phase.MLP,
    CommandKind.PRODUCT: Phase.MLP,
    CommandKind.CONVOLUTION: Phase.CONVOLUTION,
    CommandKind.GATE: Phase.EXPERTS,
    CommandKind.EXPERTS: Phase.EXPERTS,
    CommandKind.HEAD: Phase.OUTPUT,
    CommandKind.STORE: Phase.OUTPUT,
    CommandKind.CONTROL: Phase.CONTROL,
}


_MOVES = (CommandKind.LOAD, CommandKind.STORE)
"""They belong to the part of the frame that makes what they move."""

_SHARED = ("score", "queue", "function")
"""Memories that have one place for whatever is in them."""


@dataclass
class Context:
    """A network on its way to operations.

    Parameters
    ----------
    network:
        The network.
    sizes:
        Its sizes on the machine.
    segments:
        Its segments.
    cuts:
        What is on chip at once.

    Attributes
    ----------
    lists:
        Lists of rows in the memory of the experts' queues.
    copied, copies:
        Rows of the block that are copied in the order of a list, and the region of each copy that there is.
    tiled:
        Streams that products with swapped roles wrote to, whose padding lanes may hold anything.
    block, head_groups:
        What is being lowered, and the groups that heads go in.
    """

    network: Network
    sizes: Sizes
    segments: list[Segment]
    cuts: Cuts
    head_groups: int = 1
    regions: dict[str, Region] = field(default_factory=dict)
    operations: list[MachineOperation] = field(default_factory=list)
    tables: dict[int, ActivationFunction] = field(default_factory=dict)
    copies: dict[RowSelection, str] = field(default_factory=dict)
    copied: frozenset[RowSelection] = frozenset()
    tiled: set[str] = field(default_factory=set)
    block: RowBlock = field(default_factory=lambda: RowBlock(steps=()))

    def __post_init__(self) -> None:
        self.lists = Lists(self.sizes.config.list_entries)

    def enter(self, block: RowBlock) -> None:
        """Lower another block from now on."""
        if block.tag or self.block.tag:
            self.copies = {}
        self.block = block
        self.copied = self.sizes.copied(block.steps)

    def region(self, name: str, words: int = 0, space: Place = "scratchpad") -> str:
        """Make the region of a tensor, or make it larger; returns its name."""
        region = name if name in self.block.lasting or not self.block.tag or space in _SHARED else name + self.block.tag
        self.block.names[name] = region
        known = self.regions.get(region)
        words = words if known is None else max(words, known.words)
        self.regions[region] = Region(name=region, space=space, words=words)
        return region

    def stream(self, step: Step, onto: RowSelection | None = None) -> str:
        """Region of a tensor in the residual memory: that of the stream which it is added to, or one of its own."""
        if onto is None:
            rows = len(self.block.held.get(step.name, range(step.rows)))
            return self.region(step.name, rows * self.sizes.words(step.channels), "residual")
        self.block.names[step.name] = self.where(onto.tensor)
        return self.where(onto.tensor)

    def outside(self, name: str, words: int) -> None:
        """Make a region in external memory."""
        self.regions[name] = Region(name=name, space="memory", words=words)

    def first(self, step: ProductStep | StreamStep) -> int:
        """The first row of its region that a step writes."""
        if isinstance(step, ProductStep) and step.onto is not None:
            return step.onto.start
        return self.block.places.get(step.name, 0)

    def where(self, name: str) -> str:
        """Region of a tensor that exists."""
        return self.block.names.get(name, name)

    def step(self, name: str) -> Step:
        """A step, with the rows of this block."""
        return self.block.by_name.get(name) or self.sizes.plan.by_name[name]

    def access(self, rows: RowSelection) -> RegionAccess:
        """Rows of a tensor that follow each other, as an access of its region."""
        return RegionAccess(region=self.where(rows.tensor), first=rows.start, rows=rows.stop - rows.start)

    def add(self, operation: MachineOperation) -> None:
        """Append an operation, which is emitted with the names and rows of this block."""
        block = self.block

        def emit(emitter: Emitter, order: Order) -> None:
            self.block = emitter.block_rows = block
            operation.emit(emitter, order)

        self.operations.append(replace(operation, emit=emit))

    # What commands are called -----------------------------------------------------------------------------------------

    def label(self, step: Step, kind: CommandKind | None = None, *, rows: range | None = None, **fields: Any) -> Label:
        """Label of a command of a step, or of some ``rows`` of what it makes."""
        kind = kind or self.kind(step)
        if self.block.tag and fields.get("span") is None:
            fields["span"] = self._span(step, range(len(self.block.made.get(step.name, ()))) if rows is None else rows)
        elif rows is not None:
            fields["span"] = Span("token", rows.start, rows.stop - 1)
        mask = ALL_TASKS if step.tasks is None else sum(1 << task for task in step.tasks)
        return Label(
            **{
                "whole": step.name,
                "kind": kind,
                "phase": self._phase(step, self.kind(step) if kind in _MOVES else kind),
                "place": step.place,
                "task_mask": mask,
                **fields,
            }
        )

    def _span(self, step: Step, rows: range) -> Span | None:
        """The tokens of some rows that a block makes, in the whole tensor."""
        made = self.block.made.get(step.name, np.arange(0))[rows.start : rows.stop]
        return Span("token", int(made.min()), int(made.max())) if len(made) else None

    def kind(self, step: Step) -> CommandKind:
        """Kind of work of a step."""
        match step:
            case PatchStep() | StreamStep():
                return CommandKind.EMBED
            case NormStep():
                return CommandKind.NORM
            case AttentionStep():
                return CommandKind.ATTENTION
            case ExpertsStep():
                return CommandKind.EXPERTS
            case ProductStep():
                return self._product_kind(step)
        raise NotImplementedError(step.tag)  # all kinds are above; a new one must not pass in silence

    def _product_kind(self, step: ProductStep) -> CommandKind:
        plan = self.sizes.plan
        source = plan.by_name[step.source.tensor]
        if any(isinstance(reader, AttentionStep) for reader in plan.readers[step.name]):
            return CommandKind.QKV
        if isinstance(source, AttentionStep):
            return CommandKind.PROJECTION
        if isinstance(source, PatchStep):
            return CommandKind.EMBED
        if self.is_result(step):
            return CommandKind.HEAD
        if step.taps is not None:
            return CommandKind.CONVOLUTION
        positive = isinstance(source, ProductStep) and source.positive
        return CommandKind.MLP if positive or step.function is not None else CommandKind.PRODUCT

    def is_result(self, step: Step) -> bool:
        """Whether a product is nothing but a task's result."""
        return is_result(self.sizes.plan, step)

    def _phase(self, step: Step, kind: CommandKind) -> Phase:
        """Part of the frame: a norm belongs to what reads it."""
        if kind is not CommandKind.NORM:
            return _PHASES[kind]
        readers = self.sizes.plan.readers[step.name]
        return self._phase(readers[0], self.kind(readers[0])) if readers else Phase.OUTPUT


def span_of(of: str, part: range, count: int) -> Span | None:
    """The heads or tokens of ``part``; None if they are all ``count``."""
    return None if len(part) == count else Span(of, part.start, part.stop - 1)  # type: ignore[arg-type]
