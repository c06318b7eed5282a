"""From a network's operators to steps: what the machine does at once becomes one step, and names of parts become none.

Every tensor has a *form*: rows of the residual stream, activations, or not yet either: a product is what it is added to
or goes through, so it becomes a step when that is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, TypeVar

from tessera.golden.integer.steps import (
    Absorbed,
    AttentionStep,
    ExpertsStep,
    Matrix,
    NormStep,
    PatchStep,
    Placed,
    ProductStep,
    Rows,
    Step,
    StreamStep,
)
from tessera.golden.network.network import Network
from tessera.golden.network.operators import (
    Activate,
    Add,
    Attend,
    Constant,
    Convolution,
    Join,
    Linear,
    MixExperts,
    Normalise,
    Operator,
    Part,
    Picture,
    Reshape,
)

Found = TypeVar("Found", bound=Step)


class UnsupportedOperator(ValueError):
    """The machine has no step for an operator where it stands; the message says which, why, and what it has."""


@dataclass(frozen=True, kw_only=True)
class _Product:
    """A product that no step makes yet, and the first row of the sum where it is added."""

    operator: Linear | Convolution | MixExperts
    matrix: Matrix | None
    source: Rows
    rows: int
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class _Sum:
    """A tensor as a sum: of rows that exist, constants and products, each at its first row."""

    rows: int
    base: Rows | None = None
    constants: tuple[Placed, ...] = ()
    products: tuple[_Product, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a network.

    Parameters
    ----------
    steps:
        In the order of computation.
    results:
        What each task's result is.
    """

    steps: tuple[Step, ...]
    results: tuple[Rows, ...]

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """Steps by name."""
        return {step.name: step for step in self.steps}

    @cached_property
    def readers(self) -> dict[str, tuple[Step, ...]]:
        """Steps that read each tensor, in order."""
        found: dict[str, list[Step]] = {step.name: [] for step in self.steps}
        for step in self.steps:
            for name in dict.fromkeys(rows.tensor for rows in step.reads):
                found[name].append(step)
        return {name: tuple(steps) for name, steps in found.items()}

    @cached_property
    def last_streams(self) -> dict[str, Step]:
        """The last step of every layer that adds to the residual stream, by the layer's name."""
        found: dict[str, Step] = {}
        for step in self.steps:
            if step.place and isinstance(step, (ProductStep, ExpertsStep)) and step.onto is not None:
                found[step.place] = step
        return found

    def of_kind(self, kind: type[Found]) -> tuple[Found, ...]:
        """Steps of one kind, in order."""
        return tuple(step for step in self.steps if isinstance(step, kind))


def plan(network: Network) -> Plan:
    """The steps of a network; UnsupportedOperator names what the machine cannot do."""
    planner = _Planner(network)
    return Plan(steps=tuple(planner.steps), results=planner.results)


class _Planner:
    """Walks a network once and collects its steps and results."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps: list[Step] = []
        self._sums: dict[str, _Sum] = {}
        self._made: dict[str, Rows] = {}
        self._pixels: Rows | None = None
        for operator in network.operators:
            self._visit(operator)
        self.results = tuple(self._residual(self._operator(task.result)) for task in network.tasks)
        self._number_tasks()
        self._find_wide()

    # Operators --------------------------------------------------------------------------------------------------------

    def _visit(self, operator: Operator) -> None:
        match operator:
            case Picture():
                pass
            case Constant():
                rows = self._rows_of(operator.name)
                placed = Placed(value=operator.value, first=0, rows=rows)
                self._sums[operator.name] = _Sum(rows=rows, constants=(placed,))
            case Reshape():
                self._same(operator, operator.source)
            case Part(axis="rows"):
                self._some_rows(operator)
            case Part():
                self._some_channels(operator)
            case Join(axis="rows"):
                self._join(operator)
            case Add():
                self._add(operator)
            case Linear() | Convolution():
                self._multiply(operator)
            case Activate():
                self._activate(operator)
            case Normalise():
                self._normalise(operator)
            case Attend():
                self._attend(operator)
            case MixExperts():
                self._mix(operator)
            case _:
                raise self._unsupported(operator, "no step does this")

    def _unsupported(self, operator: Operator, why: str) -> UnsupportedOperator:
        return UnsupportedOperator(f"{operator.name} ({operator.tag}) cannot run on the machine: {why}")

    def _operator(self, name: str) -> Operator:
        return self.network.by_name[name]

    def _rows_of(self, name: str) -> int:
        """Rows of a tensor as a matrix."""
        return prod(self.network.shapes[name][:-1])

    def _channels_of(self, name: str) -> int:
        return self.network.shapes[name][-1]

    def _sum(self, name: str) -> _Sum:
        """A tensor as a sum."""
        if name in self._made:
            return _Sum(rows=self._rows_of(name), base=self._made[name])
        return self._sums[name]

    def _same(self, operator: Operator, source: str) -> None:
        if source in self._made:
            self._made[operator.name] = self._made[source]
        else:
            self._sums[operator.name] = self._sums[source]

    # Parts and sums ---------------------------------------------------------------------------------------------------

    def _some_rows(self, operator: Part) -> None:
        """Rows of what exists are named; a norm's are only normalised when its rows are known to be read."""
        source = self._operator(operator.source)
        if isinstance(source, Normalise) and source.name not in self._made:
            residual = self._residual(self._operator(source.source)).within(operator.start, operator.stop)
            self._norm_step(source, operator, residual)
            return
        if operator.source not in self._made:
            self._residual(source)
        self._made[operator.name] = self._made[operator.source].within(operator.start, operator.stop)

    def _some_channels(self, operator: Part) -> None:
        found = self._sums.get(operator.source)
        if found is None or len(found.products) != 1 or found.constants or found.base is not None:
            raise self._unsupported(operator, "channels can only be taken from what a linear layer makes")
        product = found.products[0]
        if product.matrix is None:
            raise self._unsupported(operator, "channels cannot be taken from what experts make")
        first = product.matrix.start
        matrix = replace(product.matrix, start=first + operator.start, stop=first + operator.stop)
        self._sums[operator.name] = replace(found, products=(replace(product, matrix=matrix),))

    def _join(self, operator: Join) -> None:
        total = _Sum(rows=0)
        for part in operator.parts:
            found = self._sum(part)
            if found.base is not None:
                raise self._unsupported(operator, f"'{part}' exists already, and joining would copy it")
            total = self._sum_of(total, _shifted(found, total.rows), total.rows + found.rows)
        self._sums[operator.name] = total

    def _add(self, operator: Add) -> None:
        left, right = self._sum(operator.left), self._sum(operator.right)
        if left.base is not None and right.base is not None:
            raise self._unsupported(operator, "both of its sources exist already, and one must be a product")
        self._sums[operator.name] = self._sum_of(left, right, left.rows)
        self._residual(operator)

    def _sum_of(self, left: _Sum, right: _Sum, rows: int) -> _Sum:
        return _Sum(
            rows=rows,
            base=left.base or right.base,
            constants=left.constants + right.constants,
            products=left.products + right.products,
        )

    # Products ---------------------------------------------------------------------------------------------------------

    def _multiply(self, operator: Linear | Convolution) -> None:
        if isinstance(operator, Convolution):
            source = self._patches(operator)
        else:
            source = self._activation(operator.source)
        matrix = Matrix(weight=operator.weight, bias=operator.bias, start=0, stop=self._channels_of(operator.name))
        rows = self._rows_of(operator.name)
        product = _Product(operator=operator, matrix=matrix, source=source, rows=rows)
        self._sums[operator.name] = _Sum(rows=rows, products=(product,))

    def _patches(self, operator: Convolution) -> Rows:
        """Pixels of a patch embedding."""
        kernel = self.network.weights[operator.weight.tensor][-2:]
        source = self._operator(operator.source)
        square = kernel[0] == kernel[1] and operator.stride == kernel and not any(operator.padding)
        if not isinstance(source, Picture) or not square or operator.groups != 1:
            raise self._unsupported(operator, "the only convolution cuts the picture into patches that do not overlap")
        if self._pixels is None:
            grid = self.network.shapes[operator.name][:2]
            rows, patch = prod(grid), kernel[0]
            step = PatchStep(part="pixels", rows=rows, channels=3 * patch * patch, patch=patch, grid=(grid[0], grid[1]))
            self.steps.append(step)
            self._pixels = Rows(tensor=step.name, start=0, stop=rows)
        return self._pixels

    def _activate(self, operator: Activate) -> None:
        product = self._lone_product(operator, operator.source, "an activation function follows a linear layer")
        self._product_step(operator, product, function=operator.function)

    def _lone_product(self, operator: Operator, source: str, why: str) -> _Product:
        found = self._sums.get(source)
        if found is None or len(found.products) != 1 or found.constants or found.base is not None:
            raise self._unsupported(operator, why)
        if found.products[0].matrix is None:
            raise self._unsupported(operator, f"{why}, not experts")
        return found.products[0]

    def _product_step(self, operator: Operator, product: _Product, **fields: Any) -> Rows:
        """Emit a product that is a tensor of its own."""
        assert product.matrix is not None
        step = ProductStep(
            place=operator.place,
            part=operator.part,
            rows=product.rows,
            channels=product.matrix.stop - product.matrix.start,
            source=product.source,
            matrix=product.matrix,
            product=product.operator.name,
            **fields,
        )
        return self._emit(step)

    def _emit(self, step: Step) -> Rows:
        self.steps.append(step)
        self._made[step.name] = Rows(tensor=step.name, start=0, stop=step.rows)
        return self._made[step.name]

    # Forms ------------------------------------------------------------------------------------------------------------

    def _activation(self, name: str) -> Rows:
        """Rows of a tensor as activations."""
        operator = self._operator(name)
        if isinstance(operator, Normalise) and name not in self._made:
            self._norm_step(operator, operator, self._residual(self._operator(operator.source)))
        elif name not in self._made:
            product = self._lone_product(operator, name, "products read norms, activations, attention or products")
            self._product_step(operator, product)
        return self._made[name]

    def _residual(self, operator: Operator) -> Rows:
        """Rows of a tensor as rows of the residual stream; makes the steps that are missing."""
        if operator.name in self._made:
            return self._made[operator.name]
        found = self._sums[operator.name]
        base, products = found.base, list(found.products)
        if base is None and len(products) == 1 and not found.constants and products[0].rows == found.rows:
            return self._product_step(operator, products[0], residual=True)
        if base is None:
            base = self._stream(operator, found)
            products = [replace(product, matrix=_unbiased(product.matrix)) for product in products]
        elif found.constants:
            raise self._unsupported(operator, "constants can only be added to what has not been added to anything yet")
        for index, product in enumerate(products):
            last = index == len(products) - 1
            base = self._added(operator, product, base, "" if last else f".{index}")
        self._made[operator.name] = base
        return base

    def _stream(self, operator: Operator, found: _Sum) -> Rows:
        """Begin a stream with the constants, and the biases of the products that are added to it."""
        absorbed = tuple(
            Absorbed(product=product.operator.name, bias=product.matrix.bias, first=product.first, rows=product.rows)
            for product in found.products
            if product.matrix is not None
        )
        step = StreamStep(
            place=operator.place,
            part=f"{operator.part}.init",
            rows=found.rows,
            channels=self._channels_of(operator.name),
            constants=found.constants,
            absorbed=absorbed,
        )
        return self._emit(step)

    def _added(self, operator: Operator, product: _Product, base: Rows, suffix: str) -> Rows:
        """Emit a product that is added to rows of the stream."""
        shared: dict[str, Any] = {
            "place": operator.place,
            "part": operator.part + suffix,
            "rows": len(base),
            "channels": self._channels_of(operator.name),
        }
        onto = base.within(product.first, product.first + product.rows)
        if isinstance(product.operator, MixExperts):
            return self._emit(self._experts_step(product.operator, product.source, onto, shared))
        assert product.matrix is not None
        return self._emit(
            ProductStep(
                **shared,
                source=product.source,
                matrix=product.matrix,
                onto=onto,
                residual=True,
                product=product.operator.name,
            )
        )

    # Norms, attention, experts ----------------------------------------------------------------------------------------

    def _normalise(self, operator: Normalise) -> None:
        """Is emitted when its rows are read: not all of them may be."""

    def _norm_step(self, norm: Normalise, named: Operator, source: Rows) -> Rows:
        return self._emit(
            NormStep(
                place=named.place,
                part=named.part,
                rows=len(source),
                channels=self._channels_of(norm.name),
                source=source,
                weight=norm.weight,
                bias=norm.bias,
                epsilon=norm.epsilon,
                kind=norm.kind,
            )
        )

    def _attend(self, operator: Attend) -> None:
        if operator.bias is not None:
            raise self._unsupported(operator, "attention has no bias of its scores yet")
        query, key, value = (self._activation(name) for name in operator.sources)
        self._emit(
            AttentionStep(
                place=operator.place,
                part=operator.part,
                rows=len(query),
                channels=self._channels_of(operator.name),
                query=query,
                key=key,
                value=value,
                heads=operator.heads,
                scale=operator.scale,
            )
        )

    def _mix(self, operator: MixExperts) -> None:
        source, rows = self._activation(operator.source), self._rows_of(operator.name)
        product = _Product(operator=operator, matrix=None, source=source, rows=rows)
        self._sums[operator.name] = _Sum(rows=rows, products=(product,))

    def _experts_step(self, operator: MixExperts, source: Rows, onto: Rows, shared: dict[str, Any]) -> ExpertsStep:
        return ExpertsStep(
            **shared,
            source=source,
            onto=onto,
            gates=operator.gates,
            embeddings=operator.embeddings,
            first_weight=operator.first_weight,
            first_bias=operator.first_bias,
            second_weight=operator.second_weight,
            second_bias=operator.second_bias,
            function=operator.function,
            top_k=operator.top_k,
            experts=operator.experts(self.network.weights),
            hidden=operator.hidden(self.network.weights),
            product=operator.name,
        )

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


def _shifted(found: _Sum, rows: int) -> _Sum:
    """The same, behind so many rows."""
    return replace(
        found,
        constants=tuple(replace(one, first=one.first + rows) for one in found.constants),
        products=tuple(replace(one, first=one.first + rows) for one in found.products),
    )


def _unbiased(matrix: Matrix | None) -> Matrix | None:
    return None if matrix is None else replace(matrix, bias=None)
