"""Scales of a LayerNorm's output: channel shifts trade the range of a channel against the weights that follow it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tessera.common.arrays import Floats
from tessera.golden.config import LAYER_NORM_EPSILON
from tessera.golden.integer.parameters import QuantisedLayerNorm
from tessera.golden.network.operators import NormKind
from tessera.hw.formats import Numerics
from tessera.hw.isa import NormMode
from tessera.sw.quantiser.scales import TOP_MULTIPLIER, scalar_multiplier

_BALANCES = (1.0, 0.75, 0.5, 0.25)  # how much a channel's range counts against its weights' size, all tried
_ROOMS = tuple(
    part / 8 for part in range(8)
)  # octaves that shifts may exceed their target before they are cut; likewise
_FEEDBACK = 0.15  # share of the weights' error variance that rounding with feedback leaves
_OUTPUTS = 768  # they are tried on about so many outputs


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
    kind: NormKind | None = NormKind.LAYER,
    rectified: bool = False,
) -> Norm:
    """Choose the scales of a norm's normalised output, or of a copy of the residual stream.

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
    kind:
        What is normalised; None for a copy, whose ``ranges`` and ``samples`` are of the stream itself.
    rectified:
        Whether a copy is unsigned and has 0 for what is negative.

    Raises
    ------
    ValueError
        If epsilon is more than the machine's 32 bits hold.
    """
    if not ranges.any():  # tokens without any variation: nothing that may come clips
        ranges = np.full(len(ranges), np.sqrt(len(ranges)))
    some = next_weight[:: -(-len(next_weight) // _OUTPUTS)]
    error = _RoundingError(samples, some, numerics)
    columns = np.abs(next_weight).max(axis=0)
    candidates = [np.zeros(len(ranges), np.int64)]
    candidates += [_balanced(ranges, columns, part, room) for part in _BALANCES for room in _ROOMS]
    mode = NormMode.RECTIFIED_COPY if rectified else _MODES[kind]
    fitted = [_fit(ranges, shifts, epsilon, numerics, mode) for shifts in candidates]
    return fitted[int(np.argmin([error(norm.scale) for norm in fitted]))]


def _balanced(ranges: Floats, columns: Floats, part: float, room: float) -> NDArray[np.int64]:
    tiny = np.finfo(np.float64).tiny
    target = part * np.log2(np.maximum(ranges, tiny)) - (1 - part) * np.log2(np.maximum(columns, tiny))
    return np.clip(np.floor(target.max() - target + room + 1e-9), 0, 7).astype(np.int64)


_MODES = {NormKind.LAYER: NormMode.LAYER, NormKind.RMS: NormMode.RMS, None: NormMode.COPY}


def _fit(ranges: Floats, shifts: NDArray[np.int64], epsilon: float, numerics: Numerics, mode: NormMode) -> Norm:
    channels = len(ranges)
    # A norm's rows come with a deviation of 1 / channels, a copy's in steps of the residual stream.
    unit = 2.0**-numerics.residual.fraction if mode.copies else channels
    finest = unit / TOP_MULTIPLIER  # a smaller scale would need a left shift
    form = numerics.unsigned_activation if mode is NormMode.RECTIFIED_COPY else numerics.activation
    top = form.maximum
    scale = float((ranges * np.exp2(shifts)).max()) / top
    if scale < finest:  # the shifts of all channels together give what the common scale cannot
        shifts = np.minimum(shifts + int(np.ceil(np.log2(finest / scale))), 7)
        scale = max(finest, float((ranges * np.exp2(shifts)).max()) / top)
    multiplier, shift = scalar_multiplier(unit / scale)
    # The wide output never clips, whatever the ranges: below sqrt(channels), it has steps of at least channels / 65536.
    wide_target = float(ranges.max()) / numerics.wide.maximum
    wide_shift = max(0, int(np.ceil(np.log2(multiplier * wide_target / unit))))
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
        mode=mode,
    )
    exact = unit * 2.0**shift / multiplier
    return Norm(parameters, exact / np.exp2(shifts), unit * 2.0**wide_shift / multiplier)


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
