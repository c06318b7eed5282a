"""Procedural scenes: determinism, classes, geometry, and the metrics computed on them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tessera.golden import metrics
from tessera.golden.scenes import scenes
from tessera.golden.scenes.common import CLASS_COLOURS, CLASS_NAMES, DEPTH_CAP, PERSON, POLE, ROAD, SKY


@pytest.fixture(scope="module")
def batch() -> scenes.Scene:
    return scenes.generate_batch(range(200))


def test_same_index_same_scene() -> None:
    first, again, other = scenes.generate(17), scenes.generate(17), scenes.generate(18)
    for name in ("image", "label", "depth"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_labels_are_those_of_this_data_version() -> None:
    # Labels hold no rounding of colours, so their hash is stable; a change here calls for a new DATA_VERSION.
    labels = scenes.generate_batch(range(8)).label
    assert (scenes.DATA_VERSION, hashlib.sha256(labels.tobytes()).hexdigest()[:16]) == (1, "b51a69e389cbe377")


@pytest.mark.parametrize("size", [(64, 128), (128, 256), (48, 48)])
def test_shapes_and_ranges(size: tuple[int, int]) -> None:
    scene = scenes.generate(3, height=size[0], width=size[1])
    assert scene.image.shape == (*size, 3) and scene.image.dtype == np.uint8
    assert scene.label.shape == size and scene.label.dtype == np.uint8 and scene.label.max() < len(CLASS_NAMES)
    assert scene.depth.shape == size and scene.depth.dtype == np.float32
    assert 0 < scene.depth.min() and scene.depth.max() <= DEPTH_CAP


def test_every_class_is_common_enough(batch: scenes.Scene) -> None:
    share = np.bincount(batch.label.ravel(), minlength=8) / batch.label.size
    assert (share > 0.005).all() and (share < 0.5).all(), dict(zip(CLASS_NAMES, share, strict=True))
    assert len(CLASS_NAMES) == len(CLASS_COLOURS) == len({tuple(colour) for colour in CLASS_COLOURS.tolist()})
    holding = [(batch.label == c).any(axis=(1, 2)).mean() for c in (PERSON, POLE, ROAD)]
    assert min(holding) > 0.5


def test_scenes_vary_in_light_and_layout(batch: scenes.Scene) -> None:
    assert batch.image.mean(axis=(1, 2, 3)).std() > 15
    assert (batch.label == SKY).mean(axis=(1, 2)).std() > 0.05
    assert batch.depth.mean(axis=(1, 2)).std() > 5


def test_depth_agrees_with_labels(batch: scenes.Scene) -> None:
    assert (batch.depth[batch.label == SKY] == DEPTH_CAP).all()
    road = np.where(batch.label == ROAD, batch.depth, np.nan)
    # On a flat road, a row has one depth and lower rows are nearer.
    spread = np.nanmax(road, axis=2, initial=0) - np.nanmin(road, axis=2, initial=100)
    assert np.nanmax(spread) < 1e-3
    row_depth = np.nanmax(road[0], axis=1, initial=0)
    seen = row_depth[row_depth > 0]
    assert (np.diff(seen) < 0).all()


def test_nothing_visible_lies_behind_the_ground(batch: scenes.Scene) -> None:
    road = np.where(batch.label == ROAD, batch.depth, np.nan)
    ground = np.nanmax(road, axis=2, initial=-1)
    beyond = (batch.depth > ground[:, :, None] + 1e-3) & (ground[:, :, None] > 0)
    assert not beyond.any(), f"scenes {np.unique(np.nonzero(beyond)[0])}"


def test_rejects_bad_arguments() -> None:
    with pytest.raises(ValueError, match="scene -1 at 64x128"):
        scenes.generate(-1)
    with pytest.raises(ValueError, match="at 0x128"):
        scenes.generate(0, height=0)


def test_a_small_scene_is_a_larger_one_reduced() -> None:
    small, large = scenes.generate(3, height=8, width=12), scenes.generate(3, height=16, width=24)
    assert small.image.shape == (8, 12, 3) and small.image.dtype == np.uint8
    assert small.label.shape == small.depth.shape == (8, 12)
    assert np.array_equal(small.label, large.label[1::2, 1::2]) and np.array_equal(small.depth, large.depth[1::2, 1::2])
    means = large.image.reshape(8, 2, 12, 2, 3).mean(axis=(1, 3))
    assert np.abs(small.image - means).max() <= 0.5
    assert scenes.generate(3, height=1, width=40).image.shape == (1, 40, 3)


def test_depth_output_is_bounded_and_inverts() -> None:
    depth = np.linspace(0, DEPTH_CAP, 500)
    output = metrics.depth_to_output(depth)
    assert np.abs(output).max() <= 8
    # Both directions are float32 functions of depths up to 80 m: a tenth of a millimetre is their rounding.
    np.testing.assert_allclose(metrics.output_to_depth(output), depth, atol=1e-4)
    assert metrics.output_to_depth(np.array([-100.0, 100.0])) == pytest.approx([0, DEPTH_CAP], abs=1e-4)


def test_scores_by_hand() -> None:
    scores = metrics.Scores()
    label = np.array([[0, 0, 1, 1], [0, 0, 1, 7]])
    scores.add_segmentation(np.array([[0, 1]]), label)
    assert scores.class_iou == pytest.approx({"road": 1.0, "ground": 3 / 4, "sky": 0.0})
    assert scores.mean_iou == pytest.approx(1.75 / 3)
    scores.add_depth(np.array([[10.0, 20.0]]), np.array([[10, 10, 22, 22], [10, 10, 22, 22]]))
    assert scores.depth_rmse == pytest.approx(np.sqrt(2))
    assert scores.depth_abs_rel == pytest.approx(0.5 * 2 / 22)
    nothing = {"mean_iou": None, "class_iou": {}, "depth_rmse_m": None, "depth_abs_rel": None}
    assert metrics.Scores().to_dict() == nothing


def test_unknown_pixels_are_not_scored() -> None:
    scores = metrics.Scores(class_names=("a", "b"))
    scores.add_segmentation(np.array([[0, 1, 1]]), np.array([[0, 1, metrics.IGNORE]], np.uint8))
    assert scores.class_iou == {"a": 1.0, "b": 1.0} and scores.confusion.sum() == 2
    scores.add_depth(np.array([[1.0, 4.0, 9.0]]), np.array([[2.0, 4.0, np.nan]]))
    assert scores.depth_pixels == 2 and scores.depth_abs_rel == 0.25
    both = metrics.Scores(class_names=("a", "b"))
    both.add(scores)
    both.add(scores)
    assert both.confusion.sum() == 4 and both.depth_rmse == scores.depth_rmse and both.depth_pixels == 4
    with pytest.raises(ValueError, match="labels reach 2, predictions 0; there are 2 classes"):
        scores.add_segmentation(np.array([[0]]), np.array([[2]]))


def test_constant_predictor_beats_other_constants(batch: scenes.Scene) -> None:
    classes, depth = metrics.constant_predictor(batch)
    assert (classes[-1] == ROAD).mean() > 0.5 and (classes[0] == SKY).mean() > 0.3
    accuracy = (batch.label == classes).mean()
    assert all(accuracy > (batch.label == c).mean() for c in range(8))
    error = np.square(batch.depth - depth).mean()
    assert error < np.square(batch.depth - batch.depth.mean()).mean()
