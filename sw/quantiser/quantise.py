"""Post-training quantisation of a float model, without retraining; scales are chosen on a few sample images.

Everything that can be folded exactly is: LayerNorm's gain and offset, channel shifts, key and value biases, GELU's zero
point, the pixels' 1/256 and the embedding of a task-conditioned router (see docs/numerics.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tessera.common.progress import Progress, silent, within
from tessera.golden import metrics
from tessera.golden.config import layer_name
from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.model import PIXEL_SCALE, VisionTransformer
from tessera.golden.scenes.scenes import generate_batch
from tessera.hw.formats import Numerics
from tessera.sw.quantiser.calibration import Calibration
from tessera.sw.quantiser.layers import LayerQuantiser
from tessera.sw.quantiser.observation import Observation, array
from tessera.sw.quantiser.rounding import Moments
from tessera.sw.quantiser.scales import LinearInput, fitting, mean_error, quantise_linear, reach

HEADROOM = 1.1
"""Ranges that hold everything are the largest magnitudes seen on the calibration images times this."""

CALIBRATION_SCENES = range(32)
"""Training scenes to calibrate with unless told otherwise."""


def quantise(
    model: VisionTransformer,
    images: NDArray[np.uint8],
    numerics: Numerics,
    *,
    calibration: Calibration = Calibration.MAX,
    headroom: float = HEADROOM,
    on_progress: Progress = silent,
) -> QuantisedModel:
    """Quantise ``model`` for a machine with ``numerics``.

    Parameters
    ----------
    model:
        The float model.
    images:
        (B, 3, H, W) bytes to calibrate with; every task runs on each.
    numerics:
        Number formats of the machine.
    calibration:
        How the range of an activation is chosen.
    headroom:
        Factor from the largest magnitude seen to a range that holds everything, at least 1.
    on_progress:
        Callback for the stage ``quantise``.

    Raises
    ------
    ValueError
        Without images, for a headroom below 1, or for a model that the formats cannot hold.
    """
    if not len(images):
        raise ValueError("no calibration images; give at least one")
    if headroom < 1:
        raise ValueError(f"headroom is {headroom}; choose at least 1, or calibrated values saturate")
    config = model.config
    told = within(on_progress, "quantise", detail="")
    seen = Observation(model, images, told, histograms=calibration.needs_histogram)
    layers = LayerQuantiser(model, seen, numerics, calibration, headroom)
    quantised_layers = tuple(layers.layer(number) for number in range(config.layers))
    norm, heads = layers.heads()
    residual = layers.residual_scale
    initial = array(model.pos_embed)[0].copy()
    initial[0] += array(model.cls_token)[0, 0]
    filters = array(model.patch_embed.proj.weight).reshape(config.dim, -1)
    pixels = _pixel_moments(model, images)
    with fitting("patch_embed", "the residual stream", numerics.residual):
        embedding = quantise_linear(
            filters,
            0.0,
            LinearInput(form=numerics.pixel, scale=PIXEL_SCALE, moments=pixels),
            output_scale=residual,
            numerics=numerics,
            correct_mean=False,
        )
    initial[1:] += array(model.patch_embed.proj.bias) + mean_error(embedding, filters, pixels, PIXEL_SCALE, residual)
    rounded = np.floor(initial / residual + 0.5)  # an integer only once it is known to fit: others would wrap around
    if np.abs(rounded).max() > numerics.residual.maximum:
        raise ValueError(
            f"pos_embed and cls_token reach {np.abs(initial).max():g}, and the residual stream holds less than "
            f"{reach(numerics.residual):g}. Scale the stream down where the network allows it (docs/numerics.md, "
            "Numbers that no format holds)"
        )
    return QuantisedModel(
        config=config,
        activation_width=numerics.activation_width,
        residual_width=numerics.residual_width,
        patch_embedding=embedding,
        initial_residual=rounded.astype(np.int64),
        layers=quantised_layers,
        norm=norm,
        heads=heads,
        scales={
            "pixels": np.asarray(PIXEL_SCALE),
            "residual.init": np.asarray(residual),
            "residual.embed": np.asarray(residual),
            **layers.scales,
        },
        peaks=seen.peaks.largest,
    )


def _pixel_moments(model: VisionTransformer, images: NDArray[np.uint8]) -> Moments:
    config, (rows, columns) = model.config, model.config.grid
    parts = images.reshape(len(images), 3, rows, config.patch, columns, config.patch).transpose(0, 2, 4, 1, 3, 5)
    pixels = parts.reshape(-1, config.patch_inputs).astype(np.float64) * PIXEL_SCALE
    mean = pixels.mean(axis=0)
    centred = pixels - mean
    return Moments(mean, centred.T @ centred / len(pixels))


def calibration_images(model: VisionTransformer, indices: range = CALIBRATION_SCENES) -> NDArray[np.uint8]:
    """Scenes at the model's size, (count, 3, H, W) bytes; by default the first training scenes."""
    size = {"height": model.config.image_height, "width": model.config.image_width}
    return np.ascontiguousarray(generate_batch(indices, **size).image.transpose(0, 3, 1, 2))


def layer_errors(
    model: VisionTransformer, quantised: QuantisedModel, images: NDArray[np.uint8], *, on_progress: Progress = silent
) -> dict[str, Any]:
    """Compare the residual stream and the routing of integer and float model, layer by layer.

    Returns
    -------
    dict
        For each task, by name: ``layers``, a list with, for each ``layer``, ``relative_l2`` and ``cosine`` of the
        residual stream over all images, and ``routing_changes`` (share of tokens whose set of experts differs; None
        for dense layers); ``head_relative_l2`` (None without a head); ``routing_changes`` over all layers;
        ``saturated`` images.
    """
    integer = IntegerModel(quantised, _numerics(quantised))
    config, report = model.config, {}
    for index, task in enumerate(config.tasks):
        sums = _Comparison(config.layers)
        for number, image in enumerate(images):
            capture: dict[str, Any] = {}
            with torch.no_grad():
                model(torch.from_numpy(image[None]), index, capture=capture)
            sums.add(capture, integer, integer.run(image, index), task.name)
            on_progress("errors", (index + (number + 1) / len(images)) / len(config.tasks), "")
        report[task.name] = sums.to_dict()
    return report


def frame_errors(
    capture: dict[str, Any], integer: IntegerModel, tensors: dict[str, Any], task: str
) -> list[dict[str, Any]]:
    """The list ``layers`` of :func:`layer_errors` for one frame: what the float model captured, and integer tensors."""
    sums = _Comparison(integer.config.layers)
    sums.add(capture, integer, tensors, task)
    return sums.to_dict()["layers"]


class _Comparison:
    """Deviations of the integer model from the float model, over images."""

    def __init__(self, layers: int) -> None:
        self.residuals = [metrics.Deviation() for _ in range(layers)]
        self.head: metrics.Deviation | None = None
        self.changes: dict[int, list[float]] = {}
        self.saturated = 0

    def add(self, capture: dict[str, Any], integer: IntegerModel, tensors: dict[str, Any], task: str) -> None:
        for layer, deviation in enumerate(self.residuals):
            name = layer_name(layer)
            got = integer.dequantise(f"{name}.residual", tensors[f"{name}.residual"])
            deviation.add(got, capture[f"{name}.residual"][0].double().numpy())
            if f"{name}.expert_indices" in tensors:
                expected = capture[f"{name}.expert_indices"][0].numpy()
                changed = metrics.changed_sets(tensors[f"{name}.expert_indices"], expected)
                self.changes.setdefault(layer, []).append(float(changed.mean()))
        if "head" in tensors:
            self.head = self.head or metrics.Deviation()
            self.head.add(integer.dequantise(f"head.{task}", tensors["head"]), capture["head"][0].double().numpy())
        self.saturated += tensors["saturated"]

    def to_dict(self) -> dict[str, Any]:
        layers = []
        for layer, deviation in enumerate(self.residuals):
            changes = self.changes.get(layer)
            layers.append(
                {
                    "layer": layer,
                    "relative_l2": deviation.relative_l2,
                    "cosine": deviation.cosine,
                    "routing_changes": float(np.mean(changes)) if changes else None,
                }
            )
        return {
            "layers": layers,
            "head_relative_l2": None if self.head is None else self.head.relative_l2,
            "routing_changes": float(np.mean(list(self.changes.values()))) if self.changes else None,
            "saturated": int(self.saturated),
        }


def _numerics(quantised: QuantisedModel) -> Numerics:
    return Numerics(activation_width=quantised.activation_width, residual_width=quantised.residual_width)
