"""Observation: what values the float model's tensors take on sample images, over all tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tessera.common.arrays import Floats
from tessera.common.progress import Progress, silent
from tessera.golden.integer.plan import Plan, plan
from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    Step,
)
from tessera.golden.network.compute import PIXEL_SCALE, FloatNetwork
from tessera.golden.network.operators import NormKind
from tessera.sw.quantiser.calibration import Magnitudes
from tessera.sw.quantiser.capture import Capture
from tessera.sw.quantiser.folding import Folding
from tessera.sw.quantiser.peaks import Peaks
from tessera.sw.quantiser.rounding import Moments
from tessera.sw.quantiser.windows import name_of_windows

_BATCH = 8
_SAMPLES = 64  # normalised tokens kept a batch and norm, to choose channel shifts with
_DISBELIEF = 0.125  # tokens an input that say as much as the assumption that inputs are independent


class Observation:
    """Magnitudes, moments and samples by tensor name.

    A copy of the model computes in float64. Instruction sets differ in the last digits of a result, and in float32
    these digits decide some of the rounded weights.

    Parameters
    ----------
    model:
        The float model.
    images:
        (B, 3, H, W) bytes.
    on_progress:
        Called with the fraction done.
    histograms:
        Whether to count magnitudes, for rules that the largest does not suffice.

    Attributes
    ----------
    plan:
        The network's steps.
    folding:
        What of the float model moves into weights and biases.
    magnitudes:
        Of each channel: norms before gain and offset; activations without what :attr:`folding` moves; of the whole
        tensor: what activation functions leave, and results.
    samples:
        Some normalised tokens (n, D) for each norm.
    peaks:
        Largest values of what has a fixed binary point.

    Tensors with moments: what products read, ``NAME.expert_hidden.E`` for each expert of a mixture.
    """

    def __init__(
        self,
        model: FloatNetwork,
        images: NDArray[np.uint8],
        on_progress: Progress = silent,
        *,
        histograms: bool = False,
    ) -> None:
        self.model = model.double()
        self.plan: Plan = plan(model.network)
        self.folding = Folding(self.model, self.plan)
        self.magnitudes: dict[str, Magnitudes] = {}
        self._histograms = histograms
        self._sums: dict[str, tuple[Any, ...]] = {}  # number of rows, their sum, the sum of their products
        self._samples: defaultdict[str, list[Floats]] = defaultdict(list)
        self.peaks = Peaks(self.folding, self.plan)
        generator = np.random.default_rng(len(images))
        for start in range(0, len(images), _BATCH):
            self._observe(torch.from_numpy(images[start : start + _BATCH]), generator)
            on_progress("observe", min(start + _BATCH, len(images)) / len(images), "")
        self.pixel_moments: dict[str, Moments] = {}
        self._pixels(images)

    @property
    def samples(self) -> Mapping[str, Floats]:
        """Normalised tokens of each norm."""
        return {name: np.concatenate(parts) for name, parts in self._samples.items()}

    def moments(self, name: str) -> Moments | None:
        """Mean and covariance of a tensor with moments (see the class); None if no token ever came there."""
        if name not in self._sums:
            return None
        count, total, products = self._sums[name]
        mean = total.numpy() / count
        squares = products.numpy() / count
        covariance = squares - np.outer(mean, mean)
        # A difference that rounding alone explains, as with a single token, is none.
        size = np.sqrt(np.diag(squares))
        covariance[np.abs(covariance) <= 1e-12 * np.outer(size, size)] = 0.0
        # What few tokens say of how inputs vary together is not to be believed entirely.
        belief = count / (count + _DISBELIEF * len(mean))
        covariance = belief * covariance + (1 - belief) * np.diag(np.diag(covariance))
        return Moments(mean - self.folding.offset(name), covariance)

    def _observe(self, images: Tensor, generator: np.random.Generator) -> None:
        captured: dict[str, Any] = {}
        with torch.no_grad():
            self.model.run(images, range(len(self.model.network.tasks)), capture=captured)
        capture = Capture(captured, self.plan)
        for step in self.plan.steps:
            self._see(step, capture, generator)
            if isinstance(step, ProductStep) and step.taps is not None and not step.taps.enlarges:
                self._windows(step, capture)
            self.peaks.see_step(step, capture)

    def _see(self, step: Step, capture: Capture, generator: np.random.Generator) -> None:
        match step:
            case NormStep():
                self._norm(step, capture.rows(step.source), generator)
            case AttentionStep():
                self._channels(step, capture)
                self._moments(step.name, capture.of(step))
            case ProductStep(function=None, residual=False):
                self._channels(step, capture)
                if self.folding.reads_product(step.name):
                    self._moments(step.name, capture.of(step))
            case ProductStep(function=None, onto=None):
                self._magnitudes(step.name, capture.of(step).double().numpy().reshape(-1, 1))
            case ProductStep(positive=True):
                self._hidden(step.name, step.name, capture.of(step))
            case ExpertsStep():
                for expert, values in capture.inside(step, "expert_hidden").items():
                    self._hidden(step.inner("expert_hidden"), f"{step.inner('expert_hidden')}.{expert}", values)

    def _channels(self, step: Step, capture: Capture) -> None:
        values = capture.of(step).double().numpy() - self.folding.offset(step.name)
        if isinstance(step, ProductStep) and step.swapped:
            values = values.swapaxes(1, 2)
        self._magnitudes(step.name, values)

    def _norm(self, step: NormStep, x: Tensor, generator: np.random.Generator) -> None:
        normal = _normalised(step, x.double().numpy().reshape(-1, x.shape[-1]))
        self._magnitudes(step.name, normal)
        self._moments(step.name, torch.from_numpy(normal))
        chosen = generator.choice(len(normal), min(_SAMPLES, len(normal)), replace=False)
        self._samples[step.name].append(normal[chosen])

    def _hidden(self, name: str, source: str, values: Tensor) -> None:
        if values.numel():
            self._magnitudes(name, values.double().numpy().reshape(-1, 1))
            self._moments(source, values)

    def _windows(self, step: ProductStep, capture: Capture) -> None:
        """Moments of what taps read, as the integers of the source stand for it; beyond the map is 0."""
        assert step.taps is not None
        made, name = self.plan.by_name[step.source.tensor], step.source.tensor
        if isinstance(made, NormStep):
            values = _normalised(made, capture.rows(made.source).double().numpy())
        else:
            values = capture.of(made).double().numpy() - self.folding.offset(name)
        picked = values if step.inputs is None else values[..., slice(*step.inputs)]
        for picture in picked[:, step.source.rows]:
            for group, windows in enumerate(step.taps.windows(picture).swapaxes(0, 1)):
                self._moments(name_of_windows(step, group), torch.from_numpy(np.array(windows)))

    def _pixels(self, images: NDArray[np.uint8]) -> None:
        """Moments of the patches' pixels, which are known as they are."""
        for step in self.plan.of_kind(PatchStep):
            cut = step.cut(images.transpose(0, 2, 3, 1))
            pixels = cut.reshape(-1, step.channels).astype(np.float64) * PIXEL_SCALE
            mean = pixels.mean(axis=0)
            centred = pixels - mean
            self.pixel_moments[step.name] = Moments(mean, centred.T @ centred / len(pixels))

    def _moments(self, name: str, values: Tensor) -> None:
        rows = values.flatten(0, -2).double()
        sums = (len(rows), rows.sum(dim=0, dtype=torch.float64), rows.T @ rows)
        before = self._sums.get(name)
        self._sums[name] = sums if before is None else tuple(a + b for a, b in zip(before, sums, strict=True))

    def _magnitudes(self, name: str, values: Floats) -> None:
        if name not in self.magnitudes:
            self.magnitudes[name] = Magnitudes(values.shape[-1], histogram=self._histograms)
        self.magnitudes[name].add(values)


def _normalised(step: NormStep, rows: Floats) -> Floats:
    """Rows (..., channels) as a norm makes them, before gain and offset."""
    if step.kind is None:
        return np.maximum(rows, 0) if step.rectified else rows
    centred = rows - rows.mean(axis=-1, keepdims=True) if step.kind is NormKind.LAYER else rows
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + step.epsilon)
