"""Random quantised models: sensible magnitudes, no training, no calibration. For tests and for trying a machine out."""

from __future__ import annotations

import math

import numpy as np

from tessera.golden.config import ModelConfig
from tessera.golden.integer.parameters import (
    Parameters,
    QuantisedAttention,
    QuantisedExperts,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedMlp,
    QuantisedModel,
    QuantisedProduct,
    QuantisedStream,
)
from tessera.golden.integer.plan import plan
from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    Step,
    StreamStep,
)
from tessera.golden.network.network import Network
from tessera.golden.network.operators import NormKind
from tessera.hw.formats import Numerics
from tessera.hw.isa import NormMode
from tests.helpers.networks import network_of

FUNCTION_INPUT = 2.0**11
"""A good deviation of what goes into an activation function."""

GATE_INPUT = 3000.0
"""Deviation of a norm's wide output."""

MODES = {NormKind.LAYER: NormMode.LAYER, NormKind.RMS: NormMode.RMS, None: NormMode.COPY}


def scale(value: float) -> tuple[int, int]:
    """Multiplier and shift of a real factor below 1."""
    shift = min(63, 16 - math.ceil(math.log2(value)))
    return max(1, min(65536, round(value * 2.0**shift))), shift


class RandomModel:
    """Makes the integers of every step of a network."""

    def __init__(self, network: Network, numerics: Numerics, seed: int) -> None:
        self.network, self.numerics = network, numerics
        self.plan = plan(network)
        self.generator = np.random.default_rng(seed)
        self.unit = 2.0**numerics.residual.fraction
        width = numerics.activation_width
        self.activation = 2.0 ** (width - 3.5)
        """A good deviation of an activation."""
        self.positive = 2.0 ** (width - 3)
        """Deviation of what an activation function leaves."""
        self.function = scale(2.0**width / 2.0**16 * 0.9 if width < 16 else 0.9)
        """Multiplier and shift behind an activation function."""
        # What is the same for every key cancels in softmax, and values leave what is constant to the product behind.
        self.unbiased = {rows.tensor for step in self.plan.of_kind(AttentionStep) for rows in (step.key, step.value)}

    def model(self) -> QuantisedModel:
        """Everything."""
        made = {step.name: self.step(step) for step in self.plan.steps}
        return QuantisedModel(
            network=self.network,
            activation_width=self.numerics.activation_width,
            residual_width=self.numerics.residual_width,
            parameters={name: integers for name, integers in made.items() if integers is not None},
        )

    def step(self, step: Step) -> Parameters | None:
        """Integers of one step; None for those that have none."""
        match step:
            case PatchStep():
                return None
            case StreamStep():
                values = self.generator.normal(0, self.unit, (step.rows, step.channels))
                return QuantisedStream(values=np.rint(values).astype(np.int64))
            case NormStep():
                return self.norm(step)
            case ProductStep():
                return self.product(step)
            case AttentionStep():
                return self.attention(step)
            case ExpertsStep():
                return self.experts(step)
        raise NotImplementedError(step.tag)  # all kinds are above; a new one must not pass in silence

    def linear(self, outputs: int, inputs: int, spread: float, target: float, *, wide: bool = False, bias: bool = True):
        """A layer whose inputs deviate by ``spread`` and whose outputs should by ``target``."""
        limit = 20000 if wide else 127
        weight = np.clip(self.generator.normal(0, limit / 3, (outputs, inputs)), -limit, limit).astype(np.int16)
        deviation = limit / 3 * spread * math.sqrt(inputs)
        factors = [scale(target / deviation * factor) for factor in self.generator.uniform(0.5, 1.2, outputs)]
        offsets = self.generator.normal(0, deviation * 0.2, outputs) if bias else np.zeros(outputs)
        return QuantisedLinear(
            weight=weight,
            bias=np.clip(offsets, -(2**31), 2**31 - 1).astype(np.int64),
            multiplier=np.array([multiplier for multiplier, _ in factors], np.int64),
            shift=np.array([shift for _, shift in factors], np.int64),
        )

    def spread(self, name: str) -> float:
        """Deviation of a tensor that products read."""
        step = self.plan.by_name[name]
        if isinstance(step, PatchStep):
            return 128.0
        return self.positive if step.positive else self.activation

    def product(self, step: ProductStep) -> QuantisedProduct:
        """A product, with its activation function."""
        if step.function is not None:
            target = FUNCTION_INPUT
        elif not step.residual:
            target = self.activation
        else:
            # What comes first into a stream, and what is a result, is as large as the stream.
            first = step.onto is None or isinstance(self.plan.by_name[step.onto.tensor], StreamStep)
            target = self.unit * (1.0 if first else 0.3)
        linear = self.linear(
            step.matrix.stop - step.matrix.start,
            self.inputs(step),
            self.spread(step.source.tensor),
            target,
            bias=step.matrix.bias is not None and step.name not in self.unbiased,
        )
        padding = 0 if step.taps is None else int(self.generator.integers(0, 100))
        if step.function is None:
            return QuantisedProduct(linear=linear, padding=padding)
        multiplier, shift = self.function
        return QuantisedProduct(linear=linear, function_multiplier=multiplier, function_shift=shift, padding=padding)

    def inputs(self, step: ProductStep) -> int:
        """Channels of its source that a product reduces."""
        channels = self.plan.by_name[step.source.tensor].channels * step.operand.fold
        channels = channels if step.inputs is None else step.inputs[1] - step.inputs[0]
        return channels if step.taps is None else channels // step.taps.groups * step.taps.count

    def norm(self, step: NormStep) -> QuantisedLayerNorm:
        """A norm, or a copy of the stream."""
        channels, kind = step.channels, step.kind
        unit = 1 / self.unit if kind is None else channels
        factor = min(65536.0, unit * 2.0 ** (self.numerics.activation_width - 5))
        wide = min(65536.0, unit * GATE_INPUT)
        shift, wide_shift = (16 - math.ceil(math.log2(value)) for value in (factor, wide))
        return QuantisedLayerNorm(
            channel_shift=self.generator.integers(0, 4, channels),
            scale_multiplier=round(factor * 2**shift),
            shift=shift,
            wide_shift=wide_shift,
            epsilon=int(self.generator.integers(1, 1000)),
            mean_multiplier=round(65536 / channels),
            mean_shift=16,
            mode=NormMode.RECTIFIED_COPY if step.rectified else MODES[kind],
        )

    def attention(self, step: AttentionStep) -> QuantisedAttention:
        """An attention: scores of about an octave and a half."""
        head = self.plan.by_name[step.query.tensor].channels / step.heads
        score = scale(1.5 * 1024 / (self.activation * self.activation * math.sqrt(head)))
        output = scale(0.99)
        return QuantisedAttention(
            score_multiplier=score[0],
            score_shift=score[1],
            output_multiplier=output[0],
            output_shift=output[1],
        )

    def experts(self, step: ExpertsStep) -> QuantisedExperts:
        """A mixture of experts."""
        return QuantisedExperts(
            gates=tuple(self.linear(step.experts, step.channels, GATE_INPUT, 1024, wide=True) for _ in step.gates),
            experts=tuple(self.expert(step) for _ in range(step.experts)),
            function_multiplier=self.function[0],
            function_shift=self.function[1],
        )

    def expert(self, step: ExpertsStep) -> QuantisedMlp:
        """Two layers around an activation function."""
        return QuantisedMlp(
            first=self.linear(step.hidden, step.channels, self.activation, FUNCTION_INPUT),
            second=self.linear(step.channels, step.hidden, self.positive, 0.3 * self.unit),
        )


def random_model(model: ModelConfig | Network, numerics: Numerics, seed: int) -> QuantisedModel:
    """A random quantised model of a network, or of a geometry."""
    network = network_of(model) if isinstance(model, ModelConfig) else model
    return RandomModel(network, numerics, seed).model()


def random_image(model: ModelConfig | Network, seed: int) -> np.ndarray:
    """A random image (3, H, W) of bytes."""
    shape = (3, model.image_height, model.image_width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
