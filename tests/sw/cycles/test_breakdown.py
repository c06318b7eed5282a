"""Cycles by layer and kind of work, and the roofline: sums, names and hand-computed points."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tessera.golden.config import M3VIT_BACKBONE, NANO, ModelConfig
from tessera.hw.isa import CycleCause
from tessera.hw.presets import preset
from tessera.program.commands import CommandKind, Phase
from tessera.program.program import Program
from tessera.sw.compiler.compile import compile_model
from tessera.sw.cycles import breakdown, roofline
from tessera.sw.report.cycle_figures import causes_figure, roofline_figure
from tessera.sw.report.page import by_kind, by_layer_and_kind
from tests.helpers.random_model import random_model

CONFIG = preset("edge")


@pytest.fixture(scope="module", params=[NANO, M3VIT_BACKBONE], ids=lambda model: model.name)
def model(request: pytest.FixtureRequest) -> ModelConfig:
    return request.param


@pytest.fixture(scope="module")
def program(model: ModelConfig) -> Program:
    return compile_model(random_model(model, CONFIG.numerics, 0), CONFIG)


def invent(program: Program, task: int) -> tuple[np.ndarray, dict[str, list[int]]]:
    """Causes of each command, and a load in which layer 3 leaves half of its experts idle."""
    causes = np.random.default_rng(1).integers(1, 500, (len(program.commands), len(CycleCause)))
    load = {name: [9] * mixture.experts for name, mixture in program.mixtures.items()}
    experts = len(load["layer03.experts"])
    load["layer03.experts"] = [18] * (experts // 2) + [0] * (experts - experts // 2)
    return causes, load


@pytest.mark.parametrize("task", [0, 1])
def test_sums_are_kept_in_every_grouping(program: Program, task: int) -> None:
    causes, load = invent(program, task)
    found = breakdown.shares(program, task, causes, load)
    assert {share.kind for share in found} <= set(breakdown.KINDS)
    ran = [command for command in program.commands if command.runs(task)]
    for keys in (("layer",), ("kind",), ("layer", "phase"), ("layer", "phase", "kind")):
        groups = breakdown.grouped(found, *keys)
        assert np.array_equal(np.sum([group.causes for group in groups], axis=0), causes.sum(axis=0))
        assert sum(group.macs for group in groups) == sum(command.macs for command in ran)
        assert sum(group.ideal_cycles for group in groups) == sum(command.ideal_cycles for command in ran)
    entries = [share.to_dict() for share in breakdown.grouped(found, "layer", "phase", "kind")]
    table = by_layer_and_kind(entries)
    assert list(table["rows"])[0] == "embed" and list(table["rows"])[-1] == "control"
    assert sum(sum(row.values()) for row in table["rows"].values()) == causes.sum() == sum(table["sums"].values())
    assert sum(sum(row["causes"].values()) for row in by_kind(entries).values()) == causes.sum()


def test_kinds_are_what_their_names_say(program: Program, model: ModelConfig) -> None:
    causes, load = invent(program, 0)
    found = breakdown.shares(program, 0, causes, load)
    macs = {share.kind: share.macs for share in breakdown.grouped(found, "kind")}
    tokens, dim = model.tokens, model.dim
    assert macs["Q, K, V"] == 3 * macs["projection"] == 3 * model.layers * tokens * dim * dim
    assert macs["QK, AV"] == 2 * model.layers * tokens * tokens * dim
    assert macs["experts"] == 2 * len(model.expert_layers) * tokens * model.top_k * dim * model.expert_hidden
    assert macs["norm"] == macs["control"] == 0
    others = [share for share, command in zip(found, program.commands, strict=True) if not command.runs(0)]
    assert others and all(share.kind == "control" and share.layer == "" for share in others)


def test_every_kind_of_command_has_a_kind_of_work(program: Program) -> None:
    causes, load = invent(program, 0)
    work: dict[CommandKind, set[tuple[str, str]]] = {}
    for share, command in zip(breakdown.shares(program, 0, causes, load), program.commands, strict=True):
        if command.runs(0):
            work.setdefault(command.kind, set()).add((share.phase, share.kind))
    headless = program.model.tasks[0].kind == "features"
    others = {CommandKind.PRODUCT, CommandKind.CONVOLUTION, CommandKind.LOAD} | (
        {CommandKind.HEAD} if headless else set()
    )
    assert work.keys() == set(CommandKind) - others
    phases = {"attention", "MLP", "experts"} | (set() if headless else {"output"})
    assert work[CommandKind.NORM] == {(phase, "norm") for phase in phases}
    assert work[CommandKind.GATE] == {("experts", "gate")} and work[CommandKind.QKV] == {("attention", "Q, K, V")}


def test_roofline_by_hand() -> None:
    program = compile_model(random_model(M3VIT_BACKBONE, CONFIG.numerics, 0), CONFIG)
    causes, load = invent(program, 0)
    points = {
        (point.layer, point.phase): point
        for point in roofline.points(CONFIG, breakdown.shares(program, 0, causes, load))
    }
    # Experts: 258 rows through 192 x 384 twice; each expert streams both matrices and 8 bytes a channel.
    macs, each = 258 * 2 * 192 * 384, 2 * 192 * 384 + 8 * (384 + 192)
    gate = (129 * 192 * 16, 2 * 192 * 16 + 8 * 16)
    norm = 192
    owned = {
        layer: sum(
            causes[c.index].sum()
            for c in program.commands
            if c.place == layer and c.phase == Phase.EXPERTS and c.runs(0)
        )
        for layer in ("layer01", "layer03")
    }
    for layer, used in (("layer01", 16), ("layer03", 8)):
        point = points[layer, "experts"]
        assert point.intensity == pytest.approx((macs + gate[0]) / (used * each + gate[1] + norm), rel=1e-3)
        assert point.achieved == pytest.approx((macs + gate[0]) / owned[layer])
    experts = [points[layer, "experts"].intensity for layer in ("layer01", "layer03")]
    assert experts[0] < experts[1] < points["layer00", "attention"].intensity
    assert roofline.roof(CONFIG, 2.0) == 64 and roofline.roof(CONFIG, 8.0) == roofline.roof(CONFIG, 900.0) == 256
    assert {layer for layer, phase in points if phase == "attention"} == set(program.model.places)


def test_every_layer_is_named_in_both_figures(program: Program) -> None:
    causes, load = invent(program, 0)
    result = SimpleNamespace(causes=causes, cycles=int(causes.sum()), task=0)
    shares = breakdown.shares(program, 0, causes, load)
    outcome = cast(Any, SimpleNamespace(task="task", result=result, program=program, shares=lambda: shares))
    figure = roofline_figure(outcome)
    assert figure is not None
    axis = figure.axes[0]
    named: set[tuple[str, str]] = set()
    places = program.model.places
    for text in (annotation.get_text() for annotation in axis.texts):
        phase, *layers = text.split(", ")
        for run in layers:
            first, _, last = run.partition(" to ")
            named |= {(phase, layer) for layer in places[places.index(first) : places.index(last or first) + 1]}
    found = roofline.points(CONFIG, shares)
    assert named == {(point.phase, point.layer) for point in found if point.layer}
    rows = [label.get_text() for label in causes_figure(outcome).axes[0].get_yticklabels()]
    assert {f"{layer} attention" for layer in places} <= set(rows)
    assert len(rows) == len(set(rows)) and rows[0] == "embed" and rows[-1] == "control"
