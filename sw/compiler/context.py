"""What the lowering of every step shares: the network, regions, and the operations so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
from tessera.sw.compiler.cuts import Cuts
from tessera.sw.compiler.emission import ALL_TASKS, Label
from tessera.sw.compiler.lists import Lists
from tessera.sw.compiler.operations import MachineOperation, OnChip, Region, RegionAccess
from tessera.sw.compiler.sizes import Sizes

_PHASES = {
    CommandKind.EMBED: Phase.EMBED,
    CommandKind.QKV: Phase.ATTENTION,
    CommandKind.ATTENTION: Phase.ATTENTION,
    CommandKind.PROJECTION: Phase.ATTENTION,
    CommandKind.MLP: Phase.MLP,
    CommandKind.PRODUCT: Phase.MLP,
    CommandKind.GATE: Phase.EXPERTS,
    CommandKind.EXPERTS: Phase.EXPERTS,
    CommandKind.HEAD: Phase.OUTPUT,
    CommandKind.STORE: Phase.OUTPUT,
    CommandKind.CONTROL: Phase.CONTROL,
}


@dataclass
class Context:
    """A network on its way to operations.

    Parameters
    ----------
    network:
        The network.
    sizes:
        Its sizes on the machine.
    cuts:
        What is on chip at once.

    Attributes
    ----------
    lists:
        Lists of rows in the memory of the experts' queues.
    copies:
        Regions of rows that were copied in the order of a list.
    tiled:
        Regions of streams that products with swapped roles wrote to, whose padding lanes may hold anything.
    """

    network: Network
    sizes: Sizes
    cuts: Cuts
    regions: dict[str, Region] = field(default_factory=dict)
    operations: list[MachineOperation] = field(default_factory=list)
    tables: dict[int, ActivationFunction] = field(default_factory=dict)
    copies: dict[RowSelection, str] = field(default_factory=dict)
    tiled: set[str] = field(default_factory=set)
    _streams: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lists = Lists(self.sizes.config.list_entries)

    def region(self, name: str, words: int = 0, space: OnChip = "scratchpad") -> str:
        """Make a region, or make it larger; returns its name."""
        known = self.regions.get(name)
        words = words if known is None else max(words, known.words)
        self.regions[name] = Region(name=name, space=space, words=words)
        return name

    def stream(self, step: Step, onto: RowSelection | None = None) -> str:
        """Region of a tensor in the residual memory: that of the stream which it is added to, or one of its own."""
        if onto is None:
            self._streams[step.name] = self.region(step.name, step.rows * self.sizes.words(step.channels), "residual")
        else:
            self._streams[step.name] = self._streams[onto.tensor]
        return self._streams[step.name]

    def where(self, name: str) -> str:
        """Region of a tensor that exists."""
        return self._streams.get(name, name)

    def access(self, rows: RowSelection) -> RegionAccess:
        """Rows of a tensor that follow each other, as an access of its region."""
        return RegionAccess(region=self.where(rows.tensor), first=rows.start, rows=len(rows))

    def add(self, operation: MachineOperation) -> None:
        """Append an operation."""
        self.operations.append(operation)

    # What commands are called -----------------------------------------------------------------------------------------

    def label(self, step: Step, kind: CommandKind | None = None, **fields: Any) -> Label:
        """Label of a command of a step."""
        kind = kind or self.kind(step)
        mask = ALL_TASKS if step.tasks is None else sum(1 << task for task in step.tasks)
        return Label(
            **{
                "whole": step.name,
                "kind": kind,
                "phase": self._phase(step, kind),
                "place": step.place,
                "task_mask": mask,
                **fields,
            }
        )

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
        positive = isinstance(source, ProductStep) and source.positive
        return CommandKind.MLP if positive or step.function is not None else CommandKind.PRODUCT

    def is_result(self, step: Step) -> bool:
        """Whether a product is nothing but a task's result."""
        plan = self.sizes.plan
        if not isinstance(step, ProductStep) or not step.residual or step.onto is not None or plan.readers[step.name]:
            return False
        results = [rows for rows in plan.results if rows.tensor == step.name]
        return bool(results) and all(len(rows) == step.rows for rows in results)

    def _phase(self, step: Step, kind: CommandKind) -> Phase:
        """Part of the frame: a norm belongs to what reads it."""
        if kind is not CommandKind.NORM:
            return _PHASES[kind]
        readers = self.sizes.plan.readers[step.name]
        return self._phase(readers[0], self.kind(readers[0])) if readers else Phase.OUTPUT


def span_of(of: str, part: range, count: int) -> Span | None:
    """The heads or tokens of ``part``; None if they are all ``count``."""
    return None if len(part) == count else Span(of, part.start, part.stop - 1)  # type: ignore[arg-type]
