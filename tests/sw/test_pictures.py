"""Pictures of any size and mode become the bytes that a model takes, and a notice says what changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sw.pictures import load_picture, scene_picture
from tests.sw.small_checkpoints import SMALL

COLOURS = np.random.default_rng(7).integers(0, 256, (16, 32, 3), np.uint8)


def _load(tmp_path: Path, picture: Image.Image, name: str = "picture.png"):
    picture.save(tmp_path / name)
    return load_picture(tmp_path / name, SMALL)


def test_right_size_passes_unchanged(tmp_path: Path) -> None:
    picture = _load(tmp_path, Image.fromarray(COLOURS))
    assert np.array_equal(picture.image, COLOURS.transpose(2, 0, 1)) and picture.notices == ()
    assert picture.image.dtype == np.uint8 and picture.image.flags.c_contiguous


def test_grey_becomes_three_equal_planes(tmp_path: Path) -> None:
    picture = _load(tmp_path, Image.fromarray(COLOURS[..., 0]))
    assert all(np.array_equal(plane, COLOURS[..., 0]) for plane in picture.image)
    assert "mode L" in picture.notices[0]


def test_sixteen_bits_keep_their_upper_byte(tmp_path: Path) -> None:
    deep = COLOURS[..., 0].astype(np.uint16) * 257
    picture = _load(tmp_path, Image.fromarray(deep))
    assert np.array_equal(picture.image[1], COLOURS[..., 0])
    assert "I;16" in picture.notices[0]


def test_transparency_is_shown_on_black(tmp_path: Path) -> None:
    alpha = np.zeros((16, 32, 1), np.uint8)
    alpha[:, 16:] = 255
    picture = _load(tmp_path, Image.fromarray(np.concatenate([COLOURS, alpha], axis=2)))
    assert not picture.image[:, :, :16].any()
    assert np.array_equal(picture.image[:, :, 16:], COLOURS.transpose(2, 0, 1)[:, :, 16:])
    assert any("black" in notice for notice in picture.notices)


@pytest.mark.parametrize("mode", ["1", "P", "LA", "CMYK", "F", "I"])
def test_other_modes_are_converted(tmp_path: Path, mode: str) -> None:
    picture = _load(tmp_path, Image.fromarray(COLOURS).convert(mode), "picture.tiff")
    assert picture.image.shape == (3, 16, 32) and picture.notices


def test_other_sizes_are_resized_with_a_notice(tmp_path: Path) -> None:
    same_shape = _load(tmp_path, Image.fromarray(COLOURS).resize((64, 32)))
    assert same_shape.notices == ("resized from 64x32 to 32x16 pixels",)
    distorted = _load(tmp_path, Image.fromarray(COLOURS).resize((31, 33)))
    assert distorted.image.shape == (3, 16, 32) and any("aspect ratio" in notice for notice in distorted.notices)


def test_scenes_are_held_out_and_have_the_truth() -> None:
    picture = scene_picture(SMALL, 3)
    assert picture.image.shape == (3, 16, 32) and picture.scene is not None and "held-out" in picture.source
    assert not np.array_equal(picture.image, scene_picture(SMALL, 4).image)
    with pytest.raises(ValueError, match="scene is -1"):
        scene_picture(SMALL, -1)
