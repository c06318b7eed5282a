"""Steps that make a tensor when something needs it, as activations or as rows of the residual stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

from tessera.golden.integer.planning.sums import LONGEST_REDUCTION, NoStep, PendingProduct, Sum
from tessera.golden.integer.steps import (
    Absorbed,
    ExpertsStep,
    Matrix,
    MatrixKind,
    NormStep,
    ProductStep,
    RowSelection,
    Step,
    StreamStep,
)
from tessera.golden.network.network import Network
from tessera.golden.network.operators import (
    Activate,
    MixExperts,
    Normalise,
    Operator,
    PictureInput,
    Reshape,
    Scale,
)

_WORD = 16
"""Products go in parts of whole words, on machines with up to so many lanes."""


class Forms:
    """The steps so far, and which of them make the network's tensors.

    Parameters
    ----------
    network:
        The network.

    Attributes
    ----------
    steps:
        In the order of computation.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps: list[Step] = []
        self._sums: dict[str, Sum] = {}
        self._norms: dict[str, Normalise | Scale | Activate] = {}
        self._streams: dict[str, RowSelection] = {}
        self._activations: dict[str, RowSelection] = {}
        self._same: dict[str, list[str]] = {}  # all names of tensors that have several
        self._tasks = _needed_by(network)
        self._order = {operator.name: index for index, operator in enumerate(network.operators)}

    def _operator(self, name: str) -> Operator:
        return self.network.by_name[name]

    def _rows_of(self, name: str) -> int:
        """Rows of a tensor as a matrix."""
        return prod(self.network.shapes[name][:-1])

    def _channels_of(self, name: str) -> int:
        return self.network.shapes[name][-1]

    def _readers(self, name: str) -> Iterator[Operator]:
        """Operators that read a tensor, under whatever name."""
        for reader in self.network.readers.get(name, ()):
            if isinstance(reader, Reshape) and self._channels_of(reader.name) == self._channels_of(name):
                yield from self._readers(reader.name)
            else:
                yield reader

    def _made(self, rows: RowSelection) -> Step:
        """The step that makes the tensor of these rows."""
        return next(step for step in self.steps if step.name == rows.tensor)

    def _inputs_of(self, rows: RowSelection) -> int:
        """Channels of rows that a product reads."""
        return self._made(rows).channels * rows.fold

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
            raise NoStep("the picture goes into convolutions alone")
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
        """Whether these rows are unsigned."""
        return self._made(rows).positive

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
            base = self._begun_by(operator, first, last=products == [first])
            products.remove(first)
        elif base is None:
            base, began = self._begin(operator, found, self._channels_of(name)), True
        elif found.constants:
            raise NoStep("constants can only be added to what has not been added to anything yet")
        for index, product in enumerate(products):
            last = index == len(products) - 1
            base = self._added(
                operator, product, base, "" if last else f".{index}", absorbed=began and product.absorbable
            )
        self._streams[name] = base

    def _first(self, found: Sum, channels: int) -> PendingProduct | None:
        """A product of all channels that can begin the stream of a sum, instead of constants; None if there is none."""
        if found.constants:
            return None
        for product in found.products:
            if product.rows != found.rows or product.matrix is None:
                continue
            outputs = len(product.source) if product.swapped else product.matrix.stop - product.matrix.start
            if outputs == channels:
                return product
        return None

    def _begun_by(self, operator: Operator, product: PendingProduct, *, last: bool) -> RowSelection:
        """Begin a stream with a product, the ``last`` one or not; what has too many inputs goes in parts."""
        cuts, matrix = self._cuts(product), product.matrix
        if len(cuts) == 1:
            return self._product_step(replace(operator, part=f"{operator.part}.first"), product, residual=True)
        assert matrix is not None
        step = ProductStep(
            place=operator.place,
            part=f"{operator.part}.inputs0",
            rows=product.rows,
            channels=matrix.stop - matrix.start,
            source=product.source,
            matrix=replace(matrix, bias=None),
            taps=product.taps,
            inputs=cuts[0],
            residual=True,
            product=product.name,
        )
        base = self._emit(step, self._streams)
        return self._added(operator, product, base, "" if last else ".first", absorbed=False, begun=1)

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
        product = PendingProduct(name=name, matrix=matrix, source=source, rows=len(base))
        named = replace(operator, part=f"{operator.part}.saved")
        return self._product_step(named, product, residual=True)

    def _copied(self, operator: Operator) -> RowSelection:
        """Rows of the stream that do not follow each other, as a stream of their own."""
        product = self._unchanged(operator.name)
        return self._product_step(replace(operator, part=f"{operator.part}.rows"), product, residual=True)

    # Sums and products ------------------------------------------------------------------------------------------------

    def _sum(self, name: str) -> Sum:
        """A tensor as a sum."""
        if name in self._streams and self._streams[name].plain:
            return Sum(rows=self._rows_of(name), base=self._streams[name])
        found = self._sums.get(name)
        if found is not None and name not in self._streams and name not in self._activations:
            if all(product.function is None for product in found.products):
                return found
        return Sum(rows=self._rows_of(name), products=(self._unchanged(name),))

    def _unchanged(self, name: str) -> PendingProduct:
        """A tensor as a product with the matrix that leaves rows as they are."""
        channels = self._channels_of(name)
        matrix = Matrix(kind=MatrixKind.UNCHANGED, stop=channels)
        return PendingProduct(name=name, matrix=matrix, source=self._activation(name), rows=self._rows_of(name))

    def _factor(self, name: str) -> PendingProduct | None:
        """A tensor as a product that can be multiplied by, with its function; None if it is none."""
        found = self._sums.get(name)
        lone = None if found is None or name in self._streams or name in self._activations else found.lone
        return None if lone is None or lone.matrix is None or lone.swapped else lone

    def _product_step(self, operator: Operator, product: PendingProduct, **fields: Any) -> RowSelection:
        """Emit a product that is a tensor of its own."""
        if product.matrix is None:
            raise NoStep("what experts make is only added to the residual stream")
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

    def _apart(self, product: PendingProduct) -> bool:
        """Whether a product leaves whole folded rows as they are, so that it can leave each of their parts."""
        matrix, fold = product.matrix, product.source.fold
        if matrix is None or matrix.kind is not MatrixKind.UNCHANGED or product.swapped or fold == 1:
            return False
        return matrix.stop - matrix.start == self._channels_of(product.name)

    def _begin(self, operator: Operator, found: Sum, channels: int) -> RowSelection:
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
        self,
        operator: Operator,
        product: PendingProduct,
        base: RowSelection,
        suffix: str,
        *,
        absorbed: bool,
        begun: int = 0,
    ) -> RowSelection:
        """Emit a product that is added to rows of the stream, without the first parts that have ``begun`` it."""
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
        for part, inputs in list(enumerate(cuts))[begun:]:
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

    def _cuts(self, product: PendingProduct) -> list[tuple[int, int]]:
        """The source's channels, first and behind the last, of each part of a product."""
        channels = self._inputs_of(product.source)
        whole = product.swapped or (product.taps is not None and product.taps.groups > 1)
        parts = 1 if whole else -(-self._reduction(product) // LONGEST_REDUCTION)
        edges = [round(part * channels / parts / _WORD) * _WORD for part in range(1, parts)]
        return list(zip([0, *edges], [*edges, channels], strict=True))

    def _reduction(self, product: PendingProduct) -> int:
        """Inputs of each output."""
        channels, taps = self._inputs_of(product.source), product.taps
        return channels if taps is None else channels // taps.groups * taps.count

    def _summed(self, operator: Operator, product: PendingProduct) -> PendingProduct:
        """A product of too many inputs, summed on the stream: what leaves that as it is."""
        named, matrix = replace(operator, part=f"{operator.part}.sum"), product.matrix
        assert matrix is not None
        channels = matrix.stop - matrix.start
        base = self._begin(named, Sum(rows=product.rows, products=(product,)), channels)
        base = self._added(named, product, base, "", absorbed=True)
        matrix = Matrix(kind=MatrixKind.UNCHANGED, stop=channels)
        return replace(product, matrix=matrix, source=self._copy(base.tensor), taps=None)

    # Norms and experts ------------------------------------------------------------------------------------------------

    def _norm_step(self, norm: Normalise | Scale | Activate, named: Operator, source: RowSelection) -> RowSelection:
        """Emit a norm of rows of the stream; those that do not follow each other are copied before."""
        if source.listed is not None or source.fold > 1:
            source = self._copied(self._operator(norm.source))
        step = NormStep(
            place=named.place,
            part=named.part,
            rows=len(source),
            channels=self._channels_of(norm.name),
            source=source,
            weight=None if isinstance(norm, Activate) else norm.weight,
            bias=None if isinstance(norm, Activate) else norm.bias,
            epsilon=norm.epsilon if isinstance(norm, Normalise) else 0.0,
            kind=norm.kind if isinstance(norm, Normalise) else None,
            rectified=isinstance(norm, Activate),
        )
        return self._emit(step, self._activations)

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


def _needed_by(network: Network) -> dict[str, set[int]]:
    """Tasks that need each operator."""
    found: dict[str, set[int]] = {operator.name: set() for operator in network.operators}
    for index, task in enumerate(network.tasks):
        found[task.result].add(index)
    for operator in reversed(network.operators):
        for source in operator.sources:
            found[source] |= found[operator.name]
    return found
