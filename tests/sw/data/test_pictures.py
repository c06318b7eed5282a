"""Pictures of any size and mode, or raw pixels, become the bytes that a model takes; a notice says what changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessera.sw.data.pictures import PictureChoice, array_picture, load_picture, scene_picture
from tests.helpers.small_checkpoints import SMALL

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


def _raw(path: Path, values: np.ndarray) -> Path:
    values.astype("<f4").tofile(path)
    return path


def test_raw_pixels_become_the_bytes_they_were(tmp_path: Path) -> None:
    pixels = np.arange(3 * 16 * 32).reshape(3, 16, 32) % 256
    picture = load_picture(_raw(tmp_path / "image.float32.bin", pixels / 256), SMALL)
    assert np.array_equal(picture.image, pixels) and picture.image.dtype == np.uint8 and picture.notices == ()
    assert picture.source.endswith("image.float32.bin")


def test_raw_pixels_between_bytes_are_rounded_with_a_notice(tmp_path: Path) -> None:
    values = np.zeros((3, 16, 32))
    values[0, 0, :4] = [10.4 / 256, 10.6 / 256, 0.9999, 0.25]
    picture = load_picture(_raw(tmp_path / "image.float32.bin", values), SMALL)
    assert picture.image[0, 0, :4].tolist() == [10, 11, 255, 64]
    assert picture.notices == ("3 values lie between multiples of 1/256: rounded to the nearest",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v[:, :, :-1],
            "has 5,952 bytes, expected 6,144 for the .3, 16, 32. float32 .* 'small' .*: truncated",
        ),
        (lambda v: np.concatenate([v, v]), "has 12,288 bytes, expected 6,144 .*: too long"),
        (lambda v: v[:0], "has 0 bytes"),
        (lambda v: np.where(np.arange(32) == 5, np.nan, v), "has 48 NaN or infinite pixels, the first at .0, 0, 5."),
        (lambda v: np.where(np.arange(32) == 5, np.inf, v), "has 48 NaN or infinite"),
        (lambda v: v * 256 / 255, r"lie in \[0, 1\], expected \[0, 1\): give bytes divided by 256"),
        (lambda v: v - 0.5, r"lie in \[-0.5, 0.496094\], expected"),
        (lambda v: v * 256, r"lie in \[0, 255\], expected"),
    ],
)
def test_unusable_raw_pixels_are_refused(tmp_path: Path, change, message: str) -> None:
    values = (np.arange(3 * 16 * 32).reshape(3, 16, 32) % 256) / 256
    with pytest.raises(ValueError, match=message):
        load_picture(_raw(tmp_path / "image.float32.bin", change(values)), SMALL)


def test_scenes_are_held_out_and_have_the_truth() -> None:
    picture = scene_picture(SMALL, 3)
    assert picture.image.shape == (3, 16, 32) and picture.scene is not None and "held-out" in picture.source
    assert not np.array_equal(picture.image, scene_picture(SMALL, 4).image)
    with pytest.raises(ValueError, match="scene is -1"):
        scene_picture(SMALL, -1)


@pytest.mark.parametrize("values", [COLOURS, COLOURS.transpose(2, 0, 1)], ids=["channels last", "channels first"])
def test_an_array_is_a_picture(values: np.ndarray) -> None:
    (picture,) = PictureChoice(image=values).load(SMALL)
    assert np.array_equal(picture.image, COLOURS.transpose(2, 0, 1)) and picture.notices == ()


def test_a_grey_array_gets_three_equal_channels_and_the_models_size() -> None:
    picture = array_picture(np.full((32, 64), 7, np.uint8), SMALL)
    assert picture.image.shape == (3, 16, 32) and (picture.image == 7).all() and "resized" in picture.notices[0]


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((16, 32, 3)), "array of float64; expected a NumPy array of bytes"),
        (np.zeros((16, 32, 4), np.uint8), r"shape \(16, 32, 4\); expected a NumPy array of bytes"),
        (np.zeros((1, 3, 16, 32), np.uint8), r"shape \(1, 3, 16, 32\)"),
        (np.zeros((0, 32, 3), np.uint8), r"shape \(0, 32, 3\)"),
        (np.uint8(7)[()] * np.ones((), np.uint8), r"shape \(\)"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(values: np.ndarray, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        array_picture(values, SMALL)
