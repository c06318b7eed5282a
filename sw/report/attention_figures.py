"""Figure of attention rollout: which parts of the picture the machine's results are made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tessera.golden import metrics
from tessera.golden.integer.token_grid import read_tokens, token_grid
from tessera.program.program import Program
from tessera.sw.data.pictures import Picture
from tessera.sw.report.panels import PANEL_WIDTH, aspect, blend, grid, rgb
from tessera.sw.results.rollout import of_head, of_patch

_SHARE = 0.75


def shown_patches(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns of the patches whose own rollout is shown: down the diagonal, left below to right above."""
    rows, columns = grid
    return [(rows * (4 - n) // 4 if n != 2 else rows // 2, columns * n // 4) for n in (1, 2, 3)]


def rollout_figure(rollouts: Mapping[str, np.ndarray], program: Program, picture: Picture) -> Figure | None:
    """A row for each task of ``rollouts`` (token out, token in): what its head's tokens are made of, and three patches.

    Shares are given in terms of a uniform one. Where only the class token is read, it alone is shown beside the input.
    """
    tokens = token_grid(program.plan)
    if not rollouts or tokens is None:
        return None
    tasks = {name: program.model.task_index(name) for name in rollouts}
    reads = {name: read_tokens(program.plan, index).stop > tokens.prefix for name, index in tasks.items()}
    patches = any(reads.values())
    panels: dict[str, list[tuple[str, np.ndarray | None, tuple[int, int] | None]]] = {}
    for name, index in tasks.items():
        read = "all patches" if reads[name] else "class token"
        panels[name] = [(f"{name}: {read}", of_head(rollouts[name], program, index) * tokens.tokens, None)]
        if patches:
            for patch in shown_patches(tokens.shape):
                found = of_patch(rollouts[name], program, *patch) * tokens.tokens
                panels[name].append((f"patch in row {patch[0]}, column {patch[1]}", found, patch))
        else:
            panels[name].insert(0, ("input", None, None))
    top = max(float((of_head(rollouts[name], program, index) * tokens.tokens).max()) for name, index in tasks.items())
    scale, colours = Normalize(0, top, clip=True), colormaps["inferno"]
    across = max(map(len, panels.values()))
    panel = (PANEL_WIDTH - 0.1, (PANEL_WIDTH - 0.1) * aspect(picture))
    figure, axes = grid(len(panels), across, panel, margins=(0.05, 0.05, 0.75, 0.3), gaps=(0.1, 0.32))
    size = picture.image.shape[1:]
    for line, of_task in zip(axes, panels.values(), strict=True):
        for axis, (title, share, place) in zip(line, of_task, strict=True):
            shown = (
                rgb(picture) if share is None else blend(picture, colours(scale(metrics.enlarge(share, *size))), _SHARE)
            )
            axis.imshow(shown, interpolation="nearest")
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
            if place:
                corner = (place[1] * tokens.patch - 0.5, place[0] * tokens.patch - 0.5)
                axis.add_patch(
                    Rectangle(corner, tokens.patch, tokens.patch, fill=False, edgecolor="#56b4e9", linewidth=1.8)
                )
    below = figure.add_axes((0.2, 0.5 / figure.get_figheight(), 0.6, 0.14 / figure.get_figheight()))
    bar = figure.colorbar(ScalarMappable(scale, colours), cax=below, orientation="horizontal", extend="max")
    bar.set_label(
        "attention rollout: what of an output token comes from each patch, in multiples of a uniform share", fontsize=8
    )
    bar.ax.tick_params(labelsize=8)
    return figure
