"""Operators that are products: linear layers, convolutions, means of windows, functions, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from tessera.golden.integer.planning.forms import Forms
from tessera.golden.integer.planning.sums import LONGEST_REDUCTION, NoStep, PendingProduct, Sum
from tessera.golden.integer.steps import (
    AttentionStep,
    Matrix,
    MatrixKind,
    NormStep,
    PatchStep,
    ProductStep,
    RowSelection,
)
from tessera.golden.integer.taps import MOST_PADDING, MOST_TAPS, Taps, taps_around, taps_over, taps_over_blocks
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Add,
    AveragePool,
    Convolution,
    Enlarge,
    Linear,
    Multiply,
    Operator,
    Part,
    PictureInput,
    Scale,
)


class ProductPlanner(Forms):
    """Plans them: a product becomes a step when it is known what it is added to or goes through."""

    def _multiply(self, operator: Linear | Convolution, source: RowSelection, taps: Taps | None = None) -> None:
        matrix = Matrix(weight=operator.weight, bias=operator.bias, stop=self._channels_of(operator.name))
        self._sums[operator.name] = self._product(operator, matrix, source, taps)

    def _product(self, operator: Operator, matrix: Matrix, source: RowSelection, taps: Taps | None) -> Sum:
        """An operator's tensor as a product of rows, or of windows of them."""
        rows = self._rows_of(operator.name)
        return Sum(
            rows=rows,
            products=(PendingProduct(name=operator.name, matrix=matrix, source=source, rows=rows, taps=taps),),
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
            raise NoStep("a mean of fewer values at the border; the nearest counts its padding, as zeros")
        taps = self._taps(operator, operator.kernel)
        matrix = Matrix(kind=MatrixKind.MEAN, stop=self._channels_of(operator.name))
        rows = self._mapped(operator.source, taps)
        self._sums[operator.name] = self._product(operator, matrix, rows, taps)

    def _enlarge(self, operator: Enlarge) -> None:
        """A map between whose positions values are interpolated.

        It reads a copy of a stream and makes one, so that on both sides of it rows can wait in external memory.
        """
        source, found = operator.source, self._sums.get(operator.source)
        if found is not None and found.lone is not None and found.lone.function is None:
            self._stream(source)
        down, across, channels = self.network.shapes[source]
        taps = taps_around((down, across), channels)
        matrix = Matrix(kind=MatrixKind.BILINEAR, stop=channels)
        self._sums[operator.name] = self._product(operator, matrix, self._mapped(source, taps), taps)
        readers = list(self._readers(operator.name))
        if not readers or not all(isinstance(reader, Add) for reader in readers):  # which may add it to another
            self._stream(operator.name)

    def _taps(self, operator: Convolution | AveragePool, kernel: Sequence[int]) -> Taps:
        """Taps over a map of channels."""
        before, (down, across, channels) = self.network.shapes[operator.name], self.network.shapes[operator.source]
        made, edges = (before[0], before[1]), (kernel[0], kernel[1])
        if max(*kernel, *operator.stride) > MOST_TAPS or max(operator.padding[:2]) > MOST_PADDING:
            raise NoStep(
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
            raise NoStep(
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
            product = PendingProduct(name=scale.name, matrix=matrix, source=pixels, rows=len(pixels))
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
        found, readers = self._sums.get(operator.source), self.network.readers[operator.name]
        product = None if found is None else found.lone
        if product is None or product.matrix is None or product.function is not None or product.swapped:
            product = None
        if self._rectifies(operator, product):
            self._norms[operator.name] = operator  # made when something reads it
            return
        product = product or self._unchanged(operator.source)
        if readers and all(isinstance(reader, Multiply | Part) for reader in readers):
            lone = replace(product, function=operator.function)
            self._sums[operator.name] = Sum(rows=product.rows, products=(lone,))
            return
        self._product_step(operator, product, function=operator.function)

    def _rectifies(self, operator: Activate, product: PendingProduct | None) -> bool:
        """Whether an activation is a copy of a stream without what is negative.

        Such is a ReLU of a sum, of what is summed in parts for its many inputs, or one before enlargements.
        ``product`` is what can go through a function on its way to the activations instead; None for nothing.
        """
        readers = list(self._readers(operator.name))
        if operator.function is not ActivationFunction.RELU or not readers:
            return False
        if product is not None:
            summed = self._reduction(product) > LONGEST_REDUCTION
            return summed or all(isinstance(reader, Enlarge) for reader in readers)
        found = self._sums.get(operator.source)
        summed = operator.source in self._streams or (found is not None and found.lone is None)
        return summed and not all(isinstance(reader, Multiply | Part) for reader in readers)

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

    def _fresh(self, name: str, operator: Operator) -> RowSelection:
        """Rows of a stream that nothing else reads behind ``operator``."""
        base = self._stream(name)
        if not base.plain:
            base = self._copied(self._operator(name))
        self._finish_norms(base.tensor, operator)
        return self._saved(base, operator) if self._read_later(base.tensor, operator) else base
