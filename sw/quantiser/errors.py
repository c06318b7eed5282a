"""What quantising costs: integer against float model, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tessera.common.progress import Progress, silent
from tessera.golden import metrics
from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.network.compute import FloatNetwork
from tessera.hw.formats import Numerics


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
