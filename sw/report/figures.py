"""Figures of a run: what went in, and what came out of the machine beside the float model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tessera.golden import metrics
from tessera.golden.scenes.common import DEPTH_CAP
from tessera.sw.data.dataset import ClassSet
from tessera.sw.data.pictures import Picture
from tessera.sw.report.panels import SIMULATED, aspect, class_legend, rgb, row
from tessera.sw.results.comparison import OutputMaps


def input_figure(picture: Picture) -> Figure:
    """The picture as the machine sees it. Equal pictures have equal figures, whatever their files are called."""
    figure, (axis,) = row(1, aspect(picture))
    axis.imshow(rgb(picture), interpolation="nearest")
    axis.set_title("input", fontsize=9)
    return figure


def prediction_figure(prediction: OutputMaps, picture: Picture, *, machine: str = SIMULATED) -> Figure:
    """Float model beside the machine's output, and the truth where it is known; for features each patch's error.

    ``machine`` says what it was computed on.
    """
    if prediction.token_errors is not None:
        return _features(picture, prediction, prediction.token_errors, machine)
    if prediction.kind == "classification":
        return _classes(picture, prediction, machine)
    size = picture.image.shape[1:]
    panels = [
        ("float model", metrics.enlarge(prediction.reference, *size)),
        (machine, metrics.enlarge(prediction.machine, *size)),
    ]
    if prediction.exact is not None:
        panels.append(("exact depth" if prediction.classes is None else "exact labels", prediction.exact))
    if prediction.classes is None:
        return _depth(picture, panels)
    return _segmentation(prediction.classes, picture, panels)


def _segmentation(classes: ClassSet, picture: Picture, panels: Sequence[tuple[str, np.ndarray]]) -> Figure:
    figure, axes = row(len(panels) + 1, aspect(picture), extra=0.5)
    axes[0].imshow(rgb(picture), interpolation="nearest")
    axes[0].set_title("input", fontsize=9)
    for axis, (title, labels) in zip(axes[1:], panels, strict=True):
        axis.imshow(classes.colours[labels], interpolation="nearest")
        axis.set_title(title, fontsize=9)
    class_legend(figure, classes, [labels for _, labels in panels])
    return figure


def _classes(picture: Picture, prediction: OutputMaps, machine: str) -> Figure:
    figure, (axis,) = row(1, aspect(picture), extra=0.3)
    axis.imshow(rgb(picture), interpolation="nearest")
    said = (f"float model: class {prediction.reference.item()}", f"{machine}: class {prediction.machine.item()}")
    axis.set_title("\n".join(said), fontsize=9)
    return figure


def _depth(picture: Picture, panels: Sequence[tuple[str, np.ndarray]]) -> Figure:
    figure, axes = row(len(panels) + 1, aspect(picture), extra=0.6)
    axes[0].imshow(rgb(picture), interpolation="nearest")
    axes[0].set_title("input", fontsize=9)
    for axis, (title, metres) in zip(axes[1:], panels, strict=True):
        shown = axis.imshow(metres, cmap="magma_r", vmin=0, vmax=DEPTH_CAP, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    bar = figure.colorbar(shown, ax=list(axes), orientation="horizontal", shrink=0.6, aspect=40, pad=0.02)
    bar.set_label("depth in metres", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _features(picture: Picture, prediction: OutputMaps, errors: np.ndarray, machine: str) -> Figure:
    figure, axes = row(4, aspect(picture), extra=0.6)
    titles = ("input", "float model, main directions", machine, "machine against float")
    panels = (rgb(picture), prediction.reference, prediction.machine, errors * 100)
    for axis, title, panel in zip(axes, titles, panels, strict=True):
        shown = axis.imshow(panel, cmap="viridis", vmin=0, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    bar = figure.colorbar(shown, ax=list(axes), orientation="horizontal", shrink=0.6, aspect=40, pad=0.02)
    bar.set_label("relative L2 error of a patch's features in %", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure
