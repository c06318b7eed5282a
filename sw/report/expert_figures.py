"""Figures of the experts: which of them took which patch, and how many tokens came to each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import ndimage

from tessera.golden.integer.token_grid import token_grid
from tessera.program.program import Program
from tessera.sw.data.pictures import Picture
from tessera.sw.report.panels import aspect, expert_colours, grid, readable_on, rgb
from tessera.sw.results.outcome import FrameOutcome, same_first_choice

_WIDTH = 4.7


def expert_maps(outcomes: Sequence[FrameOutcome], picture: Picture) -> Figure | None:
    """The expert of each patch's first choice: a row for each expert layer, a column for each task; None without any.

    Neighbouring patches of one expert are a region with the expert's number in it.
    """
    outcomes = [outcome for outcome in outcomes if outcome.routing]
    tokens = token_grid(outcomes[0].program.plan) if outcomes else None
    if tokens is None:
        return None
    experts, layers = most_experts(outcomes[0].program), list(outcomes[0].routing)
    colours, alike = expert_colours(experts), same_first_choice(outcomes)
    panel = (_WIDTH, _WIDTH * aspect(picture))
    legend = 0.25 * -(-experts // 8) + 0.1
    figure, axes = grid(len(layers) + 1, len(outcomes), panel, margins=(0.45, 0.05, legend, 0.3), gaps=(0.1, 0.1))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for outcome, column in zip(outcomes, axes.T, strict=True):
        column[0].imshow(rgb(picture), interpolation="nearest")
        column[0].set_title(outcome.task, fontsize=10)
        for layer, axis in zip(layers, column[1:], strict=True):
            _map(axis, tokens.arranged(outcome.routing[layer][:, 0]), colours)
    axes[0, 0].set_ylabel("input", fontsize=9)
    for layer, line in zip(layers, axes[1:], strict=True):
        same = f"\nthe same: {alike[layer]:.0%}" if layer in alike else ""
        line[0].set_ylabel(f"{layer}{same}", fontsize=9)
    handles = [Patch(color=colours(expert), label=f"expert {expert}") for expert in range(experts)]
    figure.legend(handles=handles, loc="lower center", ncols=min(8, experts), fontsize=8, frameon=False)
    return figure


def most_experts(program: Program) -> int:
    """Experts of the largest mixture; 0 without any."""
    return max((mixture.experts for mixture in program.mixtures.values()), default=0)


def _map(axis: Axes, chosen: np.ndarray, colours: Colormap) -> None:
    axis.imshow(np.ma.masked_less(chosen, 0), cmap=colours, vmin=-0.5, vmax=colours.N - 0.5, interpolation="nearest")
    down, across = np.nonzero(chosen[1:] != chosen[:-1])
    lines = [((c - 0.5, r + 0.5), (c + 0.5, r + 0.5)) for r, c in zip(down, across, strict=True)]
    down, across = np.nonzero(chosen[:, 1:] != chosen[:, :-1])
    lines += [((c + 0.5, r - 0.5), (c + 0.5, r + 0.5)) for r, c in zip(down, across, strict=True)]
    axis.add_collection(LineCollection(lines, colors="white", linewidths=0.8, capstyle="projecting"))
    for expert, y, x in regions(chosen):
        axis.text(x, y, str(expert), fontsize=7, ha="center", va="center", color=readable_on(colours(expert)))


def regions(chosen: np.ndarray) -> list[tuple[int, int, int]]:
    """Expert, row and column of the innermost patch of each region of one expert in ``chosen`` (rows, columns)."""
    found = []
    for expert in np.unique(chosen[chosen >= 0]):
        mask = np.pad(chosen == expert, 1)
        depth = ndimage.distance_transform_edt(mask)
        numbered, count = ndimage.label(mask)
        for number in range(1, count + 1):
            members = np.argwhere(numbered == number)
            off_centre = np.linalg.norm(members - members.mean(axis=0), axis=1)
            y, x = members[np.lexsort((off_centre, -depth[tuple(members.T)]))[0]]
            found.append((int(expert), int(y) - 1, int(x) - 1))
    return found


def expert_loads(outcomes: Sequence[FrameOutcome]) -> Figure | None:
    """Tokens of each expert, by layer (rows) and task (columns), against a balanced load; None without experts."""
    outcomes = [outcome for outcome in outcomes if outcome.routing]
    if not outcomes:
        return None
    program, layers = outcomes[0].program, list(outcomes[0].routing)
    most = most_experts(program)
    colours, experts = expert_colours(most), np.arange(most)
    margins, gaps = (0.6, 0.05, 0.75, 0.25), (0.35, 0.35)
    figure, axes = grid(len(layers), len(outcomes), (_WIDTH - 0.15, 1.1), margins=margins, gaps=gaps)
    top = max(1, *(max(load) for outcome in outcomes for load in outcome.load().values()))
    for outcome, column in zip(outcomes, axes.T, strict=True):
        loads, firsts = outcome.load(), outcome.load(first=True)
        for layer, axis in zip(layers, column, strict=True):
            load, first = (np.pad(counts[layer], (0, most - len(counts[layer]))) for counts in (loads, firsts))
            axis.bar(experts, first, color=colours(experts), width=0.8)
            axis.bar(experts, load - first, bottom=first, color=colours(experts), alpha=0.4, width=0.8)
            axis.axhline(load.mean(), color="#1c2733", linewidth=0.8, linestyle="--", label="balanced")
            for expert in experts:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
                axis.text(expert, load[expert] + top / 40, str(load[expert]), ha="center", fontsize=7, bbox=box)
            idle = f", {np.count_nonzero(load == 0)} without any" if (load == 0).any() else ""
            axis.set_title(
                f"{outcome.task}: busiest {load.max() / max(load.mean(), 1e-9):.1f} x mean{idle}", fontsize=8
            )
            axis.set(ylim=(0, top * 1.18), xticks=experts)
            axis.tick_params(labelsize=7, labelbottom=layer == layers[-1])
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
        column[-1].set_xlabel("expert", fontsize=8)
    for layer, line in zip(layers, axes, strict=True):
        line[0].set_ylabel(f"{layer}\ntokens", fontsize=8)
    handles: list[Artist] = [Patch(color="#5a5a5a", label="first choice"), axes[0, 0].lines[0]]
    if any(mixture.top_k > 1 for mixture in program.mixtures.values()):
        handles.insert(1, Patch(color="#5a5a5a", alpha=0.4, label="further choices"))
    figure.legend(handles=handles, loc="lower center", ncols=3, fontsize=8, frameon=False)
    return figure
