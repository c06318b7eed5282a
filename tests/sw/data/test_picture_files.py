"""Picture files of any format and mode: pixels, what is said of them, and one message for what cannot be read."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from tessera.sw.data import picture_files
from tessera.sw.data.files import read_image, read_integers
from tessera.sw.data.picture_files import open_rgb

REFERENCE = np.zeros((16, 32, 3), np.uint8)
REFERENCE[:, :16], REFERENCE[:, 16:], REFERENCE[:4] = (200, 30, 30), (30, 30, 200), (30, 200, 30)
UPRIGHT = Image.fromarray(REFERENCE)
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a picture is stored that its orientation turns upright."""


def opened(path: Path) -> tuple[np.ndarray, list[str]]:
    notices: list[str] = []
    return np.asarray(open_rgb(path, notices)), notices


def sideways(orientation: int) -> tuple[Image.Image, Image.Exif]:
    exif, how = Image.Exif(), STORED[orientation]
    exif[0x112] = orientation
    return UPRIGHT if how is None else UPRIGHT.transpose(how), exif


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored, exif = sideways(orientation)
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **options)
    pixels, notices = opened(tmp_path / f"a.{suffix}")
    assert pixels.shape == REFERENCE.shape and np.abs(pixels.astype(int) - REFERENCE).max() <= (8 if options else 0)
    assert notices == ([] if orientation == 1 else ["turned upright, as its EXIF orientation says"])
    if suffix != "tiff":  # whose reader turns labels too
        assert read_image(tmp_path / f"a.{suffix}").shape[:2] == stored.size[::-1], "labels lie on the pixels as stored"


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_that_is_none_is_passed_over(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x112] = value
    UPRIGHT.save(tmp_path / "a.png", exif=exif)
    pixels, notices = opened(tmp_path / "a.png")
    assert np.array_equal(pixels, REFERENCE) and notices == []


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\x08", b"Exif\0\0nothing", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
def test_damaged_metadata_are_passed_over(tmp_path: Path, exif: bytes) -> None:
    UPRIGHT.save(tmp_path / "a.png", exif=exif)
    UPRIGHT.save(tmp_path / "a.webp", exif=exif, lossless=True)
    for name in ("a.png", "a.webp"):
        assert np.array_equal(opened(tmp_path / name)[0], REFERENCE)


# Grey deeper than a byte ----------------------------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 128, dtype=np.float32)[None].repeat(4, 0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (RAMP, "grey values up to 1: 1 is white"),
        (RAMP * 255, "grey values up to 255: 255 is white"),
        (RAMP * 65535, "grey values up to 65535: 65535 is white"),
    ],
)
def test_floating_point_is_a_ramp(tmp_path: Path, values: np.ndarray, said: str) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels, notices = opened(tmp_path / "a.tif")
    assert np.array_equal(pixels[0, :, 0], np.rint(RAMP[0] * 255)) and said in notices
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
@pytest.mark.parametrize(("factor", "said"), [(257, "65535 is white"), (1, "grey values up to 255: 255 is white")])
def test_sixteen_bits(tmp_path: Path, name: str, factor: int, said: str) -> None:
    grey = np.arange(256).reshape(16, 16)
    Image.fromarray((grey * factor).astype(np.uint16)).save(tmp_path / name)
    pixels, notices = opened(tmp_path / name)
    assert np.array_equal(pixels[..., 1], grey) and said in " ".join(notices)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.where(np.arange(128) == 5, np.nan, 255 * RAMP), "4 NaN or infinite pixels, the first in row 0, column 5"),
        (np.where(np.arange(128) == 5, np.inf, RAMP), "NaN or infinite pixels"),
        (RAMP - 0.5, r"lie in [-0.5, 0.5], expected 0 to 1"),
        (RAMP * 1e6, r"lie in [0, 1e+06], expected 0 to 1"),
        ((RAMP * 2e9).astype(np.int32), r"lie in [0, 2e+09], expected"),
        ((RAMP * -9).astype(np.int32), r"lie in [-9, 0], expected"),
    ],
)
def test_values_that_are_no_grey(tmp_path: Path, values: np.ndarray, words: str) -> None:
    Image.fromarray(values.astype(np.float32) if values.dtype.kind == "f" else values).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        opened(tmp_path / "a.tif")
    assert str(tmp_path / "a.tif") in str(error.value)


# Modes and formats ----------------------------------------------------------------------------------------------------


def test_a_palette_with_transparency(tmp_path: Path) -> None:
    palette = Image.fromarray(np.arange(32, dtype=np.uint8)[None].repeat(16, 0), "P")
    palette.putpalette([value for number in range(32) for value in (8 * number, 100, 255 - 8 * number)])
    for transparency in (3, bytes([255, 255, 255, 0])):
        palette.save(tmp_path / "a.png", transparency=transparency)
        pixels, notices = opened(tmp_path / "a.png")
        assert pixels[0, 3].tolist() == [0, 0, 0] and pixels[0, 4].tolist() == [32, 100, 223]
        assert "transparent parts are shown on black" in notices


def test_one_transparent_colour(tmp_path: Path) -> None:
    UPRIGHT.save(tmp_path / "a.png", transparency=(200, 30, 30))
    pixels, notices = opened(tmp_path / "a.png")
    assert pixels[8, 0].tolist() == [0, 0, 0] and pixels[8, 20].tolist() == [30, 30, 200]
    assert notices == ["transparent parts are shown on black"]


def test_cmyk(tmp_path: Path) -> None:
    UPRIGHT.convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    pixels, notices = opened(tmp_path / "a.jpg")
    assert np.abs(pixels.astype(int) - REFERENCE).max() <= 8
    assert notices == ["converted from mode CMYK to three 8-bit colours"]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_picture_of_several(tmp_path: Path, name: str) -> None:
    others = [Image.new("RGB", (32, 16), colour) for colour in ("red", "black")]
    options = {"lossless": True} if name == "a.webp" else {}
    UPRIGHT.save(tmp_path / name, save_all=True, append_images=others, **options)
    pixels, notices = opened(tmp_path / name)
    assert np.array_equal(pixels, REFERENCE) and re.match("the first of 3 pictures in the ", notices[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("mode", ["RGB", "1", "L", "RGBA"])
def test_pictures_of_one_pixel(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    Image.new(mode, size, 1 if mode == "1" else "white").save(tmp_path / "a.png")
    pixels, _ = opened(tmp_path / "a.png")
    assert pixels.shape == (*size[::-1], 3) and pixels.min() == 255


def test_text_beside_the_pixels_is_passed_over(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    for number in range(3):
        info.add_itxt(f"k{number}", "a" * (20 << 20), zip=True)
    UPRIGHT.save(tmp_path / "a.png", pnginfo=info)
    limit = PngImagePlugin.MAX_TEXT_CHUNK
    assert np.array_equal(opened(tmp_path / "a.png")[0], REFERENCE) and limit == PngImagePlugin.MAX_TEXT_CHUNK


def test_large_pictures_make_no_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened(tmp_path / "a.png")[0].shape == (10_000, 10_000, 3)
    monkeypatch.setattr(picture_files, "LARGEST_PIXELS", 99_999_999)
    with pytest.raises(ValueError, match="has 10,000 x 10,000 pixels; make it smaller, at most 99,999,999 pixels"):
        opened(tmp_path / "a.png")


# Damage ---------------------------------------------------------------------------------------------------------------

DETAILED = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
FORMATS: dict[str, dict] = {
    "PNG": {},
    "JPEG": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF jpeg": {"compression": "jpeg"},
    "GIF": {},
    "BMP": {},
    "WEBP": {},
    "PPM": {},
    "TGA": {},
    "ICO": {},
    "JPEG2000": {},
    "AVIF": {},
    "QOI": {},
    "PCX": {},
    "SGI": {},
}


def written(name: str) -> bytes:
    kind, file = name.split()[0], io.BytesIO()
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this build of Pillow writes no AVIF")
    DETAILED.save(file, kind, **FORMATS[name])
    return file.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_off_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    content = written(name)
    path = tmp_path / "a.picture"
    path.write_bytes(content)
    assert opened(path)[0].shape[2] == 3
    for part in (0.0, 0.02, 0.3, 0.6):
        path.write_bytes(content[: int(part * len(content))])
        with pytest.raises(ValueError, match="is not a readable picture; it is ") as error:
            opened(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", FORMATS)
def test_changed_bytes_are_refused_or_seen(tmp_path: Path, name: str) -> None:
    content, path = written(name), tmp_path / "a.picture"
    generator = np.random.default_rng(2)
    for place in [*range(0, 40, 3), *generator.integers(0, len(content), 30)]:
        changed = bytearray(content)
        changed[place : place + 4] = generator.bytes(4)
        path.write_bytes(changed)
        try:
            opened(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>404", "it is a web page or a drawing (SVG)"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is a web page or a drawing (SVG)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is HEIC, as phones write it: save it as a JPEG"),
        (b"%PDF-1.7\n", "it is a PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is a PostScript file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS"),
        (b"PK\x03\x04", "it is an archive"),
        (b"hello", "it is of no known format, or damaged at its beginning"),
        (bytes(900), "it is of no known format"),
    ],
)
def test_what_a_file_is_instead(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (opened, lambda path: read_integers(path, "a label for each pixel")):
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'a.png'} is not a readable picture; {words}")):
            read(tmp_path / "a.png")


def test_libraries_below_say_nothing(tmp_path: Path) -> None:
    """Libtiff writes to the terminal by itself, past Python: looked at from outside."""
    paths = []
    for name in ("TIFF lzw", "TIFF jpeg", "JPEG", "JPEG2000", "WEBP"):
        paths.append(tmp_path / name.replace(" ", "-"))
        content = written(name)
        paths[-1].write_bytes(content[: len(content) // 2])
    fax = tmp_path / "fax.tif"
    Image.fromarray(np.random.default_rng(1).integers(0, 2, (64, 128)) > 0).save(fax, compression="group4")
    for place in (slice(8, 400), slice(8, 400, 3), slice(300, 900)):  # bits that are no code words
        content = bytearray(fax.read_bytes())
        content[place] = b"\x55" * len(content[place])
        paths.append(tmp_path / f"{place.start}-{place.step}.tif")
        paths[-1].write_bytes(content)
    text = (
        "import sys; from pathlib import Path; from tessera.sw.data.picture_files import open_rgb\n"
        "for name in sys.argv[1:]:\n"
        "    try: open_rgb(Path(name), [])\n"
        "    except ValueError: pass\n"
    )
    made = subprocess.run([sys.executable, "-c", text, *paths], capture_output=True, text=True, check=True)
    assert made.stdout == made.stderr == ""
