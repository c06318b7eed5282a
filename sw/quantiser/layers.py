"""Quantising the parts of a transformer block and the heads, with everything foldable folded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from golden.integer.parameters import (
    QuantisedAttention,
    QuantisedExperts,
    QuantisedLayer,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedMlp,
)
from golden.model import VisionTransformer
from hw.formats import Numerics
from sw.quantiser.calibration import Calibration, array, bias_offsets, is_routed
from sw.quantiser.scales import Norm, quantise_linear, quantise_norm, scalar_multiplier

Floats = NDArray[np.float64]

_SMALLEST = 1e-3  # a channel's range counts as at least this share of its tensor's, so that no scale degenerates


class LayerQuantiser:
    """Quantises blocks and heads of one model.

    Parameters
    ----------
    model, calibration, numerics, headroom:
        As for :func:`sw.quantise.quantise`.

    Attributes
    ----------
    scales:
        Filled with the real value of one step of each tensor.
    """

    def __init__(self, model: VisionTransformer, calibration: Calibration, numerics: Numerics, headroom: float) -> None:
        self.model, self.calibration, self.numerics, self.headroom = model, calibration, numerics, headroom
        self.scales: dict[str, Floats] = {}
        self.residual_scale = 2.0**-numerics.residual.fraction
        self._offsets = bias_offsets(model)

    def layer(self, number: int) -> QuantisedLayer:
        """Quantise block ``number``."""
        name = f"layer{number:02d}"
        block: Any = self.model.blocks[number]
        norm1 = self._norm(f"{name}.norm1", block.norm1, array(block.attn.qkv.weight))
        attention = self._attention(block, name, norm1)
        if is_routed(block.mlp):
            first = array(block.mlp.experts.htoh4.weight)
            norm2 = self._norm(f"{name}.norm2", block.norm2, first.reshape(-1, first.shape[-1]))
            mlp: QuantisedMlp | QuantisedExperts = self._experts(block, name, norm2)
            self._scale(f"{name}.norm2_wide", norm2.wide_scale)
        else:
            norm2 = self._norm(f"{name}.norm2", block.norm2, array(block.mlp.fc1.weight))
            fc1, fc2 = block.mlp.fc1, block.mlp.fc2
            matrices = (array(fc1.weight), array(fc1.bias), array(fc2.weight), array(fc2.bias))
            mlp = self._mlp(*matrices, block.norm2, norm2, self._hidden_scale(f"{name}.hidden"))
        for tensor in ("residual_attention", "residual"):
            self._scale(f"{name}.{tensor}", self.residual_scale)
        return QuantisedLayer(norm1=norm1.parameters, attention=attention, norm2=norm2.parameters, mlp=mlp)

    def heads(self) -> tuple[QuantisedLayerNorm | None, tuple[QuantisedLinear | None, ...]]:
        """Quantise the final norm and every task's head; logits beyond the residual's range get a power of two."""
        heads = self.model.heads
        if not len(heads):
            return None, (None,) * len(self.model.config.tasks)
        if not isinstance(self.model.norm, nn.LayerNorm):
            raise ValueError("the model has heads but no final norm; the accelerator's heads follow a LayerNorm")
        norm = self._norm("norm", self.model.norm, np.concatenate([array(head.weight) for head in heads.values()]))
        return norm.parameters, tuple(
            self._head(task.name, norm) if task.name in heads else None for task in self.model.config.tasks
        )

    def _head(self, task: str, norm: Norm) -> QuantisedLinear:
        largest = float(self.calibration.maximum[f"head.{task}"]) * self.headroom
        limit = self.numerics.residual.maximum * self.residual_scale
        scale = self.residual_scale * 2.0 ** max(0, math.ceil(math.log2(max(largest, limit) / limit)))
        self._scale(f"head.{task}", scale)
        layer: Any = self.model.heads[task]
        return self._after_norm(array(layer.weight), array(layer.bias), self.model.norm, norm, scale)

    def _norm(self, name: str, norm: Any, next_weight: Floats) -> Norm:
        quantised = quantise_norm(
            self.calibration.maximum[name],
            self.calibration.samples[name],
            next_weight * array(norm.weight),
            headroom=self.headroom,
            numerics=self.numerics,
        )
        self._scale(name, quantised.scale)
        return quantised

    def _attention(self, block: Any, name: str, norm: Norm) -> QuantisedAttention:
        weights, biases = np.split(array(block.attn.qkv.weight), 3), np.split(array(block.attn.qkv.bias), 3)
        q_range, k_range, v_range = (self._range(f"{name}.{part}") for part in "qkv")
        top = self.numerics.activation.maximum
        # Scores see only the product of a query's and a key's scale: it is common, its split is balanced by channel.
        product = float((q_range * k_range).max()) / top**2
        q_scale, k_scale = np.sqrt(product * q_range / k_range), np.sqrt(product * k_range / q_range)
        v_scale = v_range / top
        rho = min(1.0, float((self._range(f"{name}.attention") / v_range).max()))
        output_multiplier, output_shift = scalar_multiplier(1 / rho)
        attention_scale = v_scale * 2.0**output_shift / output_multiplier
        octaves = math.log2(math.e) / math.sqrt(self.model.config.head_dim) * 2.0**self.numerics.score.fraction
        score_multiplier, score_shift = scalar_multiplier(product * octaves)
        nothing = np.zeros_like(biases[0])
        projection, offset = block.attn.proj, self._offsets[f"{name}.v"]
        self._scale(f"{name}.scores", math.log(2) / 2.0**self.numerics.score.fraction)
        self._scale(f"{name}.exponentials", 2.0**-self.numerics.activation_width)
        for part, scale in zip(("q", "k", "v", "attention"), (q_scale, k_scale, v_scale, attention_scale), strict=True):
            self._scale(f"{name}.{part}", scale)
        return QuantisedAttention(
            q=self._after_norm(weights[0], biases[0], block.norm1, norm, q_scale),
            k=self._after_norm(weights[1], nothing, block.norm1, norm, k_scale, offset=False),
            v=self._after_norm(weights[2], nothing, block.norm1, norm, v_scale, offset=False),
            projection=quantise_linear(
                array(projection.weight),
                array(projection.bias) + array(projection.weight) @ offset,
                input_scale=attention_scale,
                output_scale=self.residual_scale,
                input_format=self.numerics.activation,
                numerics=self.numerics,
            ),
            score_multiplier=score_multiplier,
            score_shift=score_shift,
            output_multiplier=output_multiplier,
            output_shift=output_shift,
        )

    def _experts(self, block: Any, name: str, norm: Norm) -> QuantisedExperts:
        first, second, hidden = block.mlp.experts.htoh4, block.mlp.experts.h4toh, self._hidden_scale(f"{name}.hidden")
        self.scales[f"{name}.expert_hidden"] = self.scales.pop(f"{name}.hidden")
        stacks = (array(first.weight), array(first.bias), array(second.weight), array(second.bias))
        self._scale(f"{name}.gate_scores", math.log(2) / 2.0**self.numerics.score.fraction)
        self._scale(f"{name}.expert_weights", 2.0**-self.numerics.gate_weight.fraction)
        return QuantisedExperts(
            gates=tuple(self._gate(block, task, norm) for task in range(len(self.model.config.tasks))),
            experts=tuple(self._mlp(*parts, block.norm2, norm, hidden) for parts in zip(*stacks, strict=True)),
        )

    def _gate(self, block: Any, task: int, norm: Norm) -> QuantisedLinear:
        config, gate = self.model.config, block.mlp.gate
        weight = array((gate[task] if isinstance(gate, nn.ModuleList) else gate).w_gate).T
        bias = weight[:, : config.dim] @ array(block.norm2.bias)
        if self.model.task_embedding is not None:
            bias = bias + weight[:, config.dim :] @ array(self.model.task_embedding)[task]
        return quantise_linear(
            weight[:, : config.dim] * array(block.norm2.weight),
            bias,
            input_scale=norm.wide_scale,
            output_scale=math.log(2) / 2.0**self.numerics.score.fraction,
            input_format=self.numerics.wide,
            weight_format=self.numerics.wide,
            numerics=self.numerics,
        )

    def _mlp(
        self,
        weight1: Floats,
        bias1: Floats,
        weight2: Floats,
        bias2: Floats,
        layer_norm: Any,
        norm: Norm,
        hidden: tuple[int, int],
    ) -> QuantisedMlp:
        multiplier, shift = hidden
        output = self.numerics.gelu_output.fraction
        second = quantise_linear(
            weight2,
            bias2,
            input_scale=2.0 ** (shift - output) / multiplier,
            output_scale=self.residual_scale,
            input_format=self.numerics.unsigned_activation,
            zero_point=self.numerics.gelu_zero_point / 2.0**output,
            numerics=self.numerics,
        )
        first = self._after_norm(weight1, bias1, layer_norm, norm, 2.0**-self.numerics.gelu_input.fraction)
        return QuantisedMlp(first=first, second=second, gelu_multiplier=multiplier, gelu_shift=shift)

    def _hidden_scale(self, name: str) -> tuple[int, int]:
        """Multiplier and shift from GELU's output to the hidden activations of a block."""
        form = self.numerics.gelu_output
        zero_point = self.numerics.gelu_zero_point / 2.0**form.fraction
        largest = float(self.calibration.maximum[name]) * self.headroom + zero_point
        scale = min(largest, form.maximum / 2.0**form.fraction) / self.numerics.unsigned_activation.maximum
        multiplier, shift = scalar_multiplier(2.0**-form.fraction / scale)
        self._scale(name, 2.0 ** (shift - form.fraction) / multiplier)
        return multiplier, shift

    def _after_norm(
        self,
        weight: Floats,
        bias: Floats,
        layer_norm: Any,
        norm: Norm,
        output_scale: float | Floats,
        *,
        offset: bool = True,
    ) -> QuantisedLinear:
        """A linear layer behind a norm, whose gain (and offset) it takes over."""
        return quantise_linear(
            weight * array(layer_norm.weight),
            bias + weight @ array(layer_norm.bias) if offset else bias,
            input_scale=norm.scale,
            output_scale=output_scale,
            input_format=self.numerics.activation,
            numerics=self.numerics,
        )

    def _range(self, name: str) -> Floats:
        maximum = self.calibration.maximum[name] * self.headroom
        return np.maximum(maximum, max(float(maximum.max()) * _SMALLEST, 1e-9))

    def _scale(self, name: str, scale: float | Floats) -> None:
        self.scales[name] = np.asarray(scale, np.float64)
