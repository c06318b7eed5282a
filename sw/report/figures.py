"""Figures of a run: what went in, what came out of the machine beside the float model, and who computed what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from golden import metrics
from golden.scenes_common import CLASS_COLOURS, CLASS_NAMES, DEPTH_CAP
from sw.outcome import FrameOutcome
from sw.pictures import Picture
from sw.predictions import Prediction

SIMULATED = "machine (RTL, simulated)"
_WIDTH = 3.4
_EXPERT_COLOURS = (
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#edc948", "#76b7b2", "#9c755f"),
    *("#1b3a5c", "#7a4a12", "#134f13", "#6b1111", "#4b2f66", "#8f7a1a", "#2b5c58", "#404040"),
)


def _rgb(picture: Picture) -> np.ndarray:
    return picture.image.transpose(1, 2, 0)


def _row(panels: int, aspect: float, extra: float = 0.0) -> tuple[Figure, np.ndarray]:
    """A figure with ``panels`` pictures beside each other."""
    figure = Figure(figsize=(_WIDTH * panels, _WIDTH * aspect + 0.45 + extra), layout="constrained", dpi=110)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def _aspect(picture: Picture) -> float:
    return picture.image.shape[1] / picture.image.shape[2]


def input_figure(picture: Picture) -> Figure:
    """The picture as the machine sees it."""
    figure, (axis,) = _row(1, _aspect(picture))
    axis.imshow(_rgb(picture), interpolation="nearest")
    axis.set_title(picture.source if len(picture.source) < 40 else f"...{picture.source[-36:]}", fontsize=9)
    return figure


def prediction_figure(prediction: Prediction, channels: int, picture: Picture, *, machine: str = SIMULATED) -> Figure:
    """Float model beside the machine's output, and the truth where it is known; for features each patch's error.

    ``channels`` are the task's; ``machine`` says what it was computed on.
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
    if prediction.kind == "segmentation":
        if picture.scene is not None:
            panels.append(("exact labels", picture.scene.label))
        return _segmentation(channels, picture, panels)
    if picture.scene is not None:
        panels.append(("exact depth", picture.scene.depth))
    return _depth(picture, panels)


def _segmentation(classes: int, picture: Picture, panels: Sequence[tuple[str, np.ndarray]]) -> Figure:
    known = classes == len(CLASS_NAMES)
    colours = CLASS_COLOURS / 255 if known else ListedColormap([f"C{n}" for n in range(10)])(np.arange(classes) % 10)
    names = CLASS_NAMES if known else [f"class {number}" for number in range(classes)]
    figure, axes = _row(len(panels) + 1, _aspect(picture), extra=0.5)
    axes[0].imshow(_rgb(picture), interpolation="nearest")
    axes[0].set_title("input", fontsize=9)
    for axis, (title, labels) in zip(axes[1:], panels, strict=True):
        axis.imshow(colours[labels][..., :3], interpolation="nearest")
        axis.set_title(title, fontsize=9)
    handles = [Patch(color=tuple(colour[:3]), label=name) for colour, name in zip(colours, names, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(classes, 8), fontsize=8, frameon=False)
    return figure


def _classes(picture: Picture, prediction: Prediction, machine: str) -> Figure:
    figure, (axis,) = _row(1, _aspect(picture), extra=0.3)
    axis.imshow(_rgb(picture), interpolation="nearest")
    said = (f"float model: class {prediction.reference.item()}", f"{machine}: class {prediction.machine.item()}")
    axis.set_title("\n".join(said), fontsize=9)
    return figure


def _depth(picture: Picture, panels: Sequence[tuple[str, np.ndarray]]) -> Figure:
    figure, axes = _row(len(panels) + 1, _aspect(picture), extra=0.6)
    axes[0].imshow(_rgb(picture), interpolation="nearest")
    axes[0].set_title("input", fontsize=9)
    for axis, (title, metres) in zip(axes[1:], panels, strict=True):
        shown = axis.imshow(metres, cmap="magma_r", vmin=0, vmax=DEPTH_CAP, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    bar = figure.colorbar(shown, ax=list(axes), orientation="horizontal", shrink=0.6, aspect=40, pad=0.02)
    bar.set_label("depth in metres", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _features(picture: Picture, prediction: Prediction, errors: np.ndarray, machine: str) -> Figure:
    figure, axes = _row(4, _aspect(picture), extra=0.6)
    titles = ("input", "float model, main directions", machine, "machine against float")
    panels = (_rgb(picture), prediction.reference, prediction.machine, errors * 100)
    for axis, title, panel in zip(axes, titles, panels, strict=True):
        shown = axis.imshow(panel, cmap="viridis", vmin=0, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    bar = figure.colorbar(shown, ax=list(axes), orientation="horizontal", shrink=0.6, aspect=40, pad=0.02)
    bar.set_label("relative L2 error of a patch's features in %", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def routing_figure(outcomes: Sequence[FrameOutcome], picture: Picture) -> Figure | None:
    """Which expert took which patch: a row for each task and choice, a column for each expert layer."""
    outcomes = [outcome for outcome in outcomes if outcome.routing]
    if not outcomes:
        return None
    model = outcomes[0].program.model
    layers = list(outcomes[0].routing)
    rows = [(outcome, rank) for outcome in outcomes for rank in range(min(2, model.top_k))]
    colours = ListedColormap([_EXPERT_COLOURS[n % len(_EXPERT_COLOURS)] for n in range(model.experts)])
    size = (max(4.5, 2.6 * len(layers) + 0.6), 2.6 * _aspect(picture) * len(rows) + 0.9)
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    axes = figure.subplots(len(rows), len(layers), squeeze=False)
    for number, ((outcome, rank), line) in enumerate(zip(rows, axes, strict=True)):
        for layer, axis in zip(layers, line, strict=True):
            chosen = outcome.routing[layer][1:, rank].reshape(model.grid)
            axis.imshow(np.ma.masked_less(chosen, 0), cmap=colours, vmin=-0.5, vmax=model.experts - 0.5)
            axis.set(xticks=[], yticks=[])
            if number == 0:
                axis.set_title(layer, fontsize=9)
        line[0].set_ylabel(f"{outcome.task}\n{'first' if rank == 0 else 'second'} choice", fontsize=8)
    handles = [Patch(color=colours(expert), label=f"expert {expert}") for expert in range(model.experts)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, model.experts), fontsize=7, frameon=False)
    return figure
