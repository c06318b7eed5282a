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
from tessera.golden.integer.steps import ExpertsStep, Step
from tessera.golden.network.compute import FloatNetwork
from tessera.hw.formats import Numerics
from tessera.sw.quantiser.capture import Capture


def layer_errors(
    model: FloatNetwork, quantised: QuantisedModel, images: NDArray[np.uint8], *, on_progress: Progress = silent
) -> dict[str, Any]:
    """Compare the residual stream and the routing of integer and float model, layer by layer.

    Returns
    -------
    dict
        For each task, by name: ``layers``, a list with, for each ``layer``, ``relative_l2`` and ``cosine`` of the
        residual stream over all images, and ``routing_changes`` (share of tokens whose set of experts differs; None
        for dense layers); ``head_relative_l2`` (of the result; None where it is the residual stream);
        ``routing_changes`` over all layers; ``saturated`` images.
    """
    numerics = Numerics(activation_width=quantised.activation_width, residual_width=quantised.residual_width)
    integer, report = IntegerModel(quantised, numerics), {}
    tasks = model.network.tasks
    for index, task in enumerate(tasks):
        sums = _Comparison(integer, index)
        for number, image in enumerate(images):
            capture: dict[str, Any] = {}
            with torch.no_grad():
                model.run(torch.from_numpy(image[None]), [index], capture=capture)
            sums.add(capture, integer.run(image, index))
            on_progress("errors", (index + (number + 1) / len(images)) / len(tasks), "")
        report[task.name] = sums.to_dict()
    return report


def frame_errors(
    capture: dict[str, Any], integer: IntegerModel, tensors: dict[str, Any], task: int
) -> list[dict[str, Any]]:
    """The list ``layers`` of :func:`layer_errors` for one frame: what the float model captured, and integer tensors."""
    sums = _Comparison(integer, task)
    sums.add(capture, tensors)
    return sums.to_dict()["layers"]


class _Comparison:
    """Deviations of the integer model from the float model under a task, over images."""

    def __init__(self, integer: IntegerModel, task: int) -> None:
        self._integer, self._task = integer, task
        self._streams = {p: step for p, step in integer.plan.last_streams.items() if step.runs(task)}
        self._layers = {place: metrics.Deviation() for place in self._streams}
        self._head: metrics.Deviation | None = None
        self._changes: dict[str, list[float]] = {}
        self._saturated = 0

    def add(self, capture: dict[str, Any], tensors: dict[str, Any]) -> None:
        for place, step in self._streams.items():
            self._compare(self._layers[place], capture, tensors, step)
            if isinstance(step, ExpertsStep):
                expected = capture[step.inner("expert_indices")][0].numpy()
                changed = metrics.changed_sets(tensors[step.inner("expert_indices")], expected)
                self._changes.setdefault(place, []).append(float(changed.mean()))
        result = self._integer.plan.by_name[self._integer.plan.results[self._task].tensor]
        if result not in self._streams.values():
            self._head = self._head or metrics.Deviation()
            self._compare(self._head, capture, tensors, result)
        self._saturated += tensors["saturated"]

    def _compare(
        self, deviation: metrics.Deviation, capture: dict[str, Any], tensors: dict[str, Any], step: Step
    ) -> None:
        expected = Capture(capture, self._integer.plan).of(step)[0].double().numpy()
        deviation.add(self._integer.dequantise(step.name, tensors[step.name]), expected)

    def to_dict(self) -> dict[str, Any]:
        layers = []
        for place, deviation in self._layers.items():
            changes = self._changes.get(place)
            layers.append(
                {
                    "layer": place,
                    "relative_l2": deviation.relative_l2,
                    "cosine": deviation.cosine,
                    "routing_changes": float(np.mean(changes)) if changes else None,
                }
            )
        return {
            "layers": layers,
            "head_relative_l2": None if self._head is None else self._head.relative_l2,
            "routing_changes": float(np.mean(list(self._changes.values()))) if self._changes else None,
            "saturated": int(self._saturated),
        }
