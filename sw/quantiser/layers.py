"""Quantising the parts of a transformer block and the heads, with everything foldable folded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
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
from tessera.sw.quantiser.attention import attention_scales
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.quantiser.norms import Norm, quantise_norm
from tessera.sw.quantiser.observation import Observation, array, bias_offsets, is_routed
from tessera.sw.quantiser.rounding import Moments
from tessera.sw.quantiser.scales import (
    FoldedLinear,
    LinearInput,
    fitting,
    mean_error,
    quantise_linear,
    scalar_multiplier,
)

_SMALLEST = 1e-3  # a channel's range counts as at least this share of its tensor's, so that no scale degenerates


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
        layer: Any = self.model.heads[task]
        moments = self.seen.moments("norm")
        head = self._after_norm(array(layer.weight), array(layer.bias), self.model.norm, norm, moments)
        limit = self.numerics.residual.maximum * self.residual_scale
        needed = max(
            self._largest(f"head.{task}") / limit, float(head.finest(self.numerics).max()) / self.residual_scale
        )
        scale = self.residual_scale * 2.0 ** math.ceil(math.log2(max(needed, 1.0)))
        self._scale(f"head.{task}", scale)
        return head.quantised(scale, self.numerics)

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
        biases[1] = biases[2] = np.zeros_like(biases[0])  # folded: see bias_offsets
        moments = self.seen.moments(f"{name}.norm1")
        parts = {
            part: self._after_norm(weight, bias, block.norm1, norm, moments, constant=part == "q")
            for part, weight, bias in zip("qkv", weights, biases, strict=True)
        }
        top = self.numerics.activation.maximum
        wanted = {
            part: np.maximum(self._range(f"{name}.{part}") / top, layer.finest(self.numerics))
            for part, layer in parts.items()
        }
        wanted["attention"] = self._range(f"{name}.attention") / top
        projection, offset = block.attn.proj, self._offsets[f"{name}.v"]
        columns = np.square(array(projection.weight)).sum(axis=0)
        scales = attention_scales(name, wanted, columns, self.model.config.head_dim, self.numerics)
        self._scale(f"{name}.scores", math.log(2) / 2.0**self.numerics.score.fraction)
        self._scale(f"{name}.exponentials", 2.0**-self.numerics.activation_width)
        for part in ("q", "k", "v", "attention"):
            self._scale(f"{name}.{part}", getattr(scales, part))
        q, k, v = (layer.quantised(getattr(scales, part), self.numerics) for part, layer in parts.items())
        offset = offset + mean_error(v, parts["v"].weight, moments, norm.scale, scales.v)
        with self._onto_residual(f"{name}.projection"):
            projected = quantise_linear(
                array(projection.weight),
                array(projection.bias) + array(projection.weight) @ offset,
                LinearInput(
                    form=self.numerics.activation,
                    scale=scales.attention,
                    moments=self.seen.moments(f"{name}.attention"),
                ),
                output_scale=self.residual_scale,
                numerics=self.numerics,
            )
        return QuantisedAttention(
            q=q,
            k=k,
            v=v,
            projection=projected,
            score_multiplier=scales.score_multiplier,
            score_shift=scales.score_shift,
            output_multiplier=scales.output_multiplier,
            output_shift=scales.output_shift,
        )

    def _experts(self, block: Any, name: str, norm: Norm) -> QuantisedExperts:
        first, second = block.mlp.experts.htoh4, block.mlp.experts.h4toh
        stacks = [array(part) for part in (first.weight, first.bias, second.weight, second.bias)]
        sources = [f"{name}.expert_hidden.{expert}" for expert in range(self.model.config.experts)]
        experts = self._mlps(name, stacks, block.norm2, norm, sources)
        self.scales[f"{name}.expert_hidden"] = self.scales.pop(f"{name}.hidden")
        self._scale(f"{name}.gate_scores", math.log(2) / 2.0**self.numerics.score.fraction)
        self._scale(f"{name}.expert_weights", 2.0**-self.numerics.gate_weight.fraction)
        gates = tuple(self._gate(block, name, task, norm) for task in range(len(self.model.config.tasks)))
        return QuantisedExperts(gates=gates, experts=experts)

    def _gate(self, block: Any, name: str, task: int, norm: Norm) -> QuantisedLinear:
        config, gate = self.model.config, block.mlp.gate
        weight = array((gate[task] if isinstance(gate, nn.ModuleList) else gate).w_gate).T
        bias = weight[:, : config.dim] @ array(block.norm2.bias)
        if self.model.task_embedding is not None:
            bias = bias + weight[:, config.dim :] @ array(self.model.task_embedding)[task]
        score = self.numerics.score
        with fitting(f"{name}.gate of task {task}", "gate logits", score, "octaves"):
            return quantise_linear(
                weight[:, : config.dim] * array(block.norm2.weight),
                bias,
                LinearInput(form=self.numerics.wide, scale=norm.wide_scale),
                output_scale=math.log(2) / 2.0**score.fraction,
                weight_format=self.numerics.wide,
                numerics=self.numerics,
            )

    def _mlps(
        self, name: str, stacks: Sequence[Floats], layer_norm: Any, norm: Norm, hidden: Sequence[str]
    ) -> tuple[QuantisedMlp, ...]:
        """The MLPs of one block, from stacks of weights and biases; ``hidden`` names their hidden activations."""
        weights1, biases1, weights2, biases2 = stacks
        multiplier, shift = self._hidden_scale(f"{name}.hidden")
        output, form = self.numerics.gelu_output.fraction, self.numerics.gelu_input
        scale, moments = 2.0**-form.fraction, self.seen.moments(f"{name}.norm2")
        rows = weights1.reshape(-1, weights1.shape[-1])
        with fitting(f"{name}.mlp, its first layer", "GELU's input", form):
            first = self._after_norm(rows, biases1.reshape(-1), layer_norm, norm, moments).quantised(
                scale, self.numerics
            )
        with self._onto_residual(f"{name}.mlp, its second layer"):
            second = [
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
            ]
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
        moments: Moments | None,
        *,
        constant: bool = True,
    ) -> FoldedLinear:
        """A linear layer behind a norm, whose gain (and offset, if anything ``constant`` matters) it takes over."""
        return FoldedLinear(
            weight=weight * array(layer_norm.weight),
            bias=bias + weight @ array(layer_norm.bias) if constant else bias,
            source=LinearInput(form=self.numerics.activation, scale=norm.scale, moments=moments),
            constant=constant,
        )

    def _onto_residual(self, where: str) -> AbstractContextManager[None]:
        return fitting(where, "the residual stream", self.numerics.residual)

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


def _split(linear: QuantisedLinear, parts: int) -> list[QuantisedLinear]:
    """A layer's outputs as ``parts`` layers of equally many."""
    pieces = zip(*(np.split(vars(linear)[field.name], parts) for field in fields(linear)), strict=True)
    return [QuantisedLinear(**dict(zip(vars(linear), piece, strict=True))) for piece in pieces]
