"""What of the float model moves elsewhere exactly: gains of norms into weights, constants into biases."""

from __future__ import annotations

from typing import Any

import numpy as np

from tessera.common.arrays import Floats
from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import AttentionStep, Matrix, MatrixKind, NormStep, ProductStep, RowSelection
from tessera.golden.integer.taps import Taps
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.operators import Parameter


class Folding:
    """Weights, gains and offsets of a float model by its steps.

    The integers of a tensor stand for its real values less an *offset* in each channel, which the biases of the
    products behind it take over. A norm's offset is its own. On an attention's keys what is constant is the same for
    every key of a query, so softmax cancels it. On its values, weights that sum to 1 pass it through unchanged.

    Parameters
    ----------
    model:
        The float model.
    plan:
        Its steps.
    """

    def __init__(self, model: FloatNetwork, plan: Plan) -> None:
        self._model, self._plan = model, plan
        self._offsets: dict[str, Floats] = {}
        attentions = plan.of_kind(AttentionStep)
        self.attention_of = {rows.tensor: step for step in attentions for rows in step.reads}
        """The attention that each of its queries', keys' and values' tensors is for."""
        for step in plan.of_kind(NormStep):
            if step.bias is not None:
                self._offsets[step.name] = self.value(step.bias)
        for attention in attentions:
            for rows in (attention.key, attention.value):
                product = self.cancelling(rows.tensor)
                if product is not None:
                    self._offsets[rows.tensor] = self.constant(product)
            if attention.value.tensor in self._offsets:
                self._offsets[attention.name] = self._offsets[attention.value.tensor]

    def cancelling(self, name: str) -> ProductStep | None:
        """The product that makes keys or values alone, so that what is constant of it can move; None for another."""
        step = self._plan.by_name[name]
        attention = self.attention_of.get(name)
        alone = len(self._plan.readers[name]) == 1 and attention is not None and attention.query.tensor != name
        if not alone or not isinstance(step, ProductStep) or step.function is not None:
            return None
        return step

    def value(self, parameter: Parameter) -> Floats:
        """A parameter as float64."""
        return array(self._model.parameter(parameter))

    def weight(self, matrix: Matrix) -> Floats:
        """The rows of a matrix that a product uses, (outputs, inputs)."""
        if matrix.weight is None:
            raise ValueError(f"a matrix of kind {matrix.kind} has no weights")
        value = self.value(matrix.weight)
        return value.reshape(len(value), -1)[matrix.start : matrix.stop]

    def weights(self, step: ProductStep) -> Floats:
        """The matrix of a product, (outputs, all inputs)."""
        matrix, inputs = step.matrix, self._plan.by_name[step.source.tensor].channels * step.operand.fold
        match matrix.kind:
            case MatrixKind.FULL if step.taps is not None and matrix.weight is not None:
                return step.taps.matrix(self.value(matrix.weight))[matrix.start : matrix.stop]
            case MatrixKind.FULL:
                return self.weight(matrix)
            case MatrixKind.MEAN:
                assert step.taps is not None
                return np.full((matrix.stop - matrix.start, step.taps.count), 1 / step.taps.count)
            case MatrixKind.BILINEAR:
                return np.tile(np.array([9, 3, 3, 1]) / 16, (matrix.stop - matrix.start, 1))
            case MatrixKind.DIAGONAL if matrix.weight is not None:
                return np.diag(_repeated(self.value(matrix.weight), inputs))[matrix.start : matrix.stop]
            case MatrixKind.ZERO:
                return np.zeros((matrix.stop - matrix.start, inputs))
        return np.eye(inputs)[matrix.start : matrix.stop]

    def bias(self, matrix: Matrix) -> Floats:
        """Its bias (outputs,), zeros for none."""
        if matrix.bias is None:
            return np.zeros(matrix.stop - matrix.start)
        value = self.value(matrix.bias)
        value = _repeated(value, matrix.stop) if matrix.kind is MatrixKind.DIAGONAL else value
        return value[matrix.start : matrix.stop]

    def gain(self, name: str) -> Floats | float:
        """What a product behind a tensor multiplies its columns with: a norm's gain."""
        step = self._plan.by_name.get(name)
        return self.value(step.weight) if isinstance(step, NormStep) and step.weight is not None else 1.0

    def gain_of(self, rows: RowSelection) -> Floats | float:
        """The same for rows that a product reads."""
        found = self.gain(rows.tensor)
        return np.tile(found, rows.fold) if isinstance(found, np.ndarray) else found

    def left_out_of(self, rows: RowSelection) -> Floats | None:
        """What the integers of rows that a product reads leave out, as :meth:`left_out`."""
        found = self.left_out(rows.tensor)
        return None if found is None else np.tile(found, rows.fold)

    def offset(self, name: str) -> Floats | float:
        """What the integers of a tensor leave out, (channels,); a norm's integers are told before its offset."""
        return 0.0 if isinstance(self._plan.by_name.get(name), NormStep) else self._offsets.get(name, 0.0)

    def left_out(self, name: str) -> Floats | None:
        """What products behind a tensor add to its integers, (channels,); None for nothing."""
        return self._offsets.get(name)

    def constant(self, product: ProductStep) -> Floats:
        """What a product makes of nothing but what is constant: (outputs,)."""
        bias, left_out = self.bias(product.matrix), self.left_out_of(product.operand)
        if left_out is not None and product.taps is not None:
            return bias + self.of_windows(product, left_out)
        return bias if left_out is None else bias + self.weights(product) @ left_out

    def of_windows(self, product: ProductStep, channels: Floats) -> Floats:
        """What a product makes of windows with these ``channels`` at every tap: (outputs,)."""
        assert product.taps is not None
        by_tap = _by_tap(self.weights(product), product.taps)
        return np.einsum("gotc,gc->go", by_tap, channels.reshape(len(by_tap), -1)).reshape(-1)

    def reads_product(self, name: str) -> bool:
        """Whether a product reads the tensor."""
        return any(isinstance(step, ProductStep) for step in self._plan.readers[name])

    def readers(self, name: str) -> list[Floats]:
        """Weights (outputs, inputs) of all products that read a tensor, experts among them; gates are not."""
        found = []
        for step in self._plan.readers[name]:
            if isinstance(step, ProductStep) and step.source.tensor == name:
                weight = self.weights(step)
                if step.taps is not None:
                    weight = _by_channel(weight, step.taps, self._plan.by_name[name].channels)
                found.append(np.concatenate(np.split(weight, step.operand.fold, axis=1)))
            elif not isinstance(step, (ProductStep, AttentionStep, NormStep)):
                first = self.value(step.first_weight)  # type: ignore[attr-defined]
                found.append(first.reshape(-1, first.shape[-1]))
        return found


def _repeated(values: Floats, count: int) -> Floats:
    """Each value as often as it takes to have ``count``."""
    return np.repeat(values, count // len(values))


def _by_tap(weight: Floats, taps: Taps) -> Floats:
    """A matrix over windows (outputs, inputs) as (groups, outputs of a group, taps, channels of a group)."""
    return weight.reshape(taps.groups, len(weight) // taps.groups, taps.count, -1)


def _by_channel(weight: Floats, taps: Taps, channels: int) -> Floats:
    """A matrix over windows as one over positions (outputs, channels): each weight is as large as those of all taps."""
    by_tap = _by_tap(weight, taps)
    size = np.copysign(np.sqrt(np.square(by_tap).sum(axis=2)), by_tap.sum(axis=2))
    spread = np.zeros((*size.shape[:2], *size.shape[::2]))
    spread[np.arange(taps.groups), :, np.arange(taps.groups)] = size
    return spread.reshape(len(weight), channels)


def array(tensor: Any) -> Floats:
    """A tensor as float64 (a module's attributes have no narrower static type)."""
    return tensor.detach().double().numpy()
