"""What a run shows of results without a head, or with one for the whole picture: features as colours, classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tessera.golden.config import M3VIT_BACKBONE, TaskConfig
from tessera.sw.data.pictures import Picture
from tessera.sw.report.figures import prediction_figure
from tessera.sw.results.comparison import compare, feature_colours
from tessera.sw.results.truth import TaskTruth
from tests.helpers.networks import network_of

SMALL = replace(M3VIT_BACKBONE, name="small", image_height=64, image_width=96, dim=24)  # 4 x 6 patches


def features(seed: int) -> np.ndarray:
    """Tokens of which three directions say most, the class token far away."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(25, 3)) @ generator.normal(size=(3, 24)) + 0.01 * generator.normal(size=(25, 24))
    values[0] += 100.0
    return values + 5.0


def test_equal_features_have_equal_colours_that_use_the_whole_range() -> None:
    reference = features(1)
    first, second = feature_colours(reference[1:], reference[1:].copy(), (4, 6))
    assert first.shape == (4, 6, 3) and np.array_equal(first, second)
    assert first.min() == 0 and first.max() == 1 and (first.std(axis=(0, 1)) > 0.15).all()


def test_colours_of_the_machine_show_where_it_differs() -> None:
    reference, machine = features(2), features(2)
    machine[1 + 7] += 2.0
    first, second = feature_colours(reference[1:], machine[1:], (4, 6))
    different = np.abs(first - second).max(axis=2) > 1e-9
    assert different[1, 1] and different.sum() == 1


def test_features_that_are_all_alike_are_no_trouble() -> None:
    alike = np.ones((25, 24))
    for colours in feature_colours(alike[1:], alike[1:], (4, 6)):
        assert np.isfinite(colours).all()


def test_two_patches_have_colours_though_they_have_fewer_directions() -> None:
    for colours in feature_colours(features(4)[1:3], features(5)[1:3], (1, 2)):
        assert colours.shape == (1, 2, 3) and np.isfinite(colours).all()


def test_the_worst_patch_is_found_and_the_class_token_does_not_count() -> None:
    reference, machine = features(3), features(3)
    machine[0] *= 2.0
    machine[1 + 9] *= 1.25
    found = compare(network_of(SMALL).tasks[0], reference, machine, TaskTruth())
    assert found.kind == "features" and found.token_errors is not None and found.token_errors.shape == (4, 6)
    assert found.scores == {"worst_token_relative_l2": pytest.approx(0.25)}
    assert found.token_errors[1, 3] == pytest.approx(0.25) and np.count_nonzero(found.token_errors) == 1
    assert found.relative_l2 == pytest.approx(np.linalg.norm(machine - reference) / np.linalg.norm(reference))


def test_a_class_of_the_whole_picture_is_compared_and_shown() -> None:
    classes = TaskConfig(name="c", kind="classification", channels=5, cells=1)
    task = network_of(replace(SMALL, tasks=(classes,))).tasks[0]
    reference = np.array([[0.1, 0.2, 3.0, 0.4, 0.0]])
    found = compare(task, reference, reference * 1.5, TaskTruth())
    assert found.scores == {"class_agreement": 1.0} and found.machine.item() == 2 and found.values.shape == (1, 5)
    other = compare(task, reference, reference[:, ::-1] - [[0, 9, 9, 0, 0]], TaskTruth())
    assert other.scores == {"class_agreement": 0.0} and other.machine.item() == 3
    picture = Picture(image=np.zeros((3, 64, 96), np.uint8), source="black")
    title = prediction_figure(other, picture, machine="RTL").axes[0].get_title()
    assert title == "float model: class 2\nRTL: class 3"
