"""The accelerator's arithmetic, vectorised over NumPy int64: the definition that the RTL equals bit for bit.

Every function takes arrays (or integers) of the stated format and broadcasts. Intermediate products fit 64 bits for
every legal operand; where they would not (LayerNorm's variance), Python's own integers are used. ``numerics`` is any
object with the attributes of :class:`tessera.hw.formats.Numerics`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessera.common.arrays import Integers
from tessera.golden.integer.parameters import QuantisedLayerNorm
from tessera.hw.formats import Format, Numerics
from tessera.hw.isa import NormMode
from tessera.hw.tables import (
    ACTIVATION_SEGMENTS,
    ActivationTable,
    PiecewiseTable,
    exp2_table,
    gelu_table,
    reciprocal_square_root_table,
    reciprocal_table,
)

_MANTISSA = 16  # fraction bits of multipliers, reciprocals and exponentials before rounding


def round_shift(x: ArrayLike, shift: ArrayLike) -> Integers:
    """Divide by ``2**shift``, rounding half up: ``floor((x + 2**(shift - 1)) / 2**shift)``; ``x`` itself for shift 0.

    ``|x|`` below 2**62, ``shift`` 0 to 63.
    """
    x, shift = np.asarray(x, np.int64), np.asarray(shift, np.int64)
    half = np.where(shift > 0, np.left_shift(np.int64(1), np.maximum(shift - 1, 0)), 0)
    return (x + half) >> shift


def saturate(x: ArrayLike, format: Format) -> Integers:
    """Clip to the format's own bounds."""
    return np.clip(np.asarray(x, np.int64), format.minimum, format.maximum)


def requantise(
    accumulator: ArrayLike, bias: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, format: Format | None = None
) -> Integers:
    """``round_shift((accumulator + bias) * multiplier, shift)``, saturated to ``format`` if one is given.

    Parameters
    ----------
    accumulator, bias:
        Signed, at most 42 bits and 32 bits.
    multiplier:
        0 to 65536.
    shift:
        0 to 63.
    """
    total = np.asarray(accumulator, np.int64) + np.asarray(bias, np.int64)
    y = round_shift(total * np.asarray(multiplier, np.int64), shift)
    return y if format is None else saturate(y, format)


class Residual(NamedTuple):
    """New residual values, and whether any of them (or a contribution to them) saturated."""

    values: Integers
    saturated: bool


def residual_set(y: ArrayLike, numerics: Numerics) -> Residual:
    """Saturate requantised ``y`` to the residual's format."""
    values = saturate(y, numerics.residual)
    return Residual(values, bool((values != y).any()))


def residual_add(old: ArrayLike, y: ArrayLike, numerics: Numerics) -> Residual:
    """Add requantised ``y`` to the residual stream; the contribution and the sum saturate each."""
    contribution, clipped = residual_set(y, numerics)
    values, clipped_sum = residual_set(np.asarray(old, np.int64) + contribution, numerics)
    return Residual(values, clipped or clipped_sum)


def residual_add_weighted(old: ArrayLike, y: ArrayLike, weight: ArrayLike, numerics: Numerics) -> Residual:
    """Add an expert's output ``y`` times its gate weight (unsigned, 16 fraction bits), rounded on its own."""
    contribution, clipped = residual_set(y, numerics)
    weighted = round_shift(contribution * np.asarray(weight, np.int64), numerics.gate_weight.fraction)
    values, clipped_sum = residual_set(np.asarray(old, np.int64) + weighted, numerics)
    return Residual(values, clipped or clipped_sum)


def _evaluate(table: PiecewiseTable, index: Integers, fraction: Integers) -> Integers:
    base, slope = np.asarray(table.base, np.int64), np.asarray(table.slope, np.int64)
    return base[index] + round_shift(slope[index] * fraction, table.fraction_bits)


def _curve(z: ArrayLike, table: ActivationTable, numerics: Numerics) -> Integers:
    """The function of ``z`` (format ``gelu_input``), signed, with the fraction bits of ``gelu_output``."""
    z = np.asarray(z, np.int64)
    magnitude, bits, segments = np.abs(z), table.delta.fraction_bits, len(table.delta.base)
    index = np.minimum(magnitude >> bits, ACTIVATION_SEGMENTS - 1)
    delta = _evaluate(table.delta, np.minimum(index, segments - 1), magnitude & ((1 << bits) - 1))
    delta = round_shift(np.where(index >= segments, 0, delta), numerics.gelu_delta.fraction - 14)
    if table.step:
        return np.where(z < 0, delta, (1 << 14) - delta)
    return np.maximum(z, 0) * 8 - delta


def activation(z: ArrayLike, table: ActivationTable, numerics: Numerics) -> Integers:
    """An activation function plus its zero point, as ReLU minus a tabulated even difference (Edge-MoE's scheme).

    Parameters
    ----------
    z:
        Format ``gelu_input``: 16 bits, 11 fraction bits.
    table:
        The function.
    numerics:
        Number formats of the machine.

    Returns
    -------
    Integers
        Format ``gelu_output``: unsigned 18 bits, 14 fraction bits; f(z) + zero_point / 2**14.
    """
    return saturate(_curve(z, table, numerics) + table.zero_point, numerics.gelu_output)


def gelu(z: ArrayLike, numerics: Numerics) -> Integers:
    """:func:`activation` for exact GELU."""
    return activation(z, gelu_table(), numerics)


def activate(
    y: ArrayLike, table: ActivationTable, multiplier: ArrayLike, shift: ArrayLike, numerics: Numerics
) -> Integers:
    """Requantised ``y`` (11 fraction bits, not yet saturated) through a function to an unsigned activation."""
    value = activation(saturate(y, numerics.gelu_input), table, numerics)
    return requantise(value, 0, multiplier, shift, numerics.unsigned_activation)


def gelu_activation(y: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, numerics: Numerics) -> Integers:
    """:func:`activate` with exact GELU."""
    return activate(y, gelu_table(), multiplier, shift, numerics)


def residual_multiply(
    old: ArrayLike, y: ArrayLike, table: ActivationTable | None, shift: int, numerics: Numerics
) -> Residual:
    """Residual values times requantised ``y``, or times a function of it: ``round_shift(factor * old, shift)``.

    Parameters
    ----------
    old:
        Format of the residual.
    y:
        11 fraction bits, not yet saturated to ``gelu_input``.
    table:
        The function; None for ``y`` itself.
    shift:
        0 to 63. The factor is signed, rounded to 13 fraction bits, without zero point, so that 13 keeps the scale.
    numerics:
        Number formats of the machine.
    """
    z = saturate(y, numerics.gelu_input)
    factor = round_shift(z * 8 if table is None else _curve(z, table, numerics), 1)
    return residual_set(round_shift(factor * np.asarray(old, np.int64), shift), numerics)


def exp2(distance: ArrayLike, width: int, numerics: Numerics) -> Integers:
    """``2**-distance`` as an unsigned fraction of ``width`` bits; 1.0 saturates to ``2**width - 1``.

    Parameters
    ----------
    distance:
        At least 0, in the score's fraction (10 bits) of an octave.
    width:
        Bits of the result, all of them fraction: the activation width for attention, 16 for gates.
    """
    distance = np.asarray(distance, np.int64)
    table, fraction_bits = exp2_table(), numerics.score.fraction
    octaves, fraction = distance >> fraction_bits, distance & ((1 << fraction_bits) - 1)
    low = (1 << table.fraction_bits) - 1
    mantissa = _evaluate(table, fraction >> table.fraction_bits, fraction & low)
    shift = np.minimum(_MANTISSA - width + octaves, numerics.maximum_shift)
    return np.minimum((1 << width) - 1, round_shift(mantissa, shift))


class Scaled(NamedTuple):
    """The value ``mantissa * 2**-16 * 2**-exponent``."""

    mantissa: Integers
    exponent: Integers


def reciprocal(total: ArrayLike) -> Scaled:
    """``1 / total`` for integers of at least 1; the mantissa lies in [32768, 65536]."""
    total = np.asarray(total)
    return _normalised(total, reciprocal_table(), octaves=1)


def reciprocal_square_root(variance: ArrayLike) -> Scaled:
    """``variance ** -0.5`` for integers of at least 1; those beyond 64 bits come in an object array.

    The mantissa lies in [32768, 65536].
    """
    return _normalised(np.asarray(variance), reciprocal_square_root_table(), octaves=2)


def _normalised(values: NDArray, table: PiecewiseTable, octaves: int) -> Scaled:
    """Bring each value to [1, 2**octaves) by a power of ``2**octaves`` and look the function up."""
    exponents, arguments = [], []
    for value in values.reshape(-1).tolist():
        if value < 1:
            raise ValueError(f"got {value}; reciprocals are defined for integers of at least 1")
        exponent = (value.bit_length() - 1) // octaves
        exponents.append(exponent)
        arguments.append((value << _MANTISSA) >> (octaves * exponent))
    x = np.array(arguments, np.int64).reshape(values.shape)
    start = 1 << (_MANTISSA - table.fraction_bits)
    mantissa = _evaluate(table, (x >> table.fraction_bits) - start, x & ((1 << table.fraction_bits) - 1))
    return Scaled(mantissa, np.array(exponents, np.int64).reshape(values.shape))


def biased_scores(accumulator: ArrayLike, bias: ArrayLike, factors: ArrayLike) -> Integers:
    """Add a bias to attention scores that are not requantised yet: ``accumulator + sum(factors[i] * bias[i])``.

    Parameters
    ----------
    accumulator:
        Products of queries and keys, (..., queries, keys).
    bias:
        Signed activations (parts, ..., queries, keys): parts of one bias, such as a coarse and a fine one.
    factors:
        Weight of each part, a signed activation (parts,).
    """
    weights = np.asarray(factors, np.int64)
    return np.asarray(accumulator, np.int64) + np.tensordot(weights, np.asarray(bias, np.int64), axes=(0, 0))


def attention_exponentials(scores: ArrayLike, numerics: Numerics) -> Integers:
    """Unnormalised probabilities of each query: ``exp2(maximum - score)`` over the last axis (keys)."""
    scores = np.asarray(scores, np.int64)
    return exp2(scores.max(axis=-1, keepdims=True) - scores, numerics.activation_width, numerics)


class QueryScale(NamedTuple):
    """What turns a query's accumulators into its attention output: a multiplier and a right shift."""

    multiplier: Integers
    shift: Integers


def query_scale(exponentials: ArrayLike, output_multiplier: int, output_shift: int, numerics: Numerics) -> QueryScale:
    """Fold the reciprocal of each query's sum of exponentials (last axis) into the output's multiplier and shift."""
    inverse = reciprocal(np.asarray(exponentials, np.int64).sum(axis=-1))
    multiplier = round_shift(inverse.mantissa * np.int64(output_multiplier), _MANTISSA)
    return QueryScale(multiplier, np.minimum(output_shift + inverse.exponent, numerics.maximum_shift))


class Normalised(NamedTuple):
    """LayerNorm's two outputs: signed activations, and the 16-bit gate input."""

    activation: Integers
    wide: Integers


def layernorm(x: ArrayLike, norm: QuantisedLayerNorm, numerics: Numerics) -> Normalised:
    """Normalise rows of the residual stream, or copy them; gain and offset belong to the next weights.

    An RMS norm is a layer norm of rows whose sum counts as 0. A copy scales by ``scale_multiplier`` alone; a rectified
    one saturates to unsigned activations.

    Parameters
    ----------
    x:
        (..., D) integers in the residual's format.
    norm:
        Constants of the norm.
    numerics:
        Number formats of the machine.
    """
    x = np.asarray(x, np.int64)
    exponent: Integers
    if NormMode(norm.mode).copies:
        product, exponent = x * norm.scale_multiplier, np.zeros(1, np.int64)
    else:
        channels, total = x.shape[-1], x.sum(axis=-1)
        if norm.mode == NormMode.RMS:
            total = np.zeros_like(total)
        squares, totals = (x * x).sum(axis=-1).astype(object), total.astype(object)
        variance = np.maximum(channels * squares - totals * totals + int(norm.epsilon), 1)
        inverse = reciprocal_square_root(variance)
        mean = round_shift(total * norm.mean_multiplier, norm.mean_shift)
        scale = round_shift(inverse.mantissa * norm.scale_multiplier, _MANTISSA)[..., None]
        product = saturate(x - mean[..., None], numerics.residual) * scale
        exponent = inverse.exponent[..., None]
    narrow_shift = np.clip(norm.shift + exponent - np.asarray(norm.channel_shift, np.int64), 0, numerics.maximum_shift)
    form = numerics.unsigned_activation if norm.mode == NormMode.RECTIFIED_COPY else numerics.activation
    return Normalised(
        saturate(round_shift(product, narrow_shift), form),
        saturate(round_shift(product, np.clip(norm.wide_shift + exponent, 0, numerics.maximum_shift)), numerics.wide),
    )


class Routing(NamedTuple):
    """Chosen experts of each token, best first, and their gate weights (unsigned, 16 fraction bits)."""

    indices: Integers
    weights: Integers


def gate(scores: ArrayLike, top_k: int, numerics: Numerics) -> Routing:
    """Choose experts: the ``top_k`` largest scores of (..., E), ties to the lower index.

    Their weights are a softmax over all E, not normalised again.
    """
    scores = np.asarray(scores, np.int64)
    indices = np.argsort(-scores, axis=-1, kind="stable")[..., :top_k]
    exponentials = exp2(scores.max(axis=-1, keepdims=True) - scores, numerics.gate_weight.width, numerics)
    inverse = reciprocal(exponentials.sum(axis=-1))
    chosen = np.take_along_axis(exponentials, indices, axis=-1)
    weights = round_shift(chosen * inverse.mantissa[..., None], inverse.exponent[..., None])
    return Routing(indices, np.minimum(weights, numerics.gate_weight.maximum))


class ExpertQueue(NamedTuple):
    """The tokens that chose one expert, in token order, and their gate weights."""

    tokens: Integers
    weights: Integers


def queues(routing: Routing, experts: int) -> list[ExpertQueue]:
    """Queue of each expert for (N, k) choices."""
    tokens = np.broadcast_to(np.arange(len(routing.indices))[:, None], routing.indices.shape)
    chosen = [routing.indices == expert for expert in range(experts)]
    return [ExpertQueue(tokens[mask].astype(np.int64), routing.weights[mask]) for mask in chosen]
