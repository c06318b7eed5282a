"""Figures of where the cycles went: causes of each phase, and the roofline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from tessera.hw.isa import CycleCause
from tessera.sw.cycles.breakdown import grouped
from tessera.sw.cycles.roofline import Point, points, roof
from tessera.sw.results.outcome import FrameOutcome

CAUSE_COLOURS = {
    CycleCause.BUSY: "#1f4e79",
    CycleCause.WEIGHTS: "#f28e2b",
    CycleCause.ACTIVATIONS: "#59a14f",
    CycleCause.SOFTMAX: "#b07aa1",
    CycleCause.DRAIN: "#edc948",
    CycleCause.STORE: "#9c755f",
    CycleCause.SEQUENCER: "#8c96a0",
}
_PHASE_MARKS = {
    "embed": ("s", "#59a14f"),
    "attention": ("o", "#1f4e79"),
    "MLP": ("D", "#b07aa1"),
    "experts": ("^", "#f28e2b"),
    "output": ("P", "#8c96a0"),
}
_NEAR = 0.02
"""Points closer than this, as a share of each axis, get one label."""


def _plain(axis: Axes) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.tick_params(labelsize=7)


def causes_figure(outcome: FrameOutcome) -> Figure:
    """Owned cycles of each phase by cause, all of them and, enlarged beside them, those without a beat of the array."""
    phases = [share for share in grouped(outcome.shares(), "layer", "phase") if share.cycles]
    phases.sort(key=lambda share: share.phase == "control")
    rows = np.arange(len(phases))
    figure = Figure(figsize=(10, 0.22 * len(phases) + 1.5), layout="constrained", dpi=110)
    axes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axis, left_out in zip(axes, ((), (CycleCause.BUSY,)), strict=True):
        start = np.zeros(len(phases), np.int64)
        for cause in (cause for cause in CycleCause if cause not in left_out):
            cycles = np.array([share.causes[cause] for share in phases])
            axis.barh(rows, cycles, left=start, color=CAUSE_COLOURS[cause], label=cause.name.lower())
            start = start + cycles
        _plain(axis)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_xlim(0, max(1, start.max()) * 1.02)
        axis.locator_params(axis="x", nbins=5)
    axes[0].set_yticks(rows, [share.place for share in phases])
    axes[0].set_ylim(len(phases) - 0.4, -0.6)
    axes[0].set_xlabel("cycles (simulated)", fontsize=8)
    axes[1].set_xlabel("only those without a beat (simulated)", fontsize=8)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)
    busy = outcome.result.causes[:, CycleCause.BUSY].sum() / max(1, outcome.result.cycles)
    figure.suptitle(f"{outcome.task}: {outcome.result.cycles:,} cycles, array busy in {busy:.1%}", fontsize=10)
    return figure


def roofline_figure(outcome: FrameOutcome) -> Figure | None:
    """Multiply-accumulates a cycle of each phase over its arithmetic intensity, under the roof of array and memory."""
    config = outcome.program.config
    found = points(config, outcome.shares())
    if not found:
        return None
    peak, ridge = config.elements * config.lanes, config.elements * config.lanes / config.memory_bytes
    low = min(ridge, *(point.intensity for point in found)) / 2
    high = max(ridge, *(point.intensity for point in found)) * 2
    bottom = min(point.achieved for point in found) / 3
    figure = Figure(figsize=(9, 5.2), layout="constrained", dpi=110)
    axis = figure.subplots()
    line = np.geomspace(low, high, 200)
    axis.loglog(line, [roof(config, value) for value in line], color="#1c2733", linewidth=1.5)
    axis.set(xlim=(low, high), ylim=(min(bottom, roof(config, low) / 1.5), peak * 1.5))
    for phase, (mark, colour) in _PHASE_MARKS.items():
        of_phase = [point for point in found if point.phase == phase]
        if of_phase:
            x, y = ([getattr(point, name) for point in of_phase] for name in ("intensity", "achieved"))
            axis.plot(x, y, mark, color=colour, markersize=6, markeredgecolor="white", markeredgewidth=0.6, label=phase)
    _label(axis, found, outcome.program.model.places)
    axis.annotate(f"array: {peak} a cycle", (high, peak), (-6, 4), textcoords="offset points", ha="right", fontsize=8)
    axis.annotate(
        f"memory: {config.memory_bytes} bytes a cycle",
        (low, roof(config, low)),
        (22, -4),
        textcoords="offset points",
        va="top",
        fontsize=8,
    )
    axis.set_xlabel("multiply-accumulates for each byte of weights streamed", fontsize=8)
    axis.set_ylabel("multiply-accumulates a cycle (simulated)", fontsize=8)
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        each.set_minor_formatter(NullFormatter())
    ticks = [peak / 2**power for power in range(12) if peak / 2**power >= axis.get_ylim()[0]]
    axis.set_yticks(ticks)
    axis.grid(True, which="major", color="#e3e8ed", linewidth=0.6)
    axis.set_axisbelow(True)
    _plain(axis)
    axis.legend(fontsize=8, loc="lower right")
    axis.set_title(f"{outcome.task}: roofline on preset {config.name}", fontsize=10)
    return figure


def _label(axis: Axes, found: Sequence[Point], places: Sequence[str]) -> None:
    """Name every point below the lowest: neighbours of a phase share a label, and labels go round each other."""
    (left, right), (bottom, top) = np.log(axis.get_xlim()), np.log(axis.get_ylim())
    clusters: list[tuple[float, float, list[Point]]] = []
    for point in sorted(found, key=lambda point: (point.phase, point.intensity, point.achieved)):
        x = (np.log(point.intensity) - left) / (right - left)
        y = (np.log(point.achieved) - bottom) / (top - bottom)
        for at_x, at_y, members in clusters:
            if members[0].phase == point.phase and abs(at_x - x) < _NEAR and abs(at_y - y) < _NEAR:
                members.append(point)
                break
        else:
            clusters.append((x, y, [point]))
    taken = [(x, y + 0.02, 0.01) for x, y, _ in clusters]
    for x, y, members in sorted(clusters, key=lambda cluster: cluster[0]):
        text = _cluster_name(members, places)
        half = 0.0052 * len(text) + 0.01
        middle = min(max(x, half), 1 - half)
        height = y - 0.07
        while any(abs(middle - other) < half + width and abs(height - level) < 0.045 for other, level, width in taken):
            height -= 0.047
        taken.append((middle, height, half))
        axis.annotate(
            text,
            (members[0].intensity, members[0].achieved),
            (middle, height),
            textcoords="axes fraction",
            ha="center",
            va="top",
            fontsize=7.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            arrowprops={"arrowstyle": "-", "color": "#8c96a0", "linewidth": 0.6, "shrinkB": 3},
        )


def _cluster_name(members: Sequence[Point], places: Sequence[str]) -> str:
    """``attention, layer00 to layer11`` or ``experts, layer05``: a phase and its layers, some of ``places``."""
    runs: list[list[int]] = []
    for index in sorted(places.index(point.layer) for point in members if point.layer):
        if runs and runs[-1][-1] + 1 == index:
            runs[-1].append(index)
        else:
            runs.append([index])
    named = [f"{places[run[0]]} to {places[run[-1]]}" if len(run) > 1 else places[run[0]] for run in runs]
    return ", ".join([members[0].phase, *named])
