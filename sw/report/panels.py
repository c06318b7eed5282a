"""What the figures with pictures share: panels beside each other, pictures as colours, colours of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tessera.sw.data.dataset import ClassSet
from tessera.sw.data.pictures import Picture

SIMULATED = "machine (RTL, simulated)"
PANEL_WIDTH = 3.4
"""Inches of a panel in a row of them."""
DPI = 110
_LEGEND = 24  # classes that a legend has room for
_GREY = np.array([0.299, 0.587, 0.114])
# Okabe and Ito's eight, which colour-blind people tell apart, then Tol's; figures number the experts as well.
_EXPERT_COLOURS = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#5a5a5a"),
    *("#332288", "#ddcc77", "#117733", "#882255", "#88ccee", "#999933", "#d8d8d8", "#7a4a12"),
)


def rgb(picture: Picture) -> np.ndarray:
    """The picture, uint8 (H, W, 3)."""
    return picture.image.transpose(1, 2, 0)


def grey(picture: Picture) -> np.ndarray:
    """Its lightness as three equal colours in [0, 1], (H, W, 3), for overlays."""
    return np.repeat((rgb(picture) / 255 @ _GREY)[..., None], 3, axis=2)


def blend(picture: Picture, colours: np.ndarray, share: float) -> np.ndarray:
    """``colours`` (H, W, 3 or 4) laid over the picture's lightness, so that ``share`` of what is seen is theirs."""
    return share * colours[..., :3] + (1 - share) * grey(picture)


def aspect(picture: Picture) -> float:
    """Height over width."""
    return picture.image.shape[1] / picture.image.shape[2]


def row(panels: int, height: float, extra: float = 0.0) -> tuple[Figure, np.ndarray]:
    """A figure with ``panels`` pictures of ``height`` widths beside each other, and their axes."""
    figure = Figure(figsize=(PANEL_WIDTH * panels, PANEL_WIDTH * height + 0.45 + extra), layout="constrained", dpi=DPI)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def grid(
    rows: int,
    columns: int,
    panel: tuple[float, float],
    *,
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float],
) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels in places known beforehand, and its axes (rows, columns); all sizes in inches.

    ``panel`` and ``gaps`` are across and down, ``margins`` left, right, below and above. Matplotlib's constrained
    layout would find much the same places in twice the time.
    """
    (width, height), (left, right, below, above), (beside, between) = panel, margins, gaps
    size = (
        left + right + columns * width + (columns - 1) * beside,
        below + above + rows * height + (rows - 1) * between,
    )
    figure = Figure(figsize=size, dpi=DPI)
    axes = np.empty((rows, columns), object)
    for line, column in np.ndindex(rows, columns):
        x, y = left + column * (width + beside), size[1] - above - height - line * (height + between)
        axes[line, column] = figure.add_axes((x / size[0], y / size[1], width / size[0], height / size[1]))
    return figure, axes


def class_legend(figure: Figure, classes: ClassSet, maps: Sequence[np.ndarray]) -> None:
    """The classes and their colours below a figure of ``maps``; of many classes, those that cover most of the maps."""
    shown = np.arange(len(classes))
    if len(classes) > _LEGEND:
        counts = np.bincount(np.concatenate([labels.reshape(-1) for labels in maps]), minlength=len(classes))
        shown = np.sort(np.argsort(-counts, kind="stable")[: min(_LEGEND, np.count_nonzero(counts))])
    handles = [Patch(color=tuple(classes.colours[number] / 255), label=classes.names[number]) for number in shown]
    columns = min(len(handles), 8)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def expert_colours(experts: int) -> Colormap:
    """One colour an expert; they repeat after sixteen."""
    return ListedColormap([_EXPERT_COLOURS[number % len(_EXPERT_COLOURS)] for number in range(experts)])


def readable_on(colour: np.ndarray | tuple[float, ...]) -> str:
    """Black or white, whichever is read better on ``colour``."""
    return "black" if float(np.asarray(colour)[:3] @ _GREY) > 0.55 else "white"
