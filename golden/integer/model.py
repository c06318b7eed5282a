"""The integer model: a whole frame in the accelerator's arithmetic, every intermediate tensor by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.common.arrays import Integers
from tessera.golden.config import layer_name
from tessera.golden.integer import functions
from tessera.golden.integer.parameters import (
    QuantisedAttention,
    QuantisedExperts,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedMlp,
    QuantisedModel,
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
        self.config = model.config
        layers = map(layer_name, range(self.config.layers))
        self._gelu_outputs = {f"{layer}.{part}" for layer in layers for part in ("hidden", "expert_hidden")}

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
            Unpadded tensors, N tokens (the class token first), D channels, E experts, k chosen:
            ``pixels`` (patches, 3 p p), ``residual.init``, ``residual.embed`` (N, D); for each layer, prefixed
            ``layerNN.``: ``norm1``, ``q``, ``k``, ``v`` (N, D), ``scores``, ``exponentials`` (heads, N, N: query, key),
            ``query_multiplier``, ``query_shift`` (heads, N), ``attention``, ``residual_attention``, ``norm2`` (N, D);
            dense: ``hidden`` (N, hidden); experts: ``norm2_wide`` (N, D), ``gate_scores`` (N, E), ``expert_indices``,
            ``expert_weights`` (N, k), ``queues`` (one :class:`~tessera.golden.integer.functions.ExpertQueue` an
            expert), ``expert_hidden`` (one (queue length, hidden) an expert), ``expert_residual`` (one (queue length,
            D) an expert: the residual rows right after it); ``residual`` (N, D). With a head: ``norm``
            (rows, D: of the tokens that the head reads, patches or the class token) and ``head`` (rows, outputs) in the
            residual's format.
            ``saturated``: whether the residual stream or the head clipped anywhere.

        Raises
        ------
        OverflowError
            If an accumulator, bias included, exceeds the machine's; the message names the tensor.
        ValueError
            For an image of another size or type, or an unknown task.
        """
        index = self.config.task_index(task) if isinstance(task, str) else task
        tensors: Tensors = {"saturated": False}
        x = self._embed(image, tensors)
        for number, layer in enumerate(self.model.layers):
            name = layer_name(number)
            x = self._attend(x, layer.norm1, layer.attention, name, tensors)
            if isinstance(layer.mlp, QuantisedExperts):
                x = self._route(x, layer.norm2, layer.mlp, index, name, tensors)
            else:
                normed, _ = self._normalise(x, layer.norm2)
                hidden = self._hidden(normed, layer.mlp, f"{name}.hidden")
                y = self._linear(hidden, layer.mlp.second, f"{name}.residual")
                x = self._keep(functions.residual_add(x, y, self.numerics), tensors)
                tensors |= {f"{name}.norm2": normed, f"{name}.hidden": hidden}
            tensors[f"{name}.residual"] = x
        head = self.model.heads[index]
        if head is not None and self.model.norm is not None:
            tensors["norm"], _ = self._normalise(x[self.config.head_tokens(index)], self.model.norm)
            y = self._linear(tensors["norm"], head, "head")
            tensors["head"] = self._keep(functions.residual_set(y, self.numerics), tensors)
        return tensors

    def dequantise(self, name: str, tensor: NDArray) -> NDArray[np.float64]:
        """Real values of one of the tensors of :meth:`run`; the name of a head's output is ``head.{task}``."""
        offset = 0.0
        if name in self._gelu_outputs:
            offset = self.numerics.gelu_zero_point / (1 << self.numerics.gelu_output.fraction)
        return tensor * self.model.scales[name] - offset

    def predict(self, image: NDArray[np.uint8], task: str | int) -> NDArray[np.float64]:
        """Head outputs (patches, outputs) or the last residual stream (N, D) as real values."""
        index = self.config.task_index(task) if isinstance(task, str) else task
        return self.output(self.run(image, index), index)

    def output(self, tensors: Tensors, index: int) -> NDArray[np.float64]:
        """What :meth:`predict` gives, from the tensors of a run of task ``index``."""
        if "head" in tensors:
            return self.dequantise(f"head.{self.config.tasks[index].name}", tensors["head"])
        name = f"{layer_name(self.config.layers - 1)}.residual"
        return self.dequantise(name, tensors[name])

    def _embed(self, image: NDArray[np.uint8], tensors: Tensors) -> Integers:
        config, (rows, columns), patch = self.config, self.config.grid, self.config.patch
        size = (3, config.image_height, config.image_width)
        if image.shape != size or image.dtype != np.uint8:
            raise ValueError(
                f"image is {image.dtype} {image.shape}, model '{config.name}' takes uint8 {size}; "
                "resize it or transpose channels first"
            )
        parts = image.reshape(3, rows, patch, columns, patch).transpose(1, 3, 0, 2, 4)
        pixels = parts.reshape(config.patches, config.patch_inputs)
        x = self.model.initial_residual.copy()
        y = self._linear(pixels, self.model.patch_embedding, "residual.embed")
        x[1:] = self._keep(functions.residual_add(x[1:], y, self.numerics), tensors)
        tensors |= {"pixels": pixels, "residual.init": self.model.initial_residual, "residual.embed": x}
        return x

    def _attend(
        self, x: Integers, norm: QuantisedLayerNorm, attention: QuantisedAttention, name: str, tensors: Tensors
    ) -> Integers:
        numerics, heads = self.numerics, self.config.heads
        tokens, dim = x.shape
        normed, _ = self._normalise(x, norm)
        stacks: Tensors = {"norm1": normed}
        for part in ("q", "k", "v"):
            stacks[part] = self._linear(normed, getattr(attention, part), f"{name}.{part}", numerics.activation)
        q, k, v = (stacks[part].reshape(tokens, heads, -1).transpose(1, 0, 2) for part in ("q", "k", "v"))
        products = self._fits(matmul(q, k.transpose(0, 2, 1)), f"{name}.scores")
        scores = functions.requantise(products, 0, attention.score_multiplier, attention.score_shift, numerics.score)
        exponentials = functions.attention_exponentials(scores, numerics)
        multiplier, shift = functions.query_scale(
            exponentials, attention.output_multiplier, attention.output_shift, numerics
        )
        sums = self._fits(matmul(exponentials, v), f"{name}.attention")
        mixed = functions.requantise(sums, 0, multiplier[..., None], shift[..., None], numerics.activation)
        mixed = mixed.transpose(1, 0, 2).reshape(tokens, dim)
        y = self._linear(mixed, attention.projection, f"{name}.residual_attention")
        x = self._keep(functions.residual_add(x, y, numerics), tensors)
        stacks |= {"scores": scores, "exponentials": exponentials, "attention": mixed, "residual_attention": x}
        stacks |= {"query_multiplier": multiplier, "query_shift": shift}
        tensors |= {f"{name}.{part}": value for part, value in stacks.items()}
        return x

    def _route(
        self, x: Integers, norm: QuantisedLayerNorm, mlp: QuantisedExperts, task: int, name: str, tensors: Tensors
    ) -> Integers:
        numerics = self.numerics
        normed, wide = self._normalise(x, norm)
        scores = self._linear(wide, mlp.gates[task], f"{name}.gate_scores", numerics.score)
        routing = functions.gate(scores, self.config.top_k, numerics)
        queues = functions.queues(routing, self.config.experts)
        hidden, updated = [], []
        for expert, queue in zip(mlp.experts, queues, strict=True):
            hidden.append(self._hidden(normed[queue.tokens], expert, f"{name}.expert_hidden"))
            y = self._linear(hidden[-1], expert.second, f"{name}.residual")
            added = functions.residual_add_weighted(x[queue.tokens], y, queue.weights[:, None], numerics)
            x = x.copy()
            x[queue.tokens] = self._keep(added, tensors)
            updated.append(added.values)
        parts: Tensors = {"norm2": normed, "norm2_wide": wide, "gate_scores": scores, "queues": queues}
        parts |= {"expert_indices": routing.indices, "expert_weights": routing.weights, "expert_hidden": hidden}
        parts["expert_residual"] = updated
        tensors |= {f"{name}.{part}": value for part, value in parts.items()}
        return x

    def _hidden(self, x: Integers, mlp: QuantisedMlp, name: str) -> Integers:
        y = self._linear(x, mlp.first, name)
        return functions.gelu_activation(y, mlp.gelu_multiplier, mlp.gelu_shift, self.numerics)

    def _normalise(self, x: Integers, norm: QuantisedLayerNorm) -> functions.Normalised:
        return functions.layernorm(x, norm, self.numerics)

    def _linear(self, x: NDArray, linear: QuantisedLinear, name: str, format: Format | None = None) -> Integers:
        sums = self._fits(matmul(x, linear.weight.T), name)
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
