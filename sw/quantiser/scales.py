"""From real scales to integer constants: multipliers, linear layers, norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessera.common.arrays import Floats
from tessera.golden.config import LAYER_NORM_EPSILON
from tessera.golden.integer.parameters import QuantisedLayerNorm, QuantisedLinear
from tessera.hw.formats import Format, Numerics
from tessera.sw.quantiser.rounding import Moments, round_with_feedback

_TOP_MULTIPLIER = 1 << 16
_BALANCES = (1.0, 0.75, 0.5, 0.25)  # how much a channel's range counts against its weights' size, all tried
_ROOMS = tuple(
    part / 8 for part in range(8)
)  # octaves that shifts may exceed their target before they are cut; likewise
_FEEDBACK = 0.15  # share of the weights' error variance that rounding with feedback leaves
_OUTPUTS = 768  # they are tried on about so many outputs


def multiplier_and_shift(ratio: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write positive ``ratio`` as ``multiplier / 2**shift`` with the multiplier in [2**15, 2**16]; 0 stays 0.

    Raises
    ------
    ValueError
        For a ratio above 65536, which would need a left shift.
    """
    ratio = np.asarray(ratio, np.float64)
    if (ratio > _TOP_MULTIPLIER).any() or not np.isfinite(ratio).all():
        raise ValueError(f"requantising ratio {ratio.max():g} exceeds {_TOP_MULTIPLIER}; the output scale is too small")
    exponent = np.frexp(np.where(ratio > 0, ratio, 1.0))[1]  # ratio = fraction * 2**exponent, fraction in [1/2, 1)
    shift = np.clip(16 - exponent, 0, Numerics.maximum_shift)
    multiplier = np.rint(ratio * np.exp2(shift))
    return multiplier.astype(np.int64), np.where(multiplier > 0, shift, 0).astype(np.int64)


def scalar_multiplier(ratio: float) -> tuple[int, int]:
    """:func:`multiplier_and_shift` of one number."""
    multiplier, shift = multiplier_and_shift(ratio)
    return int(multiplier), int(shift)


@dataclass(frozen=True, kw_only=True)
class LinearInput:
    """What a linear layer reads.

    Parameters
    ----------
    form:
        Format of the integers.
    scale:
        Real value of one step: a scalar, or one for each input.
    zero_point:
        Real value that the input carries on top; the bias takes it off again.
    moments:
        Statistics of the real inputs, if they are known.
    """

    form: Format
    scale: float | Floats
    zero_point: float = 0.0
    moments: Moments | None = None


def quantise_linear(
    weight: Floats,
    bias: ArrayLike,
    source: LinearInput,
    *,
    output_scale: float | Floats,
    numerics: Numerics,
    weight_format: Format | None = None,
    correct_mean: bool = True,
) -> QuantisedLinear:
    """Quantise one linear layer; weights get a scale for each output channel by their largest magnitude.

    The scale grows, where it must, until no input can overflow the accumulator, and the bias fits its 32 bits.

    Parameters
    ----------
    weight, bias:
        Real weights (outputs, inputs) and biases (outputs,).
    source:
        Input of the layer. If its moments are known, weights are rounded with feedback.
    output_scale:
        Real value of one step: a scalar, or one for each output.
    numerics:
        Number formats of the machine.
    weight_format:
        Format of the weights; by default that of ``numerics``.
    correct_mean:
        Whether the bias takes up what rounding with feedback adds on average.
    """
    form, moments = weight_format or numerics.weight, source.moments
    scaled = weight * np.asarray(source.scale)  # real output of one input step
    bias = np.broadcast_to(np.asarray(bias, np.float64), len(scaled))
    zero_steps = source.zero_point / np.asarray(source.scale, np.float64)
    constant = np.abs(bias) + np.abs((scaled * zero_steps).sum(axis=1))
    largest_input = max(-source.form.minimum, source.form.maximum)
    room = (1 << (numerics.accumulator_width - 1)) - scaled.shape[1] * largest_input - 2
    bounds = (
        np.abs(scaled).max(axis=1) / form.maximum,
        constant * 1.01 / numerics.bias.maximum,
        (np.abs(scaled).sum(axis=1) * largest_input + constant * 1.01) / room,
    )
    step = np.maximum.reduce(bounds)  # real value of one accumulator unit
    step = np.where(step > 0, step, 1.0)
    if moments is None:
        integers = np.rint(scaled / step[:, None])
    else:
        real = np.broadcast_to(np.asarray(source.scale, np.float64), scaled.shape[1])
        integers = round_with_feedback(scaled / step[:, None], moments.covariance / np.outer(real, real), form.maximum)
        if correct_mean:
            bias = bias + (weight - integers * step[:, None] / real) @ moments.mean
    offset = np.rint(bias / step - (integers * zero_steps).sum(axis=1))
    multiplier, shift = multiplier_and_shift(step / output_scale)
    dead = (integers == 0).all(axis=1) & (offset == 0)
    return QuantisedLinear(
        weight=integers.astype(np.int16),
        bias=offset.astype(np.int64),
        multiplier=np.where(dead, 0, multiplier),
        shift=np.where(dead, 0, shift),
    )


def mean_error(
    linear: QuantisedLinear,
    weight: Floats,
    moments: Moments | None,
    input_scale: float | Floats,
    output_scale: ArrayLike,
) -> Floats:
    """What the rounding of ``weight`` takes from each output on average, in real units; 0 where nothing is known."""
    if moments is None:
        return np.zeros(len(weight))
    step = linear.multiplier * 0.5**linear.shift * np.asarray(output_scale)
    return (weight - linear.weight * step[:, None] / input_scale) @ moments.mean


class Norm(NamedTuple):
    """A quantised norm, with the scale of each channel of its output and the scale of its wide output."""

    parameters: QuantisedLayerNorm
    scale: Floats
    wide_scale: float


def quantise_norm(
    ranges: Floats,
    samples: Floats,
    next_weight: Floats,
    *,
    numerics: Numerics,
    epsilon: float = LAYER_NORM_EPSILON,
) -> Norm:
    """Choose the scales of a LayerNorm's normalised output.

    Channel shifts trade the range of a channel against the size of its column in the next weights; the balance with the
    smallest error of the next layer's output wins.

    Parameters
    ----------
    ranges:
        (D,) of the normalised channels.
    samples:
        (n, D) normalised tokens.
    next_weight:
        (outputs, D) all weights that follow, with the norm's gain in their columns.
    numerics:
        Number formats.
    epsilon:
        What the norm adds to the variance.

    Raises
    ------
    ValueError
        If epsilon is more than the machine's 32 bits hold.
    """
    some = next_weight[:: -(-len(next_weight) // _OUTPUTS)]
    error = _RoundingError(samples, some, numerics)
    columns = np.abs(next_weight).max(axis=0)
    candidates = [np.zeros(len(ranges), np.int64)]
    candidates += [_balanced(ranges, columns, part, room) for part in _BALANCES for room in _ROOMS]
    fitted = [_fit(ranges, shifts, epsilon, numerics) for shifts in candidates]
    return fitted[int(np.argmin([error(norm.scale) for norm in fitted]))]


def _balanced(ranges: Floats, columns: Floats, part: float, room: float) -> NDArray[np.int64]:
    tiny = np.finfo(np.float64).tiny
    target = part * np.log2(np.maximum(ranges, tiny)) - (1 - part) * np.log2(np.maximum(columns, tiny))
    return np.clip(np.floor(target.max() - target + room + 1e-9), 0, 7).astype(np.int64)


def _fit(ranges: Floats, shifts: NDArray[np.int64], epsilon: float, numerics: Numerics) -> Norm:
    channels, finest = len(ranges), len(ranges) / _TOP_MULTIPLIER  # a smaller scale would need a left shift
    top = numerics.activation.maximum
    scale = float((ranges * np.exp2(shifts)).max()) / top
    if scale < finest:  # the shifts of all channels together give what the common scale cannot
        shifts = np.minimum(shifts + int(np.ceil(np.log2(finest / scale))), 7)
        scale = max(finest, float((ranges * np.exp2(shifts)).max()) / top)
    multiplier, shift = scalar_multiplier(channels / scale)
    # The wide output never clips, whatever the ranges: below sqrt(channels), it has steps of at least channels / 65536.
    wide_target = float(ranges.max()) / numerics.wide.maximum
    wide_shift = max(0, int(np.ceil(np.log2(multiplier * wide_target / channels))))
    mean_multiplier, mean_shift = scalar_multiplier(1 / channels)
    added = round(epsilon * channels**2 * 4.0**numerics.residual.fraction)
    if added >> 32:
        raise ValueError(
            f"LayerNorm's epsilon {epsilon:g} does not fit the machine's 32 bits at {channels} channels and a residual "
            f"stream of {numerics.residual_width} bits; choose narrower activations, or a smaller --epsilon at import"
        )
    parameters = QuantisedLayerNorm(
        channel_shift=shifts,
        scale_multiplier=multiplier,
        shift=shift,
        wide_shift=wide_shift,
        epsilon=added,
        mean_multiplier=mean_multiplier,
        mean_shift=mean_shift,
    )
    exact = channels * 2.0**shift / multiplier
    return Norm(parameters, exact / np.exp2(shifts), channels * 2.0**wide_shift / multiplier)


class _RoundingError:
    """What rounding costs the outputs of the layer behind a norm: the mean of their relative error variances.

    Activations and weights count as rounded independently, each by up to half a step.
    """

    def __init__(self, samples: Floats, weight: Floats, numerics: Numerics) -> None:
        self.importance = 1 / np.maximum(np.square(samples @ weight.T).mean(axis=0), 1e-30)  # of each output
        self.columns = self.importance @ np.square(weight)
        self.weight, self.power = np.abs(weight), np.square(samples).mean(axis=0)
        self.top = numerics.weight.maximum

    def __call__(self, scale: Floats) -> float:
        """For the scales of the norm's channels."""
        steps = (self.weight * scale).max(axis=1) / self.top
        of_weights = (self.importance @ np.square(steps)) * float((self.power / np.square(scale)).sum())
        return float(self.columns @ np.square(scale)) + _FEEDBACK * of_weights
