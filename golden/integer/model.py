"""The integer model: a whole frame in the accelerator's arithmetic, every intermediate tensor by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.common.arrays import Integers
from tessera.golden.integer import functions
from tessera.golden.integer.activations import table_of, zero_point
from tessera.golden.integer.parameters import (
    QuantisedAttention,
    QuantisedExperts,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedModel,
    QuantisedProduct,
    QuantisedStream,
)
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
from tessera.hw.formats import Format, Numerics

Tensors = dict[str, Any]

_EXACT = 1 << 53  # integers up to here are exact in float64, whose matrix product is much faster than int64's


def matmul(a: NDArray, b: NDArray) -> Integers:
    """Exact integer matrix product (... x M x K) (... x K x N).

    Raises
    ------
    OverflowError
        If operands are so large that a sum might not be exact in float64.
    """
    if a.size and b.size and a.shape[-1] * int(np.abs(a).max()) * int(np.abs(b).max()) > _EXACT:
        raise OverflowError(f"a product over {a.shape[-1]} terms may exceed 53 bits; operands are not in their formats")
    return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def _by_group(x: NDArray, weight: NDArray) -> Integers:
    """Exact products (rows, outputs) of ``x`` (rows, groups, inputs): each group with its part of the outputs."""
    groups = x.shape[1]
    sums = matmul(x.swapaxes(0, 1), weight.reshape(groups, -1, weight.shape[1]).swapaxes(1, 2))
    return sums.swapaxes(0, 1).reshape(len(x), -1)


class IntegerModel:
    """Runs a quantised model bit-exactly as the accelerator does.

    Parameters
    ----------
    model:
        The quantised model.
    numerics:
        The machine's formats; must have the widths that the model was quantised for.

    Raises
    ------
    ValueError
        If the widths differ.
    """

    def __init__(self, model: QuantisedModel, numerics: Numerics) -> None:
        got = (numerics.activation_width, numerics.residual_width)
        expected = (model.activation_width, model.residual_width)
        if got != expected:
            raise ValueError(
                f"the machine has {got[0]}-bit activations and a {got[1]}-bit residual, the model was quantised for "
                f"{expected[0]} and {expected[1]}; quantise it again for this machine"
            )
        self.model, self.numerics = model, numerics
        self.network, self.plan = model.network, model.plan
        functional = [(step.name, step.function) for step in self.plan.of_kind(ProductStep) if step.positive]
        self._positive = {name: function for name, function in functional if function is not None}
        self._positive |= {step.inner("expert_hidden"): step.function for step in self.plan.of_kind(ExpertsStep)}

    def run(self, image: NDArray[np.uint8], task: str | int) -> Tensors:
        """Compute one frame.

        Parameters
        ----------
        image:
            (3, H, W) bytes.
        task:
            Task name or index.

        Returns
        -------
        dict
            Unpadded tensors of the steps that the task needs, by name, (rows, channels) each. Behind an attention's
            name come ``scores``, ``exponentials`` (heads, queries, keys), ``query_multiplier`` and ``query_shift``
            (heads, queries), all with an axis for windows before if there are several; behind the name of a norm that a
            gate reads ``wide``; behind a mixture of experts' ``gate_scores`` (rows, experts), ``expert_indices``,
            ``expert_weights`` (rows, k), ``queues`` (one :class:`~tessera.golden.integer.functions.ExpertQueue` an
            expert), ``expert_hidden`` (one (queue length, hidden) an expert) and ``expert_residual`` (one (queue
            length, channels) an expert: the rows of the stream right after it).
            ``saturated``: whether the residual stream or a result clipped anywhere.

        Raises
        ------
        OverflowError
            If an accumulator, bias included, exceeds the machine's; the message names the tensor.
        ValueError
            For an image of another size or type, or an unknown task.
        """
        index = self.network.task_index(task) if isinstance(task, str) else task
        tensors: Tensors = {"saturated": False}
        for step in self.plan.steps:
            if step.runs(index):
                tensors[step.name] = self._step(step, image, index, tensors)
        return tensors

    def dequantise(self, name: str, tensor: NDArray) -> NDArray[np.float64]:
        """Real values of one of the tensors of :meth:`run`."""
        offset = 0.0
        if name in self._positive:
            offset = zero_point(self._positive[name])
        return tensor * self.model.scales[name] - offset

    def predict(self, image: NDArray[np.uint8], task: str | int) -> NDArray[np.float64]:
        """The task's result (rows, channels) as real values."""
        index = self.network.task_index(task) if isinstance(task, str) else task
        return self.output(self.run(image, index), index)

    def result(self, tensors: Tensors, index: int) -> Integers:
        """The integers of the result of task ``index``, from the tensors of a run."""
        return self._rows(tensors, self.plan.results[index])

    def output(self, tensors: Tensors, index: int) -> NDArray[np.float64]:
        """What :meth:`predict` gives, from the tensors of a run of task ``index``."""
        return self.dequantise(self.plan.results[index].tensor, self.result(tensors, index))

    @staticmethod
    def _rows(tensors: Tensors, rows: RowSelection) -> Integers:
        return rows.of(tensors[rows.tensor])

    def _step(self, step: Step, image: NDArray[np.uint8], task: int, tensors: Tensors) -> NDArray:
        match step:
            case PatchStep():
                return self._patches(step, image)
            case StreamStep():
                return self.model.of(step.name, QuantisedStream).values
            case ProductStep():
                return self._product(step, tensors)
            case NormStep():
                return self._normalise(step, tensors)
            case AttentionStep():
                return self._attend(step, tensors)
            case ExpertsStep():
                return self._route(step, task, tensors)
        raise NotImplementedError(step.tag)  # all kinds are above; a new one must not pass in silence

    def _patches(self, step: PatchStep, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = (3, self.network.image_height, self.network.image_width)
        if image.shape != size or image.dtype != np.uint8:
            raise ValueError(
                f"image is {image.dtype} {image.shape}, model '{self.network.name}' takes uint8 {size}; "
                "resize it or transpose channels first"
            )
        return step.cut(image.transpose(1, 2, 0))

    def _product(self, step: ProductStep, tensors: Tensors) -> Integers:
        numerics, quantised = self.numerics, self.model.of(step.name, QuantisedProduct)
        x = self._rows(tensors, step.operand)
        x = x if step.inputs is None else x[:, slice(*step.inputs)]
        x = x if step.taps is None else step.taps.windows(x, quantised.padding)
        y = self._linear(x, quantised.linear, step.name)
        y = y.T if step.swapped else y.reshape(len(step.source), -1) if step.apart else y
        if step.factor:
            assert step.onto is not None
            table = None if step.function is None else table_of(step.function)
            stream = tensors[step.onto.tensor].copy()
            made = functions.residual_multiply(stream[step.onto.rows], y, table, quantised.function_shift, numerics)
            stream[step.onto.rows] = self._keep(made, tensors)
            return stream
        if step.function is not None:
            return functions.activate(
                y, table_of(step.function), quantised.function_multiplier, quantised.function_shift, numerics
            )
        if not step.residual:
            return functions.saturate(y, numerics.activation)
        if step.onto is None:
            return self._keep(functions.residual_set(y, numerics), tensors)
        stream = tensors[step.onto.tensor].copy()
        added = functions.residual_add(stream[step.onto.rows, step.span], y, numerics)
        stream[step.onto.rows, step.span] = self._keep(added, tensors)
        return stream

    def _normalise(self, step: NormStep, tensors: Tensors) -> Integers:
        norm = self.model.of(step.name, QuantisedLayerNorm)
        normed, wide = functions.layernorm(self._rows(tensors, step.source), norm, self.numerics)
        if step.wide:
            tensors[step.inner("wide")] = wide
        return normed

    def _attend(self, step: AttentionStep, tensors: Tensors) -> Integers:
        numerics, attention, windows = self.numerics, self.model.of(step.name, QuantisedAttention), step.windows
        parts = (self._rows(tensors, rows) for rows in step.reads)
        q, k, v = (part.reshape(windows, len(part) // windows, step.heads, -1).transpose(0, 2, 1, 3) for part in parts)
        products = matmul(q, k.transpose(0, 1, 3, 2))
        if attention.bias is not None and attention.bias_factors is not None:
            products = functions.biased_scores(products, attention.bias, attention.bias_factors)
        products = self._fits(products, step.inner("scores"))
        scores = functions.requantise(products, 0, attention.score_multiplier, attention.score_shift, numerics.score)
        exponentials = functions.attention_exponentials(scores, numerics)
        multiplier, shift = functions.query_scale(
            exponentials, attention.output_multiplier, attention.output_shift, numerics
        )
        sums = self._fits(matmul(exponentials, v), step.name)
        mixed = functions.requantise(sums, 0, multiplier[..., None], shift[..., None], numerics.activation)
        inside = {"scores": scores, "exponentials": exponentials}
        inside |= {"query_multiplier": multiplier, "query_shift": shift}
        # One window is none.
        tensors |= {step.inner(part): value if windows > 1 else value[0] for part, value in inside.items()}
        return mixed.transpose(0, 2, 1, 3).reshape(step.rows, step.channels)

    def _route(self, step: ExpertsStep, task: int, tensors: Tensors) -> Integers:
        numerics, mlp = self.numerics, self.model.of(step.name, QuantisedExperts)
        normed, stream = self._rows(tensors, step.source), tensors[step.onto.tensor].copy()
        wide = step.source.of(tensors[self.plan.by_name[step.source.tensor].inner("wide")])
        scores = self._linear(wide, mlp.gates[task], step.inner("gate_scores"), numerics.score)
        routing = functions.gate(scores, step.top_k, numerics)
        queues = functions.queues(routing, step.experts)
        hidden, updated, table = [], [], table_of(step.function)
        for expert, queue in zip(mlp.experts, queues, strict=True):
            y = self._linear(normed[queue.tokens], expert.first, step.inner("expert_hidden"))
            hidden.append(functions.activate(y, table, mlp.function_multiplier, mlp.function_shift, numerics))
            y = self._linear(hidden[-1], expert.second, step.name)
            rows = step.onto.start + queue.tokens
            added = functions.residual_add_weighted(stream[rows], y, queue.weights[:, None], numerics)
            stream[rows] = self._keep(added, tensors)
            updated.append(added.values)
        inside: Tensors = {"gate_scores": scores, "queues": queues, "expert_hidden": hidden}
        inside |= {"expert_indices": routing.indices, "expert_weights": routing.weights, "expert_residual": updated}
        tensors |= {step.inner(part): value for part, value in inside.items()}
        return stream

    def _linear(self, x: NDArray, linear: QuantisedLinear, name: str, format: Format | None = None) -> Integers:
        """Rows (rows, inputs) through a layer; or (rows, groups, inputs), where every group has outputs of its own."""
        sums = self._fits(matmul(x, linear.weight.T) if x.ndim == 2 else _by_group(x, linear.weight), name)
        self._fits(sums + linear.bias, name)
        return functions.requantise(sums, linear.bias, linear.multiplier, linear.shift, format)

    def _fits(self, sums: Integers, name: str) -> Integers:
        limit = 1 << (self.numerics.accumulator_width - 1)
        if sums.size and not (-limit <= sums.min() and sums.max() < limit):
            raise OverflowError(
                f"{name}: an accumulator reaches {int(max(sums.max(), -sums.min()))}, the machine's hold "
                f"{self.numerics.accumulator_width} bits; quantise with larger scales or fewer inputs"
            )
        return sums

    @staticmethod
    def _keep(residual: functions.Residual, tensors: Tensors) -> Integers:
        tensors["saturated"] = tensors["saturated"] or residual.saturated
        return residual.values
