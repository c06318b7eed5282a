"""Random quantised models: sensible magnitudes, no training, no calibration. For tests and for trying a machine out."""

from __future__ import annotations

import math

import numpy as np

from tessera.golden.config import ModelConfig
from tessera.golden.integer.parameters import (
    QuantisedAttention,
    QuantisedExperts,
    QuantisedLayer,
    QuantisedLayerNorm,
    QuantisedLinear,
    QuantisedMlp,
    QuantisedModel,
)
from tessera.hw.formats import Numerics


def scale(value: float) -> tuple[int, int]:
    """Multiplier and shift of a real factor below 1."""
    shift = min(63, 16 - math.ceil(math.log2(value)))
    return max(1, min(65536, round(value * 2.0**shift))), shift


class RandomModel:
    """Makes the parts of one random model."""

    def __init__(self, config: ModelConfig, numerics: Numerics, seed: int) -> None:
        self.config, self.numerics = config, numerics
        self.generator = np.random.default_rng(seed)

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

    @property
    def activation(self) -> float:
        """A good deviation of an activation."""
        return 2.0 ** (self.numerics.activation_width - 3.5)

    def norm(self) -> QuantisedLayerNorm:
        """A LayerNorm."""
        factor = min(65536.0, self.config.dim * 2.0 ** (self.numerics.activation_width - 5))
        wide = min(65536.0, self.config.dim * 3000.0)
        shift, wide_shift = (16 - math.ceil(math.log2(value)) for value in (factor, wide))
        return QuantisedLayerNorm(
            channel_shift=self.generator.integers(0, 4, self.config.dim),
            scale_multiplier=round(factor * 2**shift),
            shift=shift,
            wide_shift=wide_shift,
            epsilon=int(self.generator.integers(1, 1000)),
            mean_multiplier=round(65536 / self.config.dim),
            mean_shift=16,
        )

    def mlp(self, hidden: int, gelu: tuple[int, int]) -> QuantisedMlp:
        """Two layers around GELU, with its output's multiplier and shift."""
        residual = 0.3 * 2.0**self.numerics.residual.fraction
        top = 2.0**self.numerics.activation_width
        return QuantisedMlp(
            first=self.linear(hidden, self.config.dim, self.activation, 2.0**11),
            second=self.linear(self.config.dim, hidden, top / 8, residual),
            gelu_multiplier=gelu[0],
            gelu_shift=gelu[1],
        )

    def layer(self, index: int) -> QuantisedLayer:
        """A transformer block."""
        c, a = self.config, self.activation
        residual = 0.3 * 2.0**self.numerics.residual.fraction
        score = scale(1.5 * 1024 / (a * a * math.sqrt(c.head_dim)))
        output = scale(0.99)
        gelu = scale(
            2.0**self.numerics.activation_width / 2.0**16 * 0.9 if self.numerics.activation_width < 16 else 0.9
        )
        attention = QuantisedAttention(
            q=self.linear(c.dim, c.dim, a, a),
            k=self.linear(c.dim, c.dim, a, a, bias=False),
            v=self.linear(c.dim, c.dim, a, a, bias=False),
            projection=self.linear(c.dim, c.dim, a, residual),
            score_multiplier=score[0],
            score_shift=score[1],
            output_multiplier=output[0],
            output_shift=output[1],
        )
        if index in c.expert_layers:
            gates = tuple(self.linear(c.experts, c.dim, 3000, 1024, wide=True) for _ in c.tasks)
            mlp: QuantisedMlp | QuantisedExperts = QuantisedExperts(
                gates=gates, experts=tuple(self.mlp(c.expert_hidden, gelu) for _ in range(c.experts))
            )
        else:
            mlp = self.mlp(c.mlp_hidden, gelu)
        return QuantisedLayer(norm1=self.norm(), attention=attention, norm2=self.norm(), mlp=mlp)

    def model(self) -> QuantisedModel:
        """Everything."""
        c, fraction = self.config, self.numerics.residual.fraction
        return QuantisedModel(
            config=c,
            activation_width=self.numerics.activation_width,
            residual_width=self.numerics.residual_width,
            patch_embedding=self.linear(c.dim, c.patch_inputs, 128, 2.0**fraction, bias=False),
            initial_residual=np.rint(self.generator.normal(0, 2.0**fraction, (c.tokens, c.dim))).astype(np.int64),
            layers=tuple(self.layer(index) for index in range(c.layers)),
            norm=self.norm() if c.final_norm else None,
            heads=tuple(
                None if task.kind == "features" else self.linear(task.outputs, c.dim, self.activation, 2.0**fraction)
                for task in c.tasks
            ),
        )


def random_model(config: ModelConfig, numerics: Numerics, seed: int) -> QuantisedModel:
    """A random quantised model of a geometry."""
    return RandomModel(config, numerics, seed).model()


def random_image(config: ModelConfig, seed: int) -> np.ndarray:
    """A random image (3, H, W) of bytes."""
    shape = (3, config.image_height, config.image_width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
