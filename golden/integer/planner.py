"""From a network's operators to steps: what the machine does at once becomes one step, and names of parts become none.

A tensor stays what it was put together from, a *sum* of rows that exist, constants and products, until something needs
it as activations or as rows of the residual stream. So a product becomes a step when it is known what it is added to or
goes through. Where a tensor is needed in the other form, a copy is made of it: of the stream by a norm that normalises
nothing, of activations by a product with the matrix that leaves rows as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tessera.golden.integer.planning.heads import HeadPlanner
from tessera.golden.integer.planning.products import ProductPlanner
from tessera.golden.integer.planning.rows import RowPlanner
from tessera.golden.integer.planning.sums import NoStep, PendingProduct, Sum
from tessera.golden.integer.steps import (
    ExpertsStep,
    NormStep,
    Placed,
    RowSelection,
    StreamStep,
)
from tessera.golden.network.network import Network
from tessera.golden.network.operators import (
    Activate,
    Add,
    Attend,
    AveragePool,
    Constant,
    Convolution,
    Enlarge,
    Gather,
    Join,
    Linear,
    Mean,
    MixExperts,
    Multiply,
    Normalise,
    Operator,
    Part,
    PictureInput,
    Reshape,
    Scale,
    Transpose,
)


class UnsupportedOperators(ValueError):
    """The machine has no step for some operators where they stand.

    Parameters
    ----------
    problems:
        Name of each, its kind, and why.
    """

    def __init__(self, problems: Sequence[tuple[str, str, str]]) -> None:
        self.problems = tuple(problems)
        lines = [f"  {name} ({tag}): {why}" for name, tag, why in problems]
        super().__init__("\n".join(["the machine has no step for these operators:", *lines]))


class Planner(RowPlanner, ProductPlanner, HeadPlanner):
    """Walks a network once.

    Attributes
    ----------
    steps:
        In the order of computation.
    results:
        What each task's result is.
    problems:
        Name and kind of each operator that has no step, and why.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.problems: list[tuple[str, str, str]] = []
        for operator in network.operators:
            try:
                self._visit(operator)
            except NoStep as error:
                self._note(operator, str(error))
        self.results = tuple(self._result(task.result) for task in network.tasks)
        if not self.problems:
            self._number_tasks()
            self._find_wide()

    # Operators --------------------------------------------------------------------------------------------------------

    def _visit(self, operator: Operator) -> None:
        match operator:
            case PictureInput():
                pass
            case Constant():
                rows = self._rows_of(operator.name)
                placed = Placed(value=operator.value, first=0, rows=rows)
                self._sums[operator.name] = Sum(rows=rows, constants=(placed,))
            case Normalise():
                self._norms[operator.name] = operator  # its rows are known when something reads it
            case Reshape():
                self._reshape(operator)
            case Part(axis="rows"):
                self._some_rows(operator, operator.source, range(operator.start, operator.stop))
            case Gather():
                self._some_rows(operator, operator.source, operator.rows)
            case Part():
                self._some_channels(operator)
            case Join(axis="rows"):
                self._join(operator)
            case Join():
                self._join_channels(operator)
            case Transpose():
                self._transpose(operator)
            case Add():
                self._add(operator)
            case Linear():
                self._multiply(operator, self._activation(operator.source))
            case Convolution():
                self._convolve(operator)
            case AveragePool():
                self._pool(operator)
            case Enlarge():
                self._enlarge(operator)
            case Scale():
                self._norms[operator.name] = operator  # a norm that normalises nothing
            case Mean():
                self._mean(operator)
            case Activate():
                self._activate(operator)
            case Multiply():
                self._multiply_rows(operator)
            case Attend():
                self._attend(operator)
            case MixExperts():
                source, rows = self._activation(operator.source), self._rows_of(operator.name)
                if not source.plain:
                    raise NoStep("experts of rows in another order; the nearest is to order what they make")
                product = PendingProduct(name=operator.name, matrix=None, source=source, rows=rows, experts=operator)
                self._sums[operator.name] = Sum(rows=rows, products=(product,))
                if self._uses(operator.name) > 1:  # it runs once, so that it is added to nothing else
                    self._stream(operator.name)
            case _:
                raise NoStep("no step does this")

    def _uses(self, name: str) -> int:
        """Operators that read a tensor, and tasks whose result it is, also under other names."""
        readers = self.network.readers.get(name, ())
        found = sum(self._uses(one.name) if isinstance(one, Reshape) else one.sources.count(name) for one in readers)
        return found + sum(task.result == name for task in self.network.tasks)

    def _note(self, operator: Operator, why: str) -> None:
        """Remember a problem, and go on as if the operator had a step."""
        self.problems.append((operator.name, operator.tag, why))
        rows, channels = self._rows_of(operator.name), self._channels_of(operator.name)
        step = StreamStep(place=operator.place, part=operator.part, rows=rows, channels=channels, constants=())
        self._activations[operator.name] = self._emit(step, self._streams)

    def _result(self, name: str) -> RowSelection:
        """Rows of a task's result."""
        try:
            rows = self._stream(name)
            return rows if rows.plain else self._copied(self._operator(name))
        except NoStep as error:
            self._note(self._operator(name), str(error))
            return self._streams[name]

    # Afterwards -------------------------------------------------------------------------------------------------------

    def _number_tasks(self) -> None:
        """Say of every step which tasks need it, and drop what none needs."""
        needed: dict[str, set[int]] = {}
        for task, result in enumerate(self.results):
            needed.setdefault(result.tensor, set()).add(task)
        for step in reversed(self.steps):
            for rows in step.reads:
                needed.setdefault(rows.tensor, set()).update(needed.get(step.name, set()))
        everything = set(range(len(self.results)))
        self.steps = [
            replace(step, tasks=None if needed[step.name] == everything else tuple(sorted(needed[step.name])))
            for step in self.steps
            if needed.get(step.name)
        ]

    def _find_wide(self) -> None:
        """Norms that a gate reads."""
        wide = {step.source.tensor for step in self.steps if isinstance(step, ExpertsStep)}
        self.steps = [
            replace(step, wide=True) if isinstance(step, NormStep) and step.name in wide else step
            for step in self.steps
        ]
