"""Quantising a mixture of experts: gates of 16 bits, and two linear layers for each expert."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np

from tessera.common.arrays import Floats
from tessera.golden.integer.parameters import QuantisedExperts, QuantisedLinear, QuantisedMlp
from tessera.golden.integer.steps import ExpertsStep
from tessera.sw.quantiser.scales import FoldedLinear, LinearInput, fitting, quantise_linear
from tessera.sw.quantiser.sources import Sources


def quantise_experts(step: ExpertsStep, sources: Sources) -> QuantisedExperts:
    """The integers of a mixture of experts, whose source is a norm."""
    hidden = step.inner("expert_hidden")
    multiplier, shift = sources.function_scale(hidden, step.function)
    first = _first(step, sources)
    names = [f"{hidden}.{expert}" for expert in range(step.experts)]
    inputs = [sources.positive(multiplier, shift, name, step.function) for name in names]
    sources.scale(hidden, inputs[0].scale)
    second = _second(step, sources, inputs)
    score = sources.numerics.score.fraction
    sources.scale(step.inner("gate_scores"), math.log(2) / 2.0**score)
    sources.scale(step.inner("expert_weights"), 2.0**-sources.numerics.gate_weight.fraction)
    return QuantisedExperts(
        gates=tuple(_gate(step, task, sources) for task in range(len(step.gates))),
        experts=tuple(QuantisedMlp(first=one, second=two) for one, two in zip(first, second, strict=True)),
        function_multiplier=multiplier,
        function_shift=shift,
    )


def _first(step: ExpertsStep, sources: Sources) -> list[QuantisedLinear]:
    """The experts' first layers, as one: they read the same norm."""
    folding, form, name = sources.folding, sources.numerics.gelu_input, step.source.tensor
    stack = folding.value(step.first_weight)
    weight = stack.reshape(-1, stack.shape[-1])
    bias, left_out = folding.value(step.first_bias).reshape(-1), folding.left_out(name)
    folded = FoldedLinear(
        weight=weight * folding.gain(name),
        bias=bias if left_out is None else bias + weight @ left_out,
        source=sources.input(name),
        constant=True,
    )
    with fitting(f"{step.product}, its first layer", "an activation function's input", form):
        return _split(folded.quantised(2.0**-form.fraction, sources.numerics), step.experts)


def _second(step: ExpertsStep, sources: Sources, inputs: list[LinearInput]) -> list[QuantisedLinear]:
    weights, biases = sources.folding.value(step.second_weight), sources.folding.value(step.second_bias)
    with sources.onto_residual(f"{step.product}, its second layer"):
        return [
            quantise_linear(weight, bias, source, output_scale=sources.residual_scale, numerics=sources.numerics)
            for weight, bias, source in zip(weights, biases, inputs, strict=True)
        ]


def _gate(step: ExpertsStep, task: int, sources: Sources) -> QuantisedLinear:
    """A task's gate, which reads the norm's wide output."""
    folding, numerics, name = sources.folding, sources.numerics, step.source.tensor
    matrix = folding.value(step.gates[task]).T
    weight, left_out = matrix[:, : step.channels], folding.left_out(name)
    bias: Floats = np.zeros(len(weight)) if left_out is None else weight @ left_out
    if step.embeddings:
        bias = bias + matrix[:, step.channels :] @ folding.value(step.embeddings[task])
    score = numerics.score
    with fitting(f"{step.product}, its gate of task {task}", "gate logits", score, "octaves"):
        return quantise_linear(
            weight * folding.gain(name),
            bias,
            LinearInput(form=numerics.wide, scale=float(sources.scales[f"{name}.wide"])),
            output_scale=math.log(2) / 2.0**score.fraction,
            weight_format=numerics.wide,
            numerics=numerics,
        )


def _split(linear: QuantisedLinear, parts: int) -> list[QuantisedLinear]:
    """A layer's outputs as ``parts`` layers of equally many."""
    pieces = zip(*(np.split(vars(linear)[field.name], parts) for field in fields(linear)), strict=True)
    return [QuantisedLinear(**dict(zip(vars(linear), piece, strict=True))) for piece in pieces]
