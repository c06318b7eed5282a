"""Figures of a prediction over the picture, and of where it is wrong or other than the float model's."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy import ndimage

from tessera.golden import metrics
from tessera.golden.scenes.common import DEPTH_CAP
from tessera.sw.data.dataset import ClassSet
from tessera.sw.data.pictures import Picture
from tessera.sw.report.panels import PANEL_WIDTH, SIMULATED, aspect, blend, class_legend, grey, row
from tessera.sw.results.comparison import OutputMaps

_SHARE = 0.55
_NAMED = 0.02
"""Regions of at least this share of the picture have their class's name in them."""


def errors_figure(prediction: OutputMaps, picture: Picture) -> Figure | None:
    """The machine's prediction and, where it is known, the truth over the picture; its errors; its distance from float.

    None for tasks that predict no map of classes or depths.
    """
    if prediction.kind == "segmentation" and prediction.classes is not None:
        return _segmentation(prediction, prediction.classes, picture)
    return _depth(prediction, picture) if prediction.kind == "depth" else None


def _segmentation(prediction: OutputMaps, classes: ClassSet, picture: Picture) -> Figure:
    size = picture.image.shape[1:]
    machine, reference = (metrics.enlarge(cells, *size) for cells in (prediction.machine, prediction.reference))
    truth, colours = prediction.exact, classes.colours / 255
    figure, axes = row(2 if truth is None else 4, aspect(picture), extra=0.5)
    _overlay(axes[0], SIMULATED, machine, classes, picture)
    if truth is not None:
        _overlay(axes[1], "exact labels", truth, classes, picture)
        wrong = machine != truth
        _where(axes[2], f"wrong in {wrong.mean():.1%} of pixels; the exact class shown", wrong, truth, colours, picture)
    differs = machine != reference
    title = f"not as float in {differs.mean():.2%}; float's class shown"
    _where(axes[-1], title, differs, reference, colours, picture)
    class_legend(figure, classes, [machine, reference] + ([] if truth is None else [truth]))
    return figure


def _overlay(axis: Axes, title: str, labels: np.ndarray, classes: ClassSet, picture: Picture) -> None:
    axis.imshow(blend(picture, classes.colours[labels] / 255, _SHARE), interpolation="nearest")
    axis.set_title(title, fontsize=9)
    for number in np.unique(labels):
        regions, count = ndimage.label(labels == number)
        sizes = np.bincount(regions.reshape(-1), minlength=count + 1)[1:]
        inside = ndimage.distance_transform_edt(np.pad(labels == number, 1))[1:-1, 1:-1]
        for region in np.flatnonzero(sizes >= _NAMED * labels.size) + 1:
            y, x = ndimage.maximum_position(inside, regions, region)
            half = 2.4 * len(classes.names[number]) * labels.shape[1] / (72 * PANEL_WIDTH)
            x = min(max(x, half), labels.shape[1] - half)
            stroke = [withStroke(linewidth=1.8, foreground="black")]
            said = axis.text(x, y, classes.names[number], fontsize=7.5, color="white", ha="center", va="center")
            said.set(path_effects=stroke, in_layout=False)


def _where(axis: Axes, title: str, mask: np.ndarray, labels: np.ndarray, colours: np.ndarray, picture: Picture) -> None:
    faint = 0.55 + 0.45 * grey(picture)
    axis.imshow(np.where(mask[..., None], colours[labels], faint), interpolation="nearest")
    axis.set_title(title, fontsize=9)


def _depth(prediction: OutputMaps, picture: Picture) -> Figure:
    size = picture.image.shape[1:]
    machine, reference = (
        metrics.enlarge(cells, *size).astype(float) for cells in (prediction.machine, prediction.reference)
    )
    truth = prediction.exact
    figure, axes = row(2 if truth is None else 4, aspect(picture), extra=0.6)
    colours, scale = colormaps["magma_r"], Normalize(0, DEPTH_CAP)
    overlays = [(SIMULATED, machine)] + ([] if truth is None else [("exact depth", truth)])
    for axis, (title, metres) in zip(axes, overlays, strict=False):
        shown = axis.imshow(metres, cmap=colours, norm=scale, interpolation="nearest")
        axis.imshow(grey(picture), alpha=0.3, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    _bar(figure, shown, axes[: len(overlays)], "depth in metres", extend="neither")
    differences = [("machine minus float", machine - reference)]
    if truth is not None:
        differences.insert(0, ("machine minus exact", machine - truth))
    for axis, (title, metres) in zip(axes[len(overlays) :], differences, strict=True):
        limit = max(float(np.quantile(np.abs(metres), 0.99)), 0.01)
        shown = axis.imshow(metres, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set_title(f"{title}: {np.sqrt(np.square(metres).mean()):.2f} m RMS", fontsize=9)
        _bar(figure, shown, [axis], "metres; below 0 the machine sees it nearer", extend="both")
    return figure


def _bar(figure: Figure, shown, axes, label: str, *, extend: str) -> None:
    wide = len(axes) > 1
    bar = figure.colorbar(
        shown, ax=list(axes), orientation="horizontal", shrink=0.8, aspect=40 if wide else 20, pad=0.02, extend=extend
    )
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
