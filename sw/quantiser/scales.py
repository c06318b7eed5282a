"""From real scales to integer constants: multipliers and linear layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tessera.common.arrays import Floats
from tessera.golden.integer.parameters import QuantisedLinear
from tessera.hw.formats import Format, Numerics
from tessera.sw.quantiser.rounding import Moments, round_with_feedback

TOP_MULTIPLIER = 1 << 16
"""Largest multiplier of a requantiser."""
FINEST_RATIO = 1 / TOP_MULTIPLIER
"""Of one scale to the scale before it, at least: a multiplier is at most 65536."""


class RatioTooLarge(ValueError):
    """One step of some sums is more than 65536 steps of the output: no multiplier is so large.

    Parameters
    ----------
    ratio:
        Steps of the output that one step of the sums is.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        super().__init__(f"one step of the sums is {ratio:.3g} steps of the output, more than {TOP_MULTIPLIER:,}")


def reach(form: Format) -> float:
    """The magnitude that a signed format with a fixed binary point holds less than."""
    return -form.minimum / 2.0**form.fraction


@contextmanager
def fitting(where: str, what: str, form: Format, unit: str = "") -> Iterator[None]:
    """Let a ratio that is too large say which layer it is about, and what to do.

    Parameters
    ----------
    where:
        The layer.
    what, form, unit:
        What is requantised to, its format, and the unit of that.
    """
    try:
        yield
    except RatioTooLarge as error:
        raise ValueError(
            f"{where} cannot be quantised, because its weights are too large: one step of its sums would be "
            f"{error.ratio:,.6g} steps of {what}, which hold less than {f'{reach(form):g} {unit}'.strip()}, and at "
            f"most {TOP_MULTIPLIER:,} are possible. Scale these weights down where the network allows it "
            "(docs/numerics.md, Numbers that no format holds)"
        ) from None


def multiplier_and_shift(ratio: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write positive ``ratio`` as ``multiplier / 2**shift`` with the multiplier in [2**15, 2**16]; 0 stays 0.

    Raises
    ------
    RatioTooLarge
        For a ratio above 65536, which would need a left shift.
    """
    ratio = np.asarray(ratio, np.float64)
    if (ratio > TOP_MULTIPLIER).any() or not np.isfinite(ratio).all():
        raise RatioTooLarge(float(ratio.max()))
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

    def part(self, inputs: slice) -> LinearInput:
        """Some of the inputs."""
        scale = self.scale[inputs] if isinstance(self.scale, np.ndarray) and self.scale.ndim else self.scale
        moments = self.moments
        if moments is not None:
            moments = Moments(moments.mean[inputs], moments.covariance[inputs, inputs])
        return replace(self, scale=scale, moments=moments)


def quantise_linear(
    weight: Floats,
    bias: ArrayLike,
    source: LinearInput,
    *,
    output_scale: float | Floats,
    numerics: Numerics,
    weight_format: Format | None = None,
    correct_mean: bool = True,
    multiples: bool = False,
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
    multiples:
        Whether an output's weights are whole multiples of the smallest, and stay so; for inputs of one scale.
    """
    form, moments = weight_format or numerics.weight, source.moments
    scaled = weight * np.asarray(source.scale)  # real output of one input step
    bias = np.broadcast_to(np.asarray(bias, np.float64), len(scaled))
    zero_steps = source.zero_point / np.asarray(source.scale, np.float64)
    step = _steps(scaled, bias, source, form, numerics, multiples)
    step = np.where(step > 0, step, 1.0)
    if moments is None:
        integers = np.rint(scaled / step[:, None])
    else:
        real = np.broadcast_to(np.asarray(source.scale, np.float64), scaled.shape[1])
        integers = round_with_feedback(scaled / step[:, None], moments.covariance / np.outer(real, real), form.maximum)
        if correct_mean:
            bias = bias + (weight - integers * step[:, None] / real) @ moments.mean
    offset = np.rint(bias / step - (integers * zero_steps).sum(axis=1))
    dead = (integers == 0).all(axis=1) & (offset == 0)  # any scale will do for zeros
    multiplier, shift = multiplier_and_shift(np.where(dead, 0.0, step / output_scale))
    return QuantisedLinear(
        weight=integers.astype(np.int16),
        bias=offset.astype(np.int64),
        multiplier=multiplier,
        shift=shift,
    )


@dataclass(frozen=True, kw_only=True)
class FoldedLinear:
    """A linear layer with everything folded into it that can be.

    Parameters
    ----------
    weight, bias:
        Real weights (outputs, inputs) and biases (outputs,).
    source:
        Its input.
    constant:
        Whether what is the same for every token matters; the bias takes up what rounding adds on average only then.
    multiples:
        As for :func:`quantise_linear`.
    """

    weight: Floats
    bias: Floats
    source: LinearInput
    constant: bool
    multiples: bool = False

    def finest(self, numerics: Numerics) -> Floats:
        """(outputs,) finest output scales; finer ones would be finer than the sums. 0 for outputs of nothing but 0."""
        scaled = self.weight * np.asarray(self.source.scale)
        steps = _steps(scaled, self.bias, self.source, numerics.weight, numerics, self.multiples)
        return steps * FINEST_RATIO * (1 + 1e-9)

    def quantised(self, output_scale: float | Floats, numerics: Numerics) -> QuantisedLinear:
        """The layer in integers; see :func:`quantise_linear`."""
        return quantise_linear(
            self.weight,
            self.bias,
            self.source,
            output_scale=output_scale,
            numerics=numerics,
            correct_mean=self.constant,
            multiples=self.multiples,
        )

    def mean_error(self, linear: QuantisedLinear, output_scale: ArrayLike) -> Floats:
        """What the rounding of the weights takes from each output on average, in real units; 0 if nothing is known."""
        source = self.source
        if source.moments is None:
            return np.zeros(len(self.weight))
        step = linear.multiplier * 0.5**linear.shift * np.asarray(output_scale)
        return (self.weight - linear.weight * step[:, None] / source.scale) @ source.moments.mean


def _steps(
    scaled: Floats, bias: Floats, source: LinearInput, form: Format, numerics: Numerics, multiples: bool
) -> Floats:
    """(outputs,) real value of one accumulator unit, for weights that are scaled to steps of the input."""
    constant = np.abs(bias) + np.abs((scaled * (source.zero_point / np.asarray(source.scale, np.float64))).sum(axis=1))
    largest_input = max(-source.form.minimum, source.form.maximum)
    room = (1 << (numerics.accumulator_width - 1)) - scaled.shape[1] * largest_input - 2
    bounds = (
        np.abs(scaled).max(axis=1) / form.maximum,
        constant * 1.01 / numerics.bias.maximum,
        (np.abs(scaled).sum(axis=1) * largest_input + constant * 1.01) / room,
    )
    steps = np.maximum.reduce(bounds)
    if not multiples:
        return steps
    smallest = np.abs(scaled).min(axis=1)
    return np.where(smallest > 0, smallest / np.floor(smallest / np.where(steps > 0, steps, 1.0) * (1 + 1e-9)), 0.0)
