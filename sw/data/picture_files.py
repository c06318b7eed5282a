"""Picture files of any format and mode: what is changed about one is said, what cannot be read is refused by name.

Pictures are turned as their EXIF orientation says, the first frame of an animation is taken, and values of grey files
deeper than a byte are scaled to one. No message or warning of the library gets out.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

LARGEST_PIXELS = 1 << 27
"""Pixels of the largest picture that is read: 384 MiB of colours."""

_ORIENTATION = 0x112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture of an EXIF orientation upright."""
_NO_PIXELS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
"""Formats that need another program, or that the library knows by name alone."""

_TEXT_BYTES = 1 << 26
"""Text beside a picture that is passed over; the library's own limit is below that of sound files."""

_BEGINS = (
    (b"", "empty"),
    (b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull` where it was cloned"),
    (b"%PDF", "a PDF: save a page of it as a PNG"),
    (b"%!PS", "a PostScript file: save it as a PNG"),
    (b"\x93NUMPY", "a NumPy array: save it as a PNG, or as raw pixels called *.float32.bin"),
    (b"PK", "an archive: unpack it first"),
)
_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


@dataclass(frozen=True, kw_only=True)
class LoadedPicture:
    """The pixels of a file as they are stored.

    Members: ``picture``, of any mode; its ``format``; how many ``frames`` the file has, of which this is the first; its
    EXIF ``orientation``, 1 where it is stored upright.
    """

    picture: Image.Image
    format: str
    frames: int
    orientation: int


def looks_like_picture(path: Path) -> bool:
    """Whether a file is a picture by the ending of its name; without an ending, by how it begins."""
    formats = _formats()
    if path.suffix:
        return Image.registered_extensions().get(path.suffix.lower()) in formats
    try:
        with _quiet(), Image.open(path, formats=formats):
            return True
    except Exception:  # of many kinds, according to what it is
        return False


def load_file(path: Path) -> LoadedPicture:
    """Read a picture file as it is stored.

    Raises
    ------
    ValueError
        If it is none that can be read; the message names the file, what it is and what to give instead.
    """
    with _quiet():
        with _refused(path):
            file = Image.open(path, formats=_formats())
        with file:
            if file.width * file.height > LARGEST_PIXELS:
                raise ValueError(
                    f"{path} has {file.width:,} x {file.height:,} pixels; make it smaller, at most {LARGEST_PIXELS:,} "
                    "pixels are read"
                )
            with _refused(path):
                frames, orientation = _frames(file), _orientation(file)
                file.load()
                picture = file.copy()
            return LoadedPicture(picture=picture, format=file.format or "", frames=frames, orientation=orientation)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Whatever the library raises, as one message of ours that names the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            what = _what(file.read(512))
        raise ValueError(
            f"{path} is not a readable picture; it is {what}; give a whole PNG, JPEG or similar file"
        ) from error
    except PermissionError as error:
        raise ValueError(f"{path} may not be read by this user: change its permissions") from error
    except Exception as error:  # of many kinds, according to what a broken file leads it to
        raise ValueError(
            f"{path} is not a readable picture; it is damaged, cut off or of a rare kind; give a whole PNG, JPEG or "
            "similar file"
        ) from error


def open_rgb(path: Path, notices: list[str], *, stored: bool = False) -> Image.Image:
    """A picture file of any mode as three bytes a pixel; what was changed about it is added to ``notices``.

    Parameters
    ----------
    path:
        The file.
    notices:
        Changed in place.
    stored:
        Leave the picture as it is stored, because labels lie on those pixels, instead of turning it upright.

    Raises
    ------
    ValueError
        If it is not a picture that can be read.
    """
    loaded = load_file(path)
    picture = loaded.picture
    if loaded.frames > 1:
        notices.append(f"the first of {loaded.frames} pictures in the {loaded.format} file")
    if loaded.orientation in _TURNS and not stored:
        notices.append("turned upright, as its EXIF orientation says")
        if loaded.format != "TIFF":  # the library's reader of TIFF turns by itself
            picture = picture.transpose(_TURNS[loaded.orientation])
    with _quiet():
        return _as_rgb(path, picture, notices)


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _NO_PIXELS]


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and messages, no limit of pixels (ours is checked) and room for text, of the library."""
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = None
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = _TEXT_BYTES
        try:
            with _muted():
                yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before


@contextmanager
def _muted() -> Iterator[None]:
    """Nothing on the terminal from the decoders in C, which write past Python's streams."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no such stream
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _frames(file: Any) -> int:
    """Pictures in a file; 1 if what follows the first is damaged."""
    try:
        return int(getattr(file, "n_frames", 1))
    except Exception:  # the first is read all the same
        return 1
    finally:
        if file.tell():
            file.seek(0)


def _orientation(file: Image.Image) -> int:
    """How a picture is stored; upright where metadata cannot be read."""
    try:
        found = file.getexif().get(_ORIENTATION, 1)
    except Exception:  # of many kinds, according to what is broken
        return 1
    return found if found in _TURNS else 1


def _what(begin: bytes) -> str:
    """What a file is that begins so."""
    if begin[4:8] == b"ftyp" and begin[8:12] in _BRANDS:
        return "HEIC, as phones write it: save it as a JPEG"
    if begin.lstrip()[:1] == b"<":
        return "a web page or a drawing (SVG): fetch the picture itself, or save it as a PNG"
    found = next((what for start, what in _BEGINS if (begin.startswith(start) if start else not begin)), "")
    return found or "of no known format, or damaged at its beginning"


def _as_rgb(path: Path, picture: Image.Image, notices: list[str]) -> Image.Image:
    mode = picture.mode
    if mode == "RGB" and not picture.has_transparency_data:
        return picture
    if mode != "RGB":
        notices.append(f"converted from mode {mode} to three 8-bit colours")
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_grey(path, np.asarray(picture), notices)).convert("RGB")
    try:
        if mode in ("La", "RGBa"):
            picture = picture.convert("LA" if mode == "La" else "RGBA")
        if picture.has_transparency_data:
            notices.append("transparent parts are shown on black")
            picture = picture.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert("RGB")
        return picture.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{path} has colours of mode {mode}; save it with red, green and blue") from error


def _grey(path: Path, values: np.ndarray, notices: list[str]) -> np.ndarray:
    """Bytes of grey values deeper than a byte: 0 to 1, 0 to 255 or 0 to 65535, whichever is the least that holds all.

    Integers up to 255 are bytes, and one of floating point is white if none is more.
    """
    finite = np.isfinite(values)
    if not finite.all():
        row, column = (int(place[0]) for place in np.nonzero(~finite))
        raise ValueError(
            f"not finite: {path} has {int((~finite).sum()):,} NaN or infinite pixels, the first in row {row}, column "
            f"{column}; fill them first"
        )
    least, most = float(values.min(initial=0)), float(values.max(initial=0))
    if least < 0 or most > 65535:
        raise ValueError(
            f"out of range: pixels of {path} lie in [{least:g}, {most:g}], expected 0 to 1 (floating point), 0 to 255 "
            "or 0 to 65535: scale them first"
        )
    white = 1 if values.dtype.kind == "f" and most <= 1 else 255 if most <= 255 else 65535
    notices.append(f"grey values up to {most:g}: {white} is white")
    return np.rint(values.astype(np.float32) * np.float32(255 / white)).astype(np.uint8)
