"""What products read: the scale, zero point and statistics of every tensor that has been quantised."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from tessera.common.arrays import Floats
from tessera.golden.integer.activations import zero_point
from tessera.golden.integer.steps import MatrixKind, PatchStep, ProductStep
from tessera.golden.network.compute import PIXEL_SCALE
from tessera.golden.network.operators import ActivationFunction
from tessera.hw.formats import Format, Numerics
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.quantiser.observation import Observation
from tessera.sw.quantiser.scales import FoldedLinear, LinearInput, fitting, scalar_multiplier
from tessera.sw.quantiser.windows import Folded, by_group, name_of_windows

_SMALLEST = 1e-3  # a channel's range counts as at least this share of its tensor's, so that no scale degenerates


class Sources:
    """Tensors as the products behind them read them.

    Parameters
    ----------
    seen:
        What calibration images made the model's tensors do.
    numerics, calibration, headroom:
        As for :func:`tessera.sw.quantiser.quantise.quantise`.

    Attributes
    ----------
    scales:
        Real value of one step of each tensor that has been quantised.
    residual_scale:
        Real value of one step of the residual stream.
    """

    def __init__(self, seen: Observation, numerics: Numerics, calibration: Calibration, headroom: float) -> None:
        self.seen, self.folding, self.numerics = seen, seen.folding, numerics
        self._calibration, self._headroom = calibration, headroom
        self.scales: dict[str, Floats] = {}
        self.residual_scale = 2.0**-numerics.residual.fraction
        self._inputs: dict[str, LinearInput] = {}
        self._constants: dict[str, Floats] = {}
        for step in seen.plan.of_kind(PatchStep):
            source = LinearInput(form=numerics.pixel, scale=PIXEL_SCALE, moments=seen.pixel_moments[step.name])
            self.give(step.name, source)

    def give(self, name: str, source: LinearInput) -> None:
        """Say how products read a tensor."""
        self._inputs[name] = source
        self.scale(name, source.scale)

    def scale(self, name: str, scale: float | Floats) -> None:
        """Say what one step of a tensor is worth."""
        self.scales[name] = np.asarray(scale, np.float64)

    def add_constant(self, name: str, constant: Floats) -> None:
        """Let the products behind a tensor add what its integers leave out, beside its offset."""
        self._constants[name] = self._constants.get(name, 0.0) + constant

    def folded(self, step: ProductStep, *, constant: bool = True) -> Folded:
        """A product with everything folded into it that can be.

        Without ``constant`` it makes nothing of what is constant, and the bias takes up nothing.
        """
        if step.taps is not None:
            return self._of_windows(step, constant)
        name, weight, fold = step.source.tensor, self.folding.weights(step), step.operand.fold
        bias, left_out = np.zeros(len(weight)), None
        if constant:
            left_out = self.folding.left_out_of(step.operand)
            if name in self._constants:
                more = np.tile(self._constants[name], fold)
                left_out = more if left_out is None else left_out + more
            bias = self.folding.bias(step.matrix)
            bias = bias if left_out is None else bias + weight @ left_out
        source = self._inputs[name]
        if fold > 1:  # of several rows as one nothing is known but their scales
            scale = np.tile(np.broadcast_to(source.scale, weight.shape[1] // fold), fold)
            source = replace(source, scale=scale, moments=None)
        weight = weight * self.folding.gain_of(step.operand)
        if step.inputs is not None:
            some = slice(*step.inputs)
            if constant:  # of these inputs alone
                bias = self.folding.bias(step.matrix)
                bias = bias if left_out is None else bias + self.folding.weights(step)[:, some] @ left_out[some]
            weight, source = weight[:, some], source.part(some)
        return FoldedLinear(weight=weight, bias=bias, source=source, constant=constant)

    def _of_windows(self, step: ProductStep, constant: bool) -> Folded:
        """The same of a product of windows."""
        assert step.taps is not None
        name, taps, source = step.source.tensor, step.taps, replace(self._inputs[step.source.tensor], moments=None)
        weight = self.folding.weights(step)
        outputs, channels = len(weight), self.seen.plan.by_name[name].channels
        some, bias = slice(*(step.inputs or (0, channels))), np.zeros(outputs)
        if constant:
            left_out = np.zeros(channels)
            for part in (self.folding.left_out(name), self._constants.get(name)):
                left_out[some] += 0.0 if part is None else part[some]
            bias = self.folding.bias(step.matrix) + self.folding.of_windows(step, left_out)
        gain = np.broadcast_to(self.folding.gain(name), channels).reshape(taps.groups, -1)
        by_tap = weight.reshape(outputs, taps.count, -1) * np.repeat(gain, outputs // taps.groups, axis=0)[:, None]
        if step.inputs is not None:
            by_tap, source = by_tap[:, :, some], source.part(some)
        whole = FoldedLinear(
            weight=by_tap.reshape(outputs, -1),
            bias=bias,
            source=source,
            constant=constant,
            multiples=step.matrix.kind is MatrixKind.BILINEAR,
        )
        return by_group(taps, whole, [self.seen.moments(name_of_windows(step, group)) for group in range(taps.groups)])

    def padding(self, step: ProductStep) -> int:
        """The integer of a product's source that stands for 0."""
        source = self._inputs[step.source.tensor]
        return math.floor(source.zero_point / float(np.max(source.scale)) + 0.5)

    def input(self, name: str) -> LinearInput:
        """How products read a tensor that has been quantised."""
        return self._inputs[name]

    def ranges(self, name: str, form: Format, zero_point: float = 0.0) -> Floats:
        """Ranges of a tensor's channels."""
        return self._calibration.ranges(self.seen.magnitudes[name], form, self._headroom, zero_point)

    def finest(self, name: str) -> Floats:
        """Finest scales of a signed activation's channels that hold their ranges."""
        ranges = self.ranges(name, self.numerics.activation)
        return np.maximum(ranges, max(float(ranges.max()) * _SMALLEST, 1e-9)) / self.numerics.activation.maximum

    def largest(self, name: str) -> float:
        """The range of a tensor that must not clip."""
        return float(self.seen.magnitudes[name].maximum.max()) * self._headroom

    def function_scale(self, name: str, function: ActivationFunction) -> tuple[int, int]:
        """Multiplier and shift from an activation function's output to a positive activation."""
        form, positive, added = self.numerics.gelu_output, self.numerics.unsigned_activation, zero_point(function)
        largest = float(self.ranges(name, positive, added)[0])
        scale = min(largest + added, form.maximum / 2.0**form.fraction) / positive.maximum
        return scalar_multiplier(2.0**-form.fraction / scale)

    def positive(self, multiplier: int, shift: int, moments: str, function: ActivationFunction) -> LinearInput:
        """How products read what a function leaves; ``moments`` names the tensor whose statistics it has."""
        fraction = self.numerics.gelu_output.fraction
        return LinearInput(
            form=self.numerics.unsigned_activation,
            scale=2.0 ** (shift - fraction) / multiplier,
            zero_point=zero_point(function),
            moments=self.seen.moments(moments),
        )

    def onto_residual(self, where: str) -> AbstractContextManager[None]:
        """Let weights that are too large for the residual stream say where they are."""
        return fitting(where, "the residual stream", self.numerics.residual)
