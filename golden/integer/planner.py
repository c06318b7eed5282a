"""From a network's operators to steps: what the machine does at once becomes one step, and names of parts become none.

A tensor stays what it was put together from, a *sum* of rows that exist, constants and products, until something needs
it as activations or as rows of the residual stream. So a product becomes a step when it is known what it is added to or
goes through. Where a tensor is needed in the other form, a copy is made of it: of the stream by a norm that normalises
nothing, of activations by a product with the matrix that leaves rows as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tessera.golden.integer.steps import (
    Absorbed,
    AttentionStep,
    ExpertsStep,
    Matrix,
    MatrixKind,
    NormStep,
    PatchStep,
    Placed,
    ProductStep,
    RowSelection,
    Step,
    StreamStep,
)
from tessera.golden.integer.taps import MOST_PADDING, MOST_TAPS, Taps, taps_over, taps_over_blocks
from tessera.golden.network.network import Network
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Add,
    Attend,
    AveragePool,
    Constant,
    Convolution,
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


LONGEST_REDUCTION = 2048
"""Inputs of a product at most; those of more go in parts, one added after the other to the residual stream."""


_HEAD = 64
"""Channels of a head at most where heads mean nothing."""

_WORD = 16
"""Products go in parts of whole words, on machines with up to so many lanes."""


class _Unsupported(Exception):
    """One of them."""


@dataclass(frozen=True, kw_only=True)
class _Product:
    """A product that no step makes yet, and the first row and channel of the sum where it is added."""

    name: str
    matrix: Matrix | None
    source: RowSelection
    rows: int
    taps: Taps | None = None
    first: int = 0
    at: int = 0
    swapped: bool = False
    experts: MixExperts | None = None
    function: ActivationFunction | None = None

    @property
    def absorbable(self) -> bool:
        """Whether what is constant of it is the same for all rows, so that the start of a stream can take it over."""
        return self.matrix is not None and not self.swapped

    @property
    def linear(self) -> bool:
        """Whether it is a matrix of rows and nothing else."""
        return self.matrix is not None and self.function is None and self.taps is None


@dataclass(frozen=True, kw_only=True)
class _Sum:
    """A tensor as a sum: of rows that exist, constants and products, each at its first row."""

    rows: int
    base: RowSelection | None = None
    constants: tuple[Placed, ...] = ()
    products: tuple[_Product, ...] = ()

    @property
    def lone(self) -> _Product | None:
        """The product that it is alone; None for anything else."""
        alone = self.base is None and not self.constants and len(self.products) == 1
        return self.products[0] if alone and self.products[0].rows == self.rows else None

    @property
    def movable(self) -> _Product | None:
        """The same, if each of its rows is a row of its source times a matrix."""
        lone = self.lone
        mixes = lone is None or lone.swapped or lone.experts is not None or lone.taps is not None
        return None if mixes else lone


class Planner:
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
        self.network = network
        self.steps: list[Step] = []
        self.problems: list[tuple[str, str, str]] = []
        self._sums: dict[str, _Sum] = {}
        self._norms: dict[str, Normalise | Scale] = {}
        self._streams: dict[str, RowSelection] = {}
        self._activations: dict[str, RowSelection] = {}
        self._same: dict[str, list[str]] = {}  # all names of tensors that have several
        self._tasks = _needed_by(network)
        self._order = {operator.name: index for index, operator in enumerate(network.operators)}
        for operator in network.operators:
            try:
                self._visit(operator)
            except _Unsupported as error:
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
                self._sums[operator.name] = _Sum(rows=rows, constants=(placed,))
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
                    raise _Unsupported("experts of rows in another order; the nearest is to order what they make")
                product = _Product(name=operator.name, matrix=None, source=source, rows=rows, experts=operator)
                self._sums[operator.name] = _Sum(rows=rows, products=(product,))
                if self._uses(operator.name) > 1:  # it runs once, so that it is added to nothing else
                    self._stream(operator.name)
            case _:
                raise _Unsupported("no step does this")

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
        except _Unsupported as error:
            self._note(self._operator(name), str(error))
            return self._streams[name]

    def _operator(self, name: str) -> Operator:
        return self.network.by_name[name]

    def _rows_of(self, name: str) -> int:
        """Rows of a tensor as a matrix."""
        return prod(self.network.shapes[name][:-1])

    def _channels_of(self, name: str) -> int:
        return self.network.shapes[name][-1]

    # Rows, parts and sums ---------------------------------------------------------------------------------------------

    def _reshape(self, operator: Reshape) -> None:
        """The same rows; or several rows as one."""
        source = operator.source
        before, after = self._channels_of(source), self._channels_of(operator.name)
        if before == after:
            tables: tuple[dict[str, Any], ...] = (self._sums, self._norms, self._streams, self._activations)
            for known in tables:
                if source in known:
                    known[operator.name] = known[source]
            names = self._same.setdefault(source, [source])
            names.append(operator.name)
            self._same[operator.name] = names
            return
        if after % before:
            raise _Unsupported("parts of rows as rows; the nearest is several rows as one")
        rows = self._activation(source)
        self._activations[operator.name] = replace(rows, fold=rows.fold * (after // before))

    def _some_rows(self, operator: Operator, source: str, rows: Sequence[int]) -> None:
        """Rows of what exists are named. Those of a norm, or of a product, are the rows of what that reads."""
        found = self._sums.get(source)
        whole = rows == range(self._rows_of(source))
        if source in self._norms and source not in self._activations and isinstance(rows, range) and not whole:
            norm = self._norms[source]
            self._norm_step(norm, operator, self._stream(norm.source).within(rows.start, rows.stop))
        elif found is not None and found.movable is not None:
            product = found.movable
            moved = replace(product, name=operator.name, source=_taken(product.source, rows), rows=len(rows))
            self._sums[operator.name] = _Sum(rows=len(rows), products=(moved,))
        elif source in self._norms or source in self._activations:
            self._activations[operator.name] = _taken(self._activation(source), rows)
        else:
            self._streams[operator.name] = _taken(self._stream(source), rows)

    def _some_channels(self, operator: Part) -> None:
        found = self._sums.get(operator.source)
        product = None if found is None else found.lone
        if product is not None and product.taps is not None and product.taps.groups > 1:
            product = self._unchanged(operator.source)
        if product is None or product.matrix is None or product.swapped:
            raise _Unsupported("channels can only be taken from what a linear layer makes")
        first = product.matrix.start
        matrix = replace(product.matrix, start=first + operator.start, stop=first + operator.stop)
        self._sums[operator.name] = _Sum(
            rows=product.rows, products=(replace(product, name=operator.name, matrix=matrix),)
        )

    def _transpose(self, operator: Transpose) -> None:
        """What a product makes, transposed; anything else goes through a product that leaves it as it is.

        A transposed product holds its source, which must be signed: what functions leave is not.
        """
        found = self._sums.get(operator.source)
        product = None if found is None else found.lone
        if product is None or not product.linear or self._positive(product.source):
            product = replace(self._unchanged(operator.source), source=self._signed(operator.source))
        assert product.matrix is not None
        rows = self._rows_of(operator.name)
        turned = replace(product, name=operator.name, swapped=not product.swapped, rows=rows)
        self._sums[operator.name] = _Sum(rows=rows, products=(turned,))

    def _signed(self, name: str) -> RowSelection:
        """Rows of a tensor as signed activations: what is unsigned goes through a product that leaves it as it is."""
        rows = self._activation(name)
        if not self._positive(rows):
            return rows
        made = self._made(rows)
        if f"{made.name}.signed" not in self._activations:
            step = ProductStep(
                place=made.place,
                part=f"{made.part}.signed",
                rows=made.rows,
                channels=made.channels,
                source=RowSelection(tensor=made.name, start=0, stop=made.rows),
                matrix=Matrix(kind=MatrixKind.UNCHANGED, stop=made.channels),
                product=made.name,
            )
            self._emit(step, self._activations)
        return replace(rows, tensor=f"{made.name}.signed")

    def _positive(self, rows: RowSelection) -> bool:
        """Whether a function or the picture made these rows."""
        made = self._made(rows)
        return isinstance(made, PatchStep) or (isinstance(made, ProductStep) and made.positive)

    def _unchanged(self, name: str) -> _Product:
        """A tensor as a product with the matrix that leaves rows as they are."""
        channels = self._channels_of(name)
        matrix = Matrix(kind=MatrixKind.UNCHANGED, stop=channels)
        return _Product(name=name, matrix=matrix, source=self._activation(name), rows=self._rows_of(name))

    def _join(self, operator: Join) -> None:
        total = _Sum(rows=0)
        for part in operator.parts:
            found = self._sum(part)
            if found.base is not None:
                found = _Sum(rows=found.rows, products=(self._unchanged(part),))
            total = _together(total, _shifted(found, total.rows), total.rows + found.rows)
        self._sums[operator.name] = total

    def _join_channels(self, operator: Join) -> None:
        """Products, each at channels of its own."""
        products: list[_Product] = []
        at = 0
        for part in operator.parts:
            product = self._factor(part)
            if product is None or not product.linear:
                product = self._unchanged(part)
            products.append(replace(product, at=at))
            at += self._channels_of(part)
        self._sums[operator.name] = _Sum(rows=self._rows_of(operator.name), products=tuple(products))

    def _add(self, operator: Add) -> None:
        left, right = self._sum(operator.left), self._sum(operator.right)
        if left.base is not None and right.base is not None:
            right = _Sum(rows=right.rows, products=(self._unchanged(operator.right),))
        if (left.base or right.base) is not None and left.constants + right.constants:
            # Constants only begin a stream, so that what exists is added to them.
            left, right = (self._again(one, name) for one, name in ((left, operator.left), (right, operator.right)))
        self._sums[operator.name] = _together(left, right, left.rows)
        if left.base is not None or right.base is not None:
            self._stream(operator.name)

    def _again(self, found: _Sum, name: str) -> _Sum:
        """What exists as a product that leaves it as it is."""
        return found if found.base is None else _Sum(rows=found.rows, products=(self._unchanged(name),))

    def _sum(self, name: str) -> _Sum:
        """A tensor as a sum."""
        if name in self._streams and self._streams[name].plain:
            return _Sum(rows=self._rows_of(name), base=self._streams[name])
        found = self._sums.get(name)
        if found is not None and name not in self._streams and name not in self._activations:
            if all(product.function is None for product in found.products):
                return found
        return _Sum(rows=self._rows_of(name), products=(self._unchanged(name),))

    # Products ---------------------------------------------------------------------------------------------------------

    def _multiply(self, operator: Linear | Convolution, source: RowSelection, taps: Taps | None = None) -> None:
        matrix = Matrix(weight=operator.weight, bias=operator.bias, stop=self._channels_of(operator.name))
        self._sums[operator.name] = self._product(operator, matrix, source, taps)

    def _product(self, operator: Operator, matrix: Matrix, source: RowSelection, taps: Taps | None) -> _Sum:
        """An operator's tensor as a product of rows, or of windows of them."""
        rows = self._rows_of(operator.name)
        return _Sum(
            rows=rows,
            products=(_Product(name=operator.name, matrix=matrix, source=source, rows=rows, taps=taps),),
        )

    def _convolve(self, operator: Convolution) -> None:
        """A convolution; of the picture, or of the picture with other factors, it is one over blocks of pixels."""
        source = self._operator(operator.source)
        if isinstance(source, PictureInput):
            rows, taps = self._pixels(operator)
        elif isinstance(source, Scale) and isinstance(self._operator(source.source), PictureInput):
            rows, taps = self._pixels(operator)
            rows = self._scaled_pixels(source, rows)
        else:
            taps = self._taps(operator, self.network.weights[operator.weight.tensor][-2:])
            rows = self._mapped(operator.source, taps)
        self._multiply(operator, rows, taps)

    def _pool(self, operator: AveragePool) -> None:
        """The mean of a window is a convolution of each channel, with equal weights."""
        if any(operator.padding) and not operator.count_padding:
            raise _Unsupported("a mean of fewer values at the border; the nearest counts its padding, as zeros")
        taps = self._taps(operator, operator.kernel)
        matrix = Matrix(kind=MatrixKind.MEAN, stop=self._channels_of(operator.name))
        rows = self._mapped(operator.source, taps)
        self._sums[operator.name] = self._product(operator, matrix, rows, taps)

    def _taps(self, operator: Convolution | AveragePool, kernel: Sequence[int]) -> Taps:
        """Taps over a map of channels."""
        before, (down, across, channels) = self.network.shapes[operator.name], self.network.shapes[operator.source]
        made, edges = (before[0], before[1]), (kernel[0], kernel[1])
        if max(*kernel, *operator.stride) > MOST_TAPS or max(operator.padding[:2]) > MOST_PADDING:
            raise _Unsupported(
                f"a kernel of {kernel[0]} x {kernel[1]}; kernels and strides up to {MOST_TAPS} and padding up to "
                f"{MOST_PADDING} run"
            )
        return taps_over(operator, edges, (down, across), made, channels)

    def _pixels(self, operator: Convolution) -> tuple[RowSelection, Taps | None]:
        """Blocks of the picture's pixels, and a convolution's taps over them; None for patches that are the blocks."""
        filters, made = self.network.weights[operator.weight.tensor], self.network.shapes[operator.name]
        picture, kernel = self.network.picture, (filters[-2], filters[-1])
        taps = taps_over_blocks(operator, kernel, (picture.height, picture.width), (made[0], made[1]))
        if taps is None or operator.groups != 1:
            raise _Unsupported(
                f"a convolution of the picture with a kernel of {kernel[0]} x {kernel[1]}, a stride of "
                f"{operator.stride[0]} x {operator.stride[1]} and {operator.groups} groups; the nearest has one group, "
                f"and kernel and stride of {MOST_TAPS} of the stride's largest power of two at most"
            )
        patches = kernel == (taps.block, taps.block) and taps.count == 1 and not taps.padded
        return self._cut(taps.block, taps.size), None if patches and taps.made == taps.size else taps

    def _cut(self, patch: int, grid: tuple[int, int]) -> RowSelection:
        """The picture in blocks of pixels."""
        cuts = {step.patch: step.name for step in self.steps if isinstance(step, PatchStep)}
        if patch in cuts:
            return self._activations[cuts[patch]]
        step = PatchStep(
            part=f"pixels{patch}" if cuts else "pixels",
            rows=prod(grid),
            channels=3 * patch * patch,
            picture=self.network.picture.name,
            patch=patch,
            grid=grid,
        )
        return self._emit(step, self._activations)

    def _scaled_pixels(self, scale: Scale, pixels: RowSelection) -> RowSelection:
        """Pixels with a factor and an offset for each colour, as activations whose 0 is 0."""
        part = f"{scale.part}.{pixels.tensor}"
        name = replace(scale, part=part).name
        if name not in self._activations:
            channels = self._inputs_of(pixels)
            matrix = Matrix(kind=MatrixKind.DIAGONAL, weight=scale.weight, bias=scale.bias, stop=channels)
            product = _Product(name=scale.name, matrix=matrix, source=pixels, rows=len(pixels))
            self._product_step(replace(scale, part=part), product)
        return self._activations[name]

    def _mapped(self, name: str, taps: Taps) -> RowSelection:
        """Positions of a map that taps read: in order, and, where some lie beyond the map, with nothing left out."""
        rows = self._activation(name)
        made = self._made(rows)
        offset = isinstance(made, NormStep) and made.bias is not None and taps.padded
        if rows.plain and not offset and not isinstance(made, AttentionStep):
            return rows
        operator = self._operator(name)
        whole = replace(operator, part=f"{operator.part}.map")
        return self._activations.get(whole.name) or self._product_step(whole, self._unchanged(name))

    def _activate(self, operator: Activate) -> None:
        found = self._sums.get(operator.source)
        product = None if found is None else found.lone
        if product is None or product.matrix is None or product.function is not None or product.swapped:
            product = self._unchanged(operator.source)
        readers = self.network.readers[operator.name]
        if readers and all(isinstance(reader, Multiply | Part) for reader in readers):
            lone = replace(product, function=operator.function)
            self._sums[operator.name] = _Sum(rows=product.rows, products=(lone,))
            return
        self._product_step(operator, product, function=operator.function)

    def _multiply_rows(self, operator: Multiply) -> None:
        """Rows of a stream of their own, times what a product makes; a function is computed of that on the way."""
        (left, right), names = (self._factor(name) for name in operator.sources), list(operator.sources)
        if right is None or (left is not None and left.function is not None and right.function is None):
            left, right, names = right, left, names[::-1]
        factor = right or self._unchanged(names[1])
        factor = self._summed(operator, factor) if self._reduction(factor) > LONGEST_REDUCTION else factor
        base = self._fresh(names[0], operator)
        assert factor.matrix is not None
        step = ProductStep(
            place=operator.place,
            part=operator.part,
            rows=len(base),
            channels=self._channels_of(operator.name),
            source=factor.source,
            matrix=factor.matrix,
            taps=factor.taps,
            onto=base,
            factor=True,
            function=factor.function,
            residual=True,
            product=factor.name,
        )
        self._emit(step, self._streams)

    def _factor(self, name: str) -> _Product | None:
        """A tensor as a product that can be multiplied by, with its function; None if it is none."""
        found = self._sums.get(name)
        lone = None if found is None or name in self._streams or name in self._activations else found.lone
        return None if lone is None or lone.matrix is None or lone.swapped else lone

    def _fresh(self, name: str, operator: Operator) -> RowSelection:
        """Rows of a stream that nothing else reads behind ``operator``."""
        base = self._stream(name)
        if not base.plain:
            base = self._copied(self._operator(name))
        self._finish_norms(base.tensor, operator)
        return self._saved(base, operator) if self._read_later(base.tensor, operator) else base

    def _product_step(self, operator: Operator, product: _Product, **fields: Any) -> RowSelection:
        """Emit a product that is a tensor of its own."""
        if product.matrix is None:
            raise _Unsupported("what experts make is only added to the residual stream")
        apart = fields.get("residual", False) and self._apart(product)
        if not (apart or product.swapped) and self._reduction(product) > LONGEST_REDUCTION:
            product = self._summed(operator, product)
        matrix = product.matrix
        assert matrix is not None
        outputs = matrix.stop - matrix.start
        step = ProductStep(
            place=operator.place,
            part=operator.part,
            rows=product.rows,
            channels=len(product.source) if product.swapped else outputs,
            source=product.source,
            matrix=replace(matrix, stop=outputs // product.source.fold) if apart else matrix,
            taps=product.taps,
            swapped=product.swapped,
            apart=apart,
            product=product.name,
            **fields,
        )
        return self._emit(step, self._streams if step.residual else self._activations)

    def _emit(self, step: Step, made: dict[str, RowSelection]) -> RowSelection:
        self.steps.append(step)
        made[step.name] = RowSelection(tensor=step.name, start=0, stop=step.rows)
        return made[step.name]

    # Forms ------------------------------------------------------------------------------------------------------------

    def _activation(self, name: str) -> RowSelection:
        """Rows of a tensor as activations; makes the steps that are missing."""
        if name not in self._activations:
            self._make_activation(name)
            self._activations |= dict.fromkeys(self._same.get(name, ()), self._activations[name])
        return self._activations[name]

    def _make_activation(self, name: str) -> None:
        operator, found = self._operator(name), self._sums.get(name)
        if isinstance(operator, PictureInput):
            raise _Unsupported("the picture goes into convolutions alone")
        if name in self._norms:
            norm = self._norms[name]
            self._activations[name] = self._norm_step(norm, norm, self._stream(norm.source))
        elif found is not None and found.lone is not None and found.lone.matrix and name not in self._streams:
            self._product_step(operator, found.lone, function=found.lone.function)
        else:
            stream = self._stream(name)
            self._activations[name] = replace(stream, tensor=self._copy(stream.tensor).tensor)

    def _copy(self, tensor: str) -> RowSelection:
        """All rows of a stream as activations."""
        name = f"{tensor}.copy"
        if name not in self._activations:
            made = next(step for step in self.steps if step.name == tensor)
            step = NormStep(
                place=made.place,
                part=f"{made.part}.copy",
                rows=made.rows,
                channels=made.channels,
                source=RowSelection(tensor=tensor, start=0, stop=made.rows),
                weight=None,
                bias=None,
                epsilon=0.0,
                kind=None,
            )
            self._emit(step, self._activations)
        return self._activations[name]

    def _stream(self, name: str) -> RowSelection:
        """Rows of a tensor as rows of the residual stream; makes the steps that are missing."""
        if name not in self._streams:
            self._make_stream(name)
            self._streams |= dict.fromkeys(self._same.get(name, ()), self._streams[name])
        return self._streams[name]

    def _make_stream(self, name: str) -> None:
        operator, found = self._operator(name), self._sum(name)
        lone = found.lone
        whole = lone is not None and (self._apart(lone) or self._reduction(lone) <= LONGEST_REDUCTION)
        if lone is not None and lone.matrix is not None and whole:
            known = name in self._activations  # whose step has the name already
            named = replace(operator, part=f"{operator.part}.stream") if known else operator
            self._streams[name] = self._product_step(named, lone, residual=True)
            return
        base, products = found.base, list(found.products)
        if base is not None and products:
            # What is added lands in the place of what it is added to.
            self._finish_norms(base.tensor, operator)
            if self._read_later(base.tensor, operator):
                base = self._saved(base, operator)
        first, began = self._first(found, self._channels_of(name)), False
        if base is None and first is not None:
            base = self._product_step(replace(operator, part=f"{operator.part}.first"), first, residual=True)
            products.remove(first)
        elif base is None:
            base, began = self._begin(operator, found, self._channels_of(name)), True
        elif found.constants:
            raise _Unsupported("constants can only be added to what has not been added to anything yet")
        for index, product in enumerate(products):
            last = index == len(products) - 1
            base = self._added(
                operator, product, base, "" if last else f".{index}", absorbed=began and product.absorbable
            )
        self._streams[name] = base

    def _first(self, found: _Sum, channels: int) -> _Product | None:
        """A product of all channels that can begin the stream of a sum, instead of constants; None if there is none."""
        if found.constants:
            return None
        for product in found.products:
            if product.rows != found.rows or product.matrix is None:
                continue
            outputs = len(product.source) if product.swapped else product.matrix.stop - product.matrix.start
            if outputs == channels and self._reduction(product) <= LONGEST_REDUCTION:
                return product
        return None

    def _apart(self, product: _Product) -> bool:
        """Whether a product leaves whole folded rows as they are, so that it can leave each of their parts."""
        matrix, fold = product.matrix, product.source.fold
        if matrix is None or matrix.kind is not MatrixKind.UNCHANGED or product.swapped or fold == 1:
            return False
        return matrix.stop - matrix.start == self._channels_of(product.name)

    def _read_later(self, tensor: str, operator: Operator) -> bool:
        """Whether rows of a stream are read by operators behind this one, under a task that both have."""
        names = [name for name, rows in self._streams.items() if rows.tensor == tensor]
        here = self._order[operator.name]
        readers = (reader for name in names for reader in self.network.readers.get(name, ()))
        return any(
            self._order[reader.name] > here and self._tasks[reader.name] & self._tasks[operator.name]
            for reader in readers
        )

    def _finish_norms(self, tensor: str, operator: Operator) -> None:
        """Emit the norms of a stream that are not read before this operator, but behind it."""
        for name, norm in list(self._norms.items()):
            rows = self._streams.get(norm.source)
            pending = rows is not None and rows.tensor == tensor and name not in self._activations
            if pending and any(
                self._order[reader.name] > self._order[operator.name] for reader in self.network.readers.get(name, ())
            ):
                self._activation(name)

    def _saved(self, base: RowSelection, operator: Operator) -> RowSelection:
        """Another stream of the same rows."""
        matrix = Matrix(kind=MatrixKind.UNCHANGED, stop=self._channels_of(operator.name))
        source = replace(base, tensor=self._copy(base.tensor).tensor)
        name = next(name for name, rows in self._streams.items() if rows == base)
        product = _Product(name=name, matrix=matrix, source=source, rows=len(base))
        named = replace(operator, part=f"{operator.part}.saved")
        return self._product_step(named, product, residual=True)

    def _copied(self, operator: Operator) -> RowSelection:
        """Rows of the stream that do not follow each other, as a stream of their own."""
        product = self._unchanged(operator.name)
        return self._product_step(replace(operator, part=f"{operator.part}.rows"), product, residual=True)

    def _begin(self, operator: Operator, found: _Sum, channels: int) -> RowSelection:
        """Begin a stream with the constants, and the biases of the products that are added to it."""
        absorbed = tuple(
            Absorbed(product=product.name, matrix=product.matrix, first=product.first, rows=product.rows, at=product.at)
            for product in found.products
            if product.matrix is not None and product.absorbable
        )
        step = StreamStep(
            place=operator.place,
            part=f"{operator.part}.init" if found.products else operator.part,
            rows=found.rows,
            channels=channels,
            constants=found.constants,
            absorbed=absorbed,
        )
        return self._emit(step, self._streams)

    def _added(
        self, operator: Operator, product: _Product, base: RowSelection, suffix: str, *, absorbed: bool
    ) -> RowSelection:
        """Emit a product that is added to rows of the stream."""
        shared: dict[str, Any] = {
            "place": operator.place,
            "part": operator.part + suffix,
            "rows": len(base),
            "channels": self._made(base).channels,
            "source": product.source,
            "onto": base.within(product.first, product.first + product.rows),
            "product": product.name,
        }
        if product.experts is not None:
            return self._emit(self._experts_step(product.experts, shared), self._streams)
        assert product.matrix is not None
        cuts = self._cuts(product)
        for part, inputs in enumerate(cuts):
            last = part == len(cuts) - 1
            fields: dict[str, Any] = {"onto": base.within(product.first, product.first + product.rows)}
            if len(cuts) > 1:
                fields["inputs"] = inputs
                fields["part"] = shared["part"] + ("" if last else f".inputs{part}")
            matrix = product.matrix if last and not absorbed else replace(product.matrix, bias=None)
            fields |= {"matrix": matrix, "taps": product.taps, "at": product.at}
            fields |= {"swapped": product.swapped, "absorbed": absorbed}
            step = ProductStep(**{**shared, **fields}, residual=True)
            base = self._emit(step, self._streams)
        return base

    def _cuts(self, product: _Product) -> list[tuple[int, int]]:
        """The source's channels, first and behind the last, of each part of a product."""
        channels = self._inputs_of(product.source)
        whole = product.swapped or (product.taps is not None and product.taps.groups > 1)
        parts = 1 if whole else -(-self._reduction(product) // LONGEST_REDUCTION)
        edges = [round(part * channels / parts / _WORD) * _WORD for part in range(1, parts)]
        return list(zip([0, *edges], [*edges, channels], strict=True))

    def _reduction(self, product: _Product) -> int:
        """Inputs of each output."""
        channels, taps = self._inputs_of(product.source), product.taps
        return channels if taps is None else channels // taps.groups * taps.count

    def _summed(self, operator: Operator, product: _Product) -> _Product:
        """A product of too many inputs, summed on the stream: what leaves that as it is."""
        named, matrix = replace(operator, part=f"{operator.part}.sum"), product.matrix
        assert matrix is not None
        channels = matrix.stop - matrix.start
        base = self._begin(named, _Sum(rows=product.rows, products=(product,)), channels)
        base = self._added(named, product, base, "", absorbed=True)
        matrix = Matrix(kind=MatrixKind.UNCHANGED, stop=channels)
        return replace(product, matrix=matrix, source=self._copy(base.tensor), taps=None)

    def _made(self, rows: RowSelection) -> Step:
        """The step that makes the tensor of these rows."""
        return next(step for step in self.steps if step.name == rows.tensor)

    def _inputs_of(self, rows: RowSelection) -> int:
        """Channels of rows that a product reads."""
        return self._made(rows).channels * rows.fold

    # Norms, attention, experts ----------------------------------------------------------------------------------------

    def _norm_step(self, norm: Normalise | Scale, named: Operator, source: RowSelection) -> RowSelection:
        """Emit a norm of rows of the stream; those that do not follow each other are copied before."""
        if not source.plain:
            source = self._copied(self._operator(norm.source))
        step = NormStep(
            place=named.place,
            part=named.part,
            rows=len(source),
            channels=self._channels_of(norm.name),
            source=source,
            weight=norm.weight,
            bias=norm.bias,
            epsilon=norm.epsilon if isinstance(norm, Normalise) else 0.0,
            kind=norm.kind if isinstance(norm, Normalise) else None,
        )
        return self._emit(step, self._activations)

    def _attend(self, operator: Attend) -> None:
        query, key, value = (self._head_rows(operator, role) for role in ("query", "key", "value"))
        step = AttentionStep(
            place=operator.place,
            part=operator.part,
            rows=len(query),
            channels=self._channels_of(operator.name),
            query=query,
            key=key,
            value=value,
            heads=operator.heads,
            scale=operator.scale,
            windows=operator.windows,
            bias=operator.bias,
        )
        self._emit(step, self._activations)

    def _mean(self, operator: Mean) -> None:
        """Attention of one query whose scores are all 0: every row has the same weight."""
        source, channels = self._signed(operator.source), self._channels_of(operator.name)
        heads = channels // max(size for size in range(1, _HEAD + 1) if channels % size == 0)
        parts = {
            "query": (source.within(0, 1), Matrix(kind=MatrixKind.ZERO, stop=heads)),
            "key": (source, Matrix(kind=MatrixKind.ZERO, stop=heads)),
            "value": (source, Matrix(kind=MatrixKind.UNCHANGED, stop=channels)),
        }
        made = {
            part: self._product_step(
                replace(operator, part=f"{operator.part}.{part}"),
                _Product(name=operator.source, matrix=matrix, source=rows, rows=len(rows)),
            )
            for part, (rows, matrix) in parts.items()
        }
        step = AttentionStep(
            place=operator.place,
            part=operator.part,
            rows=1,
            channels=channels,
            query=made["query"],
            key=made["key"],
            value=made["value"],
            heads=heads,
            scale=1.0,
        )
        self._emit(step, self._activations)

    def _head_rows(self, operator: Attend, role: str) -> RowSelection:
        """Queries, keys or values: what a product of their own makes, in their own order.

        Their scales are what this attention needs, so that nothing else may read them. The product that makes values
        holds its source, which must be signed.
        """
        name: str = getattr(operator, role)
        held = role == "value"
        own = self._own_rows(operator, name, held=held)
        if own is not None:
            return own
        found = self._sums.get(name)
        product = None if found is None else found.lone
        if product is None or not product.linear or product.swapped or (held and self._positive(product.source)):
            product = replace(self._unchanged(name), source=self._signed(name))
        return self._product_step(replace(operator, part=f"{operator.part}.{role}"), product)

    def _own_rows(self, operator: Attend, name: str, *, held: bool) -> RowSelection | None:
        """Rows of a product that only one role of an attention reads, of signed rows if they are ``held``; None for
        others.
        """
        rows = self._activation(name)
        made = self._made(rows)
        whole = rows.plain and rows.start == 0 and rows.stop == made.rows
        if not whole or not isinstance(made, ProductStep) or made.positive or made.swapped or made.taps is not None:
            return None
        if held and self._positive(made.source):
            return None
        names = {one for one, known in self._activations.items() if known.tensor == rows.tensor}
        readers = {reader.name for one in names for reader in self.network.readers.get(one, ())} - names
        results = {task.result for task in self.network.tasks}
        roles = [one for one in operator.sources if one in names]
        return rows if readers == {operator.name} and len(roles) == 1 and not names & results else None

    def _experts_step(self, operator: MixExperts, shared: dict[str, Any]) -> ExpertsStep:
        return ExpertsStep(
            **shared,
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


def _needed_by(network: Network) -> dict[str, set[int]]:
    """Tasks that need each operator."""
    found: dict[str, set[int]] = {operator.name: set() for operator in network.operators}
    for index, task in enumerate(network.tasks):
        found[task.result].add(index)
    for operator in reversed(network.operators):
        for source in operator.sources:
            found[source] |= found[operator.name]
    return found


def _taken(rows: RowSelection, some: Sequence[int]) -> RowSelection:
    """Some of these rows."""
    return rows.within(some.start, some.stop) if isinstance(some, range) else rows.picked(tuple(some))


def _together(left: _Sum, right: _Sum, rows: int) -> _Sum:
    """The sum of two sums, of which one at most is of rows that exist."""
    return _Sum(
        rows=rows,
        base=left.base or right.base,
        constants=left.constants + right.constants,
        products=left.products + right.products,
    )


def _shifted(found: _Sum, rows: int) -> _Sum:
    """The same, behind so many rows."""
    return replace(
        found,
        constants=tuple(replace(one, first=one.first + rows) for one in found.constants),
        products=tuple(replace(one, first=one.first + rows) for one in found.products),
    )
