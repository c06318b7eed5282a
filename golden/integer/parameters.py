"""A quantised model: the integers that the accelerator computes with, and the scales that give them meaning.

All shapes are logical (unpadded). Integer arrays are int64 except weights, which are int16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tessera.common.arrays import Integers
from tessera.common.summary import Summarised, Summary
from tessera.golden.integer.plan import Plan, plan
from tessera.golden.network.network import Network
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


FACTOR_FRACTION = 13
"""Fraction bits of what rows of a stream are multiplied by."""


@dataclass(frozen=True, kw_only=True)
class QuantisedProduct:
    """A product of rows and a matrix.

    Parameters
    ----------
    linear:
        The matrix. It requantises to what the product's step says: an activation, the residual's format, or, in front
        of an activation function, that function's input.
    function_multiplier, function_shift:
        Requantise the function's output (with its zero point) to a positive activation; 0 without a function.
        Of a factor, the shift is that of the product: ``FACTOR_FRACTION`` keeps the stream's scale.
    padding:
        The integer of the source that stands for 0: what taps beyond the map read.
    """

    linear: QuantisedLinear
    function_multiplier: int = 0
    function_shift: int = 0
    padding: int = 0


@dataclass(frozen=True, kw_only=True)
class QuantisedStream:
    """The rows that a residual stream begins with, (rows, channels) in the residual's format."""

    values: Integers


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


BIAS_PARTS = 2
"""Parts of a bias of scores at most. The machine has more, but their table takes as many words on chip."""


@dataclass(frozen=True, kw_only=True)
class QuantisedAttention:
    """Constants of one attention.

    ``score_*`` bring a query-key product to octaves. ``output_*`` is 1 / (output scale in value scales), to be
    multiplied by each query's reciprocal sum.

    ``bias`` (parts, heads, queries, keys), or (parts, windows, heads, queries, keys), are activations that are added to
    the products of queries and keys, times ``bias_factors`` (parts,); None for no bias.
    """

    score_multiplier: int
    score_shift: int
    output_multiplier: int
    output_shift: int
    bias: Integers | None = None
    bias_factors: Integers | None = None


@dataclass(frozen=True, kw_only=True)
class QuantisedMlp:
    """One expert: two linear layers; the first requantises to GELU's input format, the second to the residual's."""

    first: QuantisedLinear
    second: QuantisedLinear


@dataclass(frozen=True, kw_only=True)
class QuantisedExperts:
    """A mixture of experts.

    Parameters
    ----------
    gates:
        One for each task, (experts, D) of 16 bits on the wide LayerNorm output, giving octaves; a task embedding is
        part of the bias.
    experts:
        The experts.
    function_multiplier, function_shift:
        As for :class:`QuantisedProduct`, the same for all experts.
    """

    gates: tuple[QuantisedLinear, ...]
    experts: tuple[QuantisedMlp, ...]
    function_multiplier: int
    function_shift: int


Parameters = QuantisedProduct | QuantisedStream | QuantisedLayerNorm | QuantisedAttention | QuantisedExperts
"""Integers of one step."""

Kind = TypeVar("Kind", bound=Parameters)

PeakKind = Literal["stream", "function_input", "scores", "gate_scores"]
"""What has a fixed binary point: the residual stream, inputs of activation functions, attention scores, gate logits."""


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The largest magnitude that a tensor with a fixed binary point had on the calibration images.

    Parameters
    ----------
    kind, place, tensor:
        What it is, where in the network it stands, and its name.
    largest:
        In real units; of scores and gate logits in octaves.
    """

    kind: PeakKind
    place: str
    tensor: str
    largest: float


@dataclass(frozen=True, kw_only=True, repr=False)
class QuantisedModel(Summarised):
    """A whole model.

    Parameters
    ----------
    network:
        The graph.
    activation_width, residual_width:
        Widths it was quantised for; the machine must have the same.
    parameters:
        Integers of every step of :attr:`plan` by name, if it has any.
    scales:
        Real value of one step for each named tensor of :class:`tessera.golden.integer.model.IntegerModel`, a scalar or
        one for each channel of its last axis.
    peaks:
        How far what has a fixed binary point went on the calibration images.
    """

    network: Network
    activation_width: int
    residual_width: int
    parameters: Mapping[str, Parameters]
    scales: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    peaks: tuple[Peak, ...] = ()

    @cached_property
    def plan(self) -> Plan:
        """The network's steps."""
        return plan(self.network)

    def of(self, name: str, kind: type[Kind]) -> Kind:
        """Integers of the step ``name``, which must be of ``kind``."""
        found = self.parameters[name]
        assert isinstance(found, kind), f"{name} has {type(found).__name__}, not {kind.__name__}"
        return found

    def summary(self) -> Summary:
        """Its size and widths."""
        rows = (
            ("activations", f"{self.activation_width} bits"),
            ("residual stream", f"{self.residual_width} bits"),
            ("operators", f"{len(self.network.operators)}"),
            ("layers", f"{len(self.network.places)}"),
        )
        return Summary(title=f"{self.network.name}, quantised", rows=rows)
