"""Figures of what a model does: overlays, errors, experts, loads and rollout, on geometries of every kind."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tessera.golden.config import M3VIT_TINY, NANO, HeadKind, ModelConfig, TaskConfig
from tessera.golden.scenes.common import CLASS_COLOURS, CLASS_NAMES
from tessera.sw.data.pictures import Picture, scene_picture
from tessera.sw.report.attention_figures import rollout_figure
from tessera.sw.report.error_figures import errors_figure
from tessera.sw.report.expert_figures import expert_loads, expert_maps, regions
from tessera.sw.report.figures import input_figure, prediction_figure
from tessera.sw.report.panels import expert_colours, readable_on
from tessera.sw.results.comparison import OutputMaps
from tessera.sw.results.outcome import FrameOutcome, same_first_choice
from tessera.sw.results.truth import TaskTruth, told_tasks, truth_of
from tests.helpers.networks import outline_of

CLASSES = replace(NANO, tasks=(TaskConfig(name="classes", kind="classification", channels=5, cells=1),))


class Outcome:
    """An outcome as far as figures of experts look at it."""

    load = FrameOutcome.load

    def __init__(self, model: ModelConfig, task: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.program = outline_of(model)
        self.task = task
        self.routing = {
            name: np.stack([rng.permutation(model.experts)[: model.top_k] for _ in range(model.tokens)])
            for name in self.program.mixtures
        }


def outcomes(model: ModelConfig) -> list[Any]:
    return [Outcome(model, task.name, seed) for seed, task in enumerate(model.tasks)]


def drawn(figure: Figure | None) -> Figure:
    """The figure, rendered: what cannot be drawn fails."""
    assert figure is not None
    figure.canvas.draw()
    return figure


def prediction(kind: str, machine: np.ndarray, reference: np.ndarray, truth: TaskTruth) -> OutputMaps:
    return OutputMaps(
        kind=kind,
        values=machine,
        reference=reference,
        machine=machine,
        relative_l2=0.0,
        cosine=1.0,
        scores={},
        **vars(truth),
    )


def test_regions_have_one_number_each_and_it_lies_inside() -> None:
    chosen = np.array([[3, 3, 3, 0], [3, 3, 3, 0], [3, 3, 3, -1], [0, 0, 3, 3]])
    assert sorted(regions(chosen)) == [(0, 0, 3), (0, 3, 0), (3, 1, 1)]


@pytest.mark.parametrize("model", [NANO, M3VIT_TINY], ids=lambda model: model.name)
def test_maps_and_loads_of_every_layer_and_task(model: ModelConfig) -> None:
    found, picture = outcomes(model), scene_picture(model)
    found[1].routing["layer03.experts"][1:, 0] = found[0].routing["layer03.experts"][1:, 0]
    maps, loads = drawn(expert_maps(found, picture)), drawn(expert_loads(found))
    layers = len(model.expert_layers)
    axes = np.array(maps.axes).reshape(layers + 1, 2)
    for column, outcome in enumerate(found):
        assert axes[0, column].get_title() == outcome.task
        for line, chosen in zip(axes[1:, column], outcome.routing.values(), strict=True):
            assert np.array_equal(line.images[0].get_array(), chosen[1:, 0].reshape(model.grid))
            assert {int(text.get_text()) for text in line.texts} == set(chosen[1:, 0])
    assert axes[2, 0].get_ylabel() == "layer03.experts\nthe same: 100%" and "100%" not in axes[1, 0].get_ylabel()
    assert len(maps.legends[0].get_texts()) == model.experts
    for axis, (layer, load) in zip(np.array(loads.axes).reshape(layers, 2)[:, 1], found[1].load().items(), strict=True):
        first = found[1].load(first=True)[layer]
        heights = [bar.get_height() for bar in axis.patches]
        assert heights == [*first, *(np.array(load) - first)] and sum(load) == model.tokens * model.top_k
        assert [int(text.get_text()) for text in axis.texts] == load
        assert axis.lines[0].get_ydata()[0] == pytest.approx(sum(load) / model.experts)


def test_experts_that_were_never_chosen_and_patches_without_one() -> None:
    found = outcomes(NANO)[:1]
    found[0].routing = {"layer01.experts": np.full((NANO.tokens, 2), -1)}
    drawn(expert_maps(found, scene_picture(NANO)))
    assert "8 without any" in drawn(expert_loads(found)).axes[0].get_title()
    assert same_first_choice(found) == {}


def test_dense_models_have_no_figures_of_experts() -> None:
    dense = replace(NANO, expert_layers=())
    assert expert_maps(outcomes(dense), scene_picture(dense)) is None and expert_loads(outcomes(dense)) is None


def test_same_first_choice_counts_patches_alone() -> None:
    found = outcomes(NANO)
    found[0].routing = {"layer01.experts": np.zeros((NANO.tokens, 2), int)}
    found[1].routing = {"layer01.experts": np.zeros((NANO.tokens, 2), int)}
    found[1].routing["layer01.experts"][0] = 5
    found[1].routing["layer01.experts"][1:33, 0] = 5
    assert same_first_choice(found) == {"layer01.experts": 0.75}


def test_numbers_can_be_read_on_every_expert_and_neighbours_differ() -> None:
    colours = [np.array(to_rgb(expert_colours(16)(expert)[:3])) for expert in range(16)]
    assert len({tuple(colour) for colour in colours}) == 16
    assert readable_on((1, 1, 1)) == "black" and readable_on((0, 0, 0)) == "white"


def test_wrong_classes_are_shown_where_they_are() -> None:
    picture = scene_picture(NANO)
    assert picture.scene is not None
    truth = picture.scene.label
    reference = np.ascontiguousarray(truth[::2, ::2])  # cells of two pixels
    machine = reference.copy()
    machine[3, 5] = (machine[3, 5] + 1) % 8
    known = truth_of(NANO.tasks[0], "trained", picture.scene)
    figure = drawn(errors_figure(prediction("segmentation", machine, reference, known), picture))
    large = machine.repeat(2, axis=0).repeat(2, axis=1)
    wrong, differs = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[2:])
    coloured = np.ptp(wrong, axis=2) > 1e-9  # the rest is grey; so is one class
    # Colours were bytes over 255: back again they are whole up to the rounding of floats, far below one of 255.
    assert not coloured[large == truth].any() and np.allclose(
        wrong[large != truth] * 255, CLASS_COLOURS[truth[large != truth]]
    )
    assert np.argwhere(np.ptp(differs, axis=2) > 1e-9).tolist() in ([[6, 10], [6, 11], [7, 10], [7, 11]], [])
    assert np.allclose(differs[6, 10] * 255, CLASS_COLOURS[reference[3, 5]])
    assert figure.axes[3].get_title().startswith(f"not as float in {1 / machine.size:.2%}")
    assert f"{(large != truth).mean():.1%}" in figure.axes[2].get_title()


def test_depth_errors_have_their_sign_and_their_size() -> None:
    picture = scene_picture(NANO)
    assert picture.scene is not None
    cells = np.full((32, 64), 20.0)
    machine = cells.copy()
    machine[0, 0] = 12.0
    known = truth_of(NANO.tasks[1], "trained", picture.scene)
    figure = drawn(errors_figure(prediction("depth", machine, cells, known), picture))
    exact, other = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[2:4])
    # The figure subtracts in float32, the test in float64.
    assert np.allclose(exact, machine.repeat(2, axis=0).repeat(2, axis=1) - picture.scene.depth)
    assert other[0, 0] == -8 and np.count_nonzero(other) == 4
    rms = np.sqrt(64 / cells.size)
    assert figure.axes[3].get_title() == f"machine minus float: {rms:.2f} m RMS"


@pytest.mark.parametrize("kind", ["segmentation", "depth"])
def test_a_picture_without_truth_has_no_panels_of_it(kind: HeadKind) -> None:
    picture = Picture(image=np.zeros((3, 64, 128), np.uint8), source="black")
    cells = np.ones((32, 64), int if kind == "segmentation" else float)
    task = TaskConfig(name=kind, kind=kind, channels=12, cells=2)
    figure = drawn(errors_figure(prediction(kind, cells, cells, truth_of(task, "trained", None)), picture))
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert len(titles) == 2 and "float" in titles[1] and "exact" not in "".join(titles)


def test_tasks_without_maps_have_no_error_maps() -> None:
    for kind in ("features", "classification"):
        assert errors_figure(prediction(kind, np.zeros(1), np.zeros(1), TaskTruth()), scene_picture(NANO)) is None


@pytest.mark.parametrize("count", [1, 2, 5, 9, 19, 300])
def test_any_number_of_classes_has_colours_of_its_own_and_a_legend_of_those_that_occur(count: int) -> None:
    picture, task = scene_picture(NANO), TaskConfig(name="own", kind="segmentation", channels=count, cells=2)
    known = truth_of(task, "trained", picture.scene)
    assert known.exact is None and known.classes is not None and len(known.classes) == count
    assert len({tuple(colour) for colour in known.classes.colours.tolist()}) == count
    cells = np.arange(32 * 64).reshape(32, 64) % count
    for figure in (prediction_figure, errors_figure):
        drawing = drawn(figure(prediction("segmentation", cells, cells, known), picture))
        names = [text.get_text() for text in drawing.legends[0].get_texts()]
        assert names == [f"class {number}" for number in range(min(count, 24))]
        assert not any("exact" in axis.get_title() for axis in drawing.axes)


def test_truth_is_for_tasks_that_learnt_what_scenes_show() -> None:
    scene = scene_picture(NANO).scene
    for task, names in zip(NANO.tasks, (CLASS_NAMES, None), strict=True):
        told, imported = (truth_of(task, weights, scene) for weights in ("trained", "imported"))
        assert told.exact is not None and (told.classes and told.classes.names) == names
        assert imported.exact is None and (imported.classes is None or imported.classes.names[0] == "class 0")
    assert told_tasks(NANO, "trained") == {"segmentation": 0, "depth": 1} and told_tasks(NANO, "imported") == {}
    fewer = replace(NANO.tasks[0], name="fewer", channels=5)
    assert told_tasks(replace(NANO, tasks=(fewer, *NANO.tasks)), "trained") == {"segmentation": 1, "depth": 2}


def test_rollout_shows_patches_of_every_task() -> None:
    uniform = np.full((NANO.tokens, NANO.tokens), 1 / NANO.tokens)
    figure = drawn(rollout_figure({"segmentation": uniform, "depth": uniform}, outline_of(NANO), scene_picture(NANO)))
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    places = [f"patch in row {row}, column {column}" for row, column in ((6, 4), (4, 8), (2, 12))]
    assert titles == ["segmentation: all patches", *places, "depth: all patches", *places]
    corners = [axis.patches[0].get_xy() for axis in figure.axes if axis.images and axis.patches]
    assert corners[:3] == [(31.5, 47.5), (63.5, 31.5), (95.5, 15.5)] == corners[3:]


def test_rollout_of_a_class_is_the_class_tokens() -> None:
    figure = drawn(rollout_figure({"classes": np.eye(CLASSES.tokens)}, outline_of(CLASSES), scene_picture(CLASSES)))
    assert [axis.get_title() for axis in figure.axes if axis.images] == ["input", "classes: class token"]


def test_no_rollout_without_attention() -> None:
    assert rollout_figure({}, outline_of(NANO), scene_picture(NANO)) is None


def test_the_input_does_not_depend_on_the_name_of_its_file() -> None:
    """People compare the files of two runs."""
    image = np.random.default_rng(1).integers(0, 255, (3, 32, 64), np.uint8)
    made = []
    for source in ("upright.png", "a/folder/of/photographs/turned.jpg"):
        buffer = io.BytesIO()
        input_figure(Picture(image=image, source=source)).savefig(buffer, format="png")
        made.append(buffer.getvalue())
    assert made[0] == made[1]
