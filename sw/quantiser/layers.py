"""Quantising the parts of a transformer block and the heads, with everything foldable folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from torch import nn

from tessera.common.arrays import Floats
from tessera.golden.config import layer_name
from tessera.golden.integer.parameters import (
    QuantisedAttention,
    QuantisedExperts,
    QuantisedLayer,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedMlp,
)
from tessera.golden.model import VisionTransformer
from tessera.hw.formats import Format, Numerics
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.quantiser.observation import Observation, array, bias_offsets, is_routed
from tessera.sw.quantiser.rounding import Moments
from tessera.sw.quantiser.scales import LinearInput, Norm, mean_error, quantise_linear, quantise_norm, scalar_multiplier

_SMALLEST = 1e-3  # a channel's range counts as at least this share of its tensor's, so that no scale degenerates
_VALUES_COUNT = 0.1  # share of the values' rounding errors that averaging over tokens leaves


class LayerQuantiser:
    """Quantises blocks and heads of one model.

    Parameters
    ----------
    model, numerics, calibration, headroom:
        As for :func:`tessera.sw.quantiser.quantise.quantise`.
    seen:
        What calibration images made the model's tensors do.

    Attributes
    ----------
    scales:
        Filled with the real value of one step of each tensor.
    """

    def __init__(
        self,
        model: VisionTransformer,
        seen: Observation,
        numerics: Numerics,
        calibration: Calibration,
        headroom: float,
    ) -> None:
        self.model, self.seen, self.numerics = model, seen, numerics
        self.calibration, self.headroom = calibration, headroom
        self.scales: dict[str, Floats] = {}
        self.residual_scale = 2.0**-numerics.residual.fraction
        self._offsets = bias_offsets(model)

    def layer(self, number: int) -> QuantisedLayer:
        """Quantise block ``number``."""
        name = layer_name(number)
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
            matrices = [array(part)[None] for part in (fc1.weight, fc1.bias, fc2.weight, fc2.bias)]
            mlp = self._mlps(name, matrices, block.norm2, norm2, [f"{name}.hidden"])[0]
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
        largest = self._largest(f"head.{task}")
        limit = self.numerics.residual.maximum * self.residual_scale
        scale = self.residual_scale * 2.0 ** max(0, math.ceil(math.log2(max(largest, limit) / limit)))
        self._scale(f"head.{task}", scale)
        layer: Any = self.model.heads[task]
        moments = self.seen.moments("norm")
        return self._after_norm(array(layer.weight), array(layer.bias), self.model.norm, norm, scale, moments)

    def _norm(self, name: str, norm: Any, next_weight: Floats) -> Norm:
        quantised = quantise_norm(
            self._ranges(name, self.numerics.activation),
            self.seen.samples[name],
            next_weight * array(norm.weight),
            epsilon=norm.eps,
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
        columns = np.square(array(block.attn.proj.weight)).sum(axis=0)
        v_scale, ratio = value_scales(v_range / top, self._range(f"{name}.attention") / top, columns)
        output_multiplier, output_shift = scalar_multiplier(1 / ratio)
        attention_scale = v_scale * 2.0**output_shift / output_multiplier
        octaves = math.log2(math.e) / math.sqrt(self.model.config.head_dim) * 2.0**self.numerics.score.fraction
        score_multiplier, score_shift = scalar_multiplier(product * octaves)
        nothing = np.zeros_like(biases[0])
        projection, offset = block.attn.proj, self._offsets[f"{name}.v"]
        self._scale(f"{name}.scores", math.log(2) / 2.0**self.numerics.score.fraction)
        self._scale(f"{name}.exponentials", 2.0**-self.numerics.activation_width)
        moments = self.seen.moments(f"{name}.norm1")
        v = self._after_norm(weights[2], nothing, block.norm1, norm, v_scale, moments, constant=False)
        offset = offset + mean_error(v, weights[2] * array(block.norm1.weight), moments, norm.scale, v_scale)
        for part, scale in zip(("q", "k", "v", "attention"), (q_scale, k_scale, v_scale, attention_scale), strict=True):
            self._scale(f"{name}.{part}", scale)
        return QuantisedAttention(
            q=self._after_norm(weights[0], biases[0], block.norm1, norm, q_scale, moments),
            k=self._after_norm(weights[1], nothing, block.norm1, norm, k_scale, moments, constant=False),
            v=v,
            projection=quantise_linear(
                array(projection.weight),
                array(projection.bias) + array(projection.weight) @ offset,
                LinearInput(
                    form=self.numerics.activation,
                    scale=attention_scale,
                    moments=self.seen.moments(f"{name}.attention"),
                ),
                output_scale=self.residual_scale,
                numerics=self.numerics,
            ),
            score_multiplier=score_multiplier,
            score_shift=score_shift,
            output_multiplier=output_multiplier,
            output_shift=output_shift,
        )

    def _experts(self, block: Any, name: str, norm: Norm) -> QuantisedExperts:
        first, second = block.mlp.experts.htoh4, block.mlp.experts.h4toh
        stacks = [array(part) for part in (first.weight, first.bias, second.weight, second.bias)]
        sources = [f"{name}.expert_hidden.{expert}" for expert in range(self.model.config.experts)]
        experts = self._mlps(name, stacks, block.norm2, norm, sources)
        self.scales[f"{name}.expert_hidden"] = self.scales.pop(f"{name}.hidden")
        self._scale(f"{name}.gate_scores", math.log(2) / 2.0**self.numerics.score.fraction)
        self._scale(f"{name}.expert_weights", 2.0**-self.numerics.gate_weight.fraction)
        gates = tuple(self._gate(block, task, norm) for task in range(len(self.model.config.tasks)))
        return QuantisedExperts(gates=gates, experts=experts)

    def _gate(self, block: Any, task: int, norm: Norm) -> QuantisedLinear:
        config, gate = self.model.config, block.mlp.gate
        weight = array((gate[task] if isinstance(gate, nn.ModuleList) else gate).w_gate).T
        bias = weight[:, : config.dim] @ array(block.norm2.bias)
        if self.model.task_embedding is not None:
            bias = bias + weight[:, config.dim :] @ array(self.model.task_embedding)[task]
        return quantise_linear(
            weight[:, : config.dim] * array(block.norm2.weight),
            bias,
            LinearInput(form=self.numerics.wide, scale=norm.wide_scale),
            output_scale=math.log(2) / 2.0**self.numerics.score.fraction,
            weight_format=self.numerics.wide,
            numerics=self.numerics,
        )

    def _mlps(
        self, name: str, stacks: Sequence[Floats], layer_norm: Any, norm: Norm, hidden: Sequence[str]
    ) -> tuple[QuantisedMlp, ...]:
        """The MLPs of one block, from stacks of weights and biases; ``hidden`` names their hidden activations."""
        weights1, biases1, weights2, biases2 = stacks
        multiplier, shift = self._hidden_scale(f"{name}.hidden")
        output = self.numerics.gelu_output.fraction
        scale, moments = 2.0**-self.numerics.gelu_input.fraction, self.seen.moments(f"{name}.norm2")
        rows = weights1.reshape(-1, weights1.shape[-1])
        first = self._after_norm(rows, biases1.reshape(-1), layer_norm, norm, scale, moments)
        second = (
            quantise_linear(
                weight,
                bias,
                LinearInput(
                    form=self.numerics.unsigned_activation,
                    scale=2.0 ** (shift - output) / multiplier,
                    zero_point=self.numerics.gelu_zero_point / 2.0**output,
                    moments=self.seen.moments(source),
                ),
                output_scale=self.residual_scale,
                numerics=self.numerics,
            )
            for weight, bias, source in zip(weights2, biases2, hidden, strict=True)
        )
        return tuple(
            QuantisedMlp(first=one, second=two, gelu_multiplier=multiplier, gelu_shift=shift)
            for one, two in zip(_split(first, len(hidden)), second, strict=True)
        )

    def _hidden_scale(self, name: str) -> tuple[int, int]:
        """Multiplier and shift from GELU's output to the hidden activations of a block."""
        form = self.numerics.gelu_output
        zero_point = self.numerics.gelu_zero_point / 2.0**form.fraction
        largest = float(self._ranges(name, self.numerics.unsigned_activation, zero_point)[0])
        scale = min(largest + zero_point, form.maximum / 2.0**form.fraction) / self.numerics.unsigned_activation.maximum
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
        moments: Moments | None,
        *,
        constant: bool = True,
    ) -> QuantisedLinear:
        """A linear layer behind a norm, whose gain (and offset, if anything ``constant`` matters) it takes over."""
        return quantise_linear(
            weight * array(layer_norm.weight),
            bias + weight @ array(layer_norm.bias) if constant else bias,
            LinearInput(form=self.numerics.activation, scale=norm.scale, moments=moments),
            output_scale=output_scale,
            numerics=self.numerics,
            correct_mean=constant,
        )

    def _range(self, name: str) -> Floats:
        """Ranges of the channels of queries, keys, values or attention outputs."""
        ranges = self._ranges(name, self.numerics.activation)
        return np.maximum(ranges, max(float(ranges.max()) * _SMALLEST, 1e-9))

    def _ranges(self, name: str, form: Format, zero_point: float = 0.0) -> Floats:
        return self.calibration.ranges(self.seen.magnitudes[name], form, self.headroom, zero_point)

    def _largest(self, name: str) -> float:
        """The range of a tensor that must not clip."""
        return float(self.seen.magnitudes[name].maximum.max()) * self.headroom

    def _scale(self, name: str, scale: float | Floats) -> None:
        self.scales[name] = np.asarray(scale, np.float64)


def value_scales(values: Floats, attention: Floats, columns: Floats) -> tuple[Floats, float]:
    """Scales of the values, and the common ratio of attention outputs' scales to them.

    Both must hold their ranges, ``values`` and ``attention`` being the finest scales that do; ``columns`` are the sums
    of squares of what follows each channel. A ratio that suits most channels costs the others precision of values.
    """
    needed = np.minimum(attention / values, 1.0)
    best = (np.inf, values, 1.0)
    for ratio in np.quantile(needed, np.linspace(0.25, 1.0, 16)):
        scale = np.maximum(values, attention / ratio)
        error = float((columns * np.square(scale)).sum() * (ratio**2 + _VALUES_COUNT))
        best = min(best, (error, scale, float(ratio)), key=lambda found: found[0])
    return best[1], best[2]


def _split(linear: QuantisedLinear, parts: int) -> list[QuantisedLinear]:
    """A layer's outputs as ``parts`` layers of equally many."""
    pieces = zip(*(np.split(vars(linear)[field.name], parts) for field in fields(linear)), strict=True)
    return [QuantisedLinear(**dict(zip(vars(linear), piece, strict=True))) for piece in pieces]
