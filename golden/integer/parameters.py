"""A quantised model: the integers that the accelerator computes with, and the scales that give them meaning.

All shapes are logical (unpadded). Integer arrays are int64 except weights, which are int16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tessera.common.arrays import Integers
from tessera.common.summary import Summarised, Summary
from tessera.golden.config import ModelConfig
from tessera.hw.isa import NormMode


@dataclass(frozen=True, kw_only=True)
class QuantisedLinear:
    """One linear layer: ``round_shift((weight @ x + bias) * multiplier, shift)`` for each output channel.

    Parameters
    ----------
    weight:
        (outputs, inputs): 8 bits, or 16 for a gate.
    bias:
        (outputs,) in accumulator units, 32 bits. Zero points, norm offsets and value biases are folded in.
    multiplier, shift:
        (outputs,) 0 to 65536, and 0 to 63.
    """

    weight: NDArray[np.int16]
    bias: Integers
    multiplier: Integers
    shift: Integers


@dataclass(frozen=True, kw_only=True)
class QuantisedLayerNorm:
    """Constants of one LayerNorm, RMS norm or copy; gain and offset live in the weights that follow.

    Parameters
    ----------
    channel_shift:
        (D,) extra precision bits, 0 to 7: channel c of the output has scale ``scale / 2**channel_shift[c]``.
    scale_multiplier, shift, wide_shift:
        D / scale as multiplier and right shift; ``wide_shift`` belongs to the 16-bit output. A copy's are 1 / scale in
        units of the residual.
    epsilon:
        Epsilon times D**2 in squared units of the residual.
    mean_multiplier, mean_shift:
        1 / D.
    mode:
        What a row is divided by. RMS needs no mean; a copy needs neither epsilon nor mean.
    """

    channel_shift: Integers
    scale_multiplier: int
    shift: int
    wide_shift: int
    epsilon: int
    mean_multiplier: int
    mean_shift: int
    mode: int = NormMode.LAYER


@dataclass(frozen=True, kw_only=True)
class QuantisedAttention:
    """Q, K, V and output projection of one block.

    Each is (D, D); heads are contiguous blocks of channels. Q keeps its bias, K has none (it cancels in softmax), V's
    is folded into the projection's. ``score_*`` bring a query-key product to octaves, ``output_*`` is 1 / (output scale
    in value scales), to be multiplied by each query's reciprocal sum.
    """

    q: QuantisedLinear
    k: QuantisedLinear
    v: QuantisedLinear
    projection: QuantisedLinear
    score_multiplier: int
    score_shift: int
    output_multiplier: int
    output_shift: int


@dataclass(frozen=True, kw_only=True)
class QuantisedMlp:
    """Two linear layers; the first requantises to GELU's input format, the second to the residual's.

    ``gelu_*`` requantise GELU's output (with its zero point) to an unsigned activation.
    """

    first: QuantisedLinear
    second: QuantisedLinear
    gelu_multiplier: int
    gelu_shift: int


@dataclass(frozen=True, kw_only=True)
class QuantisedExperts:
    """A mixture of experts.

    Parameters
    ----------
    gates:
        One for each task, (experts, D) of 16 bits on the wide LayerNorm output, giving octaves; a task embedding is
        part of the bias.
    experts:
        The experts; ``gelu_multiplier`` and ``gelu_shift`` are the same for all.
    """

    gates: tuple[QuantisedLinear, ...]
    experts: tuple[QuantisedMlp, ...]


@dataclass(frozen=True, kw_only=True)
class QuantisedLayer:
    """One transformer block; ``mlp`` is dense or a mixture of experts."""

    norm1: QuantisedLayerNorm
    attention: QuantisedAttention
    norm2: QuantisedLayerNorm
    mlp: QuantisedMlp | QuantisedExperts


@dataclass(frozen=True, kw_only=True, repr=False)
class QuantisedModel(Summarised):
    """A whole model.

    Parameters
    ----------
    config:
        Geometry.
    activation_width, residual_width:
        Widths it was quantised for; the machine must have the same.
    patch_embedding:
        (D, 3 p p) over flattened patches (channel, row, column); its bias is 0.
    initial_residual:
        (tokens, D) in the residual's format: class token plus position 0 in row 0; in the rows after it positions plus
        the convolution's bias, to which the patch embedding is added.
    layers:
        The blocks.
    norm:
        The norm in front of the heads, or None without one.
    heads:
        (outputs, D) for each task, or None for a task whose result is the residual stream.
    scales:
        Real value of one step for each named tensor of :class:`tessera.golden.integer.model.IntegerModel`, a scalar or
        one for each channel of its last axis.
    peaks:
        Largest magnitude that each tensor with a fixed binary point had on the calibration images, in real units:
        ``residual.embed``, and by layer ``residual_attention``, ``residual``, ``gelu_input``, ``scores`` and
        ``gate_scores`` (the last two in octaves).
    """

    config: ModelConfig
    activation_width: int
    residual_width: int
    patch_embedding: QuantisedLinear
    initial_residual: Integers
    layers: tuple[QuantisedLayer, ...]
    norm: QuantisedLayerNorm | None
    heads: tuple[QuantisedLinear | None, ...]
    scales: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    peaks: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def summary(self) -> Summary:
        """Its geometry and widths."""
        rows = (
            ("activations", f"{self.activation_width} bits"),
            ("residual stream", f"{self.residual_width} bits"),
            ("tokens", f"{self.config.tokens} of {self.config.dim}"),
            ("layers", f"{self.config.layers}"),
        )
        return Summary(title=f"{self.config.name}, quantised", rows=rows)
