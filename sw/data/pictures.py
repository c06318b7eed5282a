"""Pictures for the machine: files of any size and mode, raw floats, or procedural scenes, as bytes for a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tessera.common.expected import MAYBE, PATH, expect, whole
from tessera.golden.network.compute import PIXEL_SCALE
from tessera.golden.network.network import TakesPictures
from tessera.golden.scenes.scenes import HELD_OUT, Scene, generate
from tessera.sw.data.picture_files import open_rgb

RAW_SUFFIX = ".float32.bin"
"""A raw array of little-endian float32 in C order, without a header: Edge-MoE's tensors and its test picture."""


_ARRAY = "a NumPy array of bytes (uint8) of the shape (H, W, 3), (3, H, W) or (H, W)"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture.

    Members: ``image`` uint8 (3, H, W); ``source`` says where it comes from; ``notices`` what was changed about it;
    ``scene`` has labels and depth when it is a procedural scene.
    """

    image: np.ndarray
    source: str
    notices: tuple[str, ...] = ()
    scene: Scene | None = None


@dataclass(frozen=True, kw_only=True)
class PictureChoice:
    """Which pictures to run.

    Parameters
    ----------
    image:
        Picture file, or bytes as :func:`array_picture` takes them; None for held-out scenes.
    scene:
        Number of the first held-out scene.
    frames:
        Pictures to run: that file again and again, or one scene after the other.

    Raises
    ------
    ValueError
        For a value of another kind, or an array of another type or shape. A file is looked at when it is read.
    """

    image: Path | str | NDArray[np.uint8] | None = None
    scene: int = 0
    frames: int = 1

    def __post_init__(self) -> None:
        expect("image", self.image, (*PATH, np.ndarray, MAYBE), f"the path of a picture, {_ARRAY}, or None for a scene")
        if isinstance(self.image, np.ndarray):
            _check_array(self.image)
        for name in ("scene", "frames"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))

    def check(self, model: TakesPictures | None = None) -> None:
        """ValueError for what :meth:`load` refuses, without generating anything; what takes ``model``, where given."""
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; choose at least 1")
        if self.scene < 0:
            raise ValueError(f"scene is {self.scene}; held-out scenes are numbered from 0")
        if self.image is None or isinstance(self.image, np.ndarray):
            return
        path = _there(self.image)
        if not path.name.endswith(RAW_SUFFIX):
            open_rgb(path, [])
        elif model is not None:
            read_raw(path, model)

    def load(self, model: TakesPictures) -> list[Picture]:
        """The pictures at the model's size; ValueError for less than one, or one that cannot be read."""
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; choose at least 1")
        if isinstance(self.image, np.ndarray):
            return [array_picture(self.image, model)] * self.frames
        if self.image is not None:
            return [load_picture(self.image, model)] * self.frames
        return [scene_picture(model, self.scene + number) for number in range(self.frames)]


FIRST_SCENE = PictureChoice()
"""The first held-out scene."""


def scene_picture(model: TakesPictures, number: int = 0) -> Picture:
    """Held-out scene ``number`` at the model's size: never trained on, nor calibrated with."""
    if number < 0:
        raise ValueError(f"scene is {number}; held-out scenes are numbered from 0")
    scene = generate(HELD_OUT + number, height=model.image_height, width=model.image_width)
    image = np.ascontiguousarray(scene.image.transpose(2, 0, 1))
    return Picture(image=image, source=f"held-out procedural scene {number}", scene=scene)


def load_picture(path: Path | str, model: TakesPictures) -> Picture:
    """Read a picture file, convert it to three bytes a pixel and resize it to what the model takes.

    A file called ``*.float32.bin`` is read by :func:`read_raw`.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a picture that can be read.
    """
    path = _there(path)
    if path.name.endswith(RAW_SUFFIX):
        return read_raw(path, model)
    notices: list[str] = []
    return _fitted(open_rgb(path, notices), model, str(path), notices)


def _there(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the file of a picture")
    if not path.is_file():
        raise ValueError(f"no picture at {path}; give a PNG, JPEG or similar file, or --scene N for a generated one")
    return path


def array_picture(values: NDArray[np.uint8], model: TakesPictures) -> Picture:
    """Bytes in memory, (H, W, 3), (3, H, W) or grey (H, W), resized to what the model takes.

    Raises
    ------
    ValueError
        For another type or shape.
    """
    _check_array(values)
    shape = values.shape
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    elif shape[2] != 3:
        values = values.transpose(1, 2, 0)
    return _fitted(Image.fromarray(np.ascontiguousarray(values)), model, f"array {shape}", [])


def _check_array(values: NDArray[Any]) -> None:
    """ValueError for an array that is no picture."""
    shape = values.shape
    if values.dtype != np.uint8:
        how = ": scale 0 to 1 by 255 and round" if values.dtype.kind == "f" else ""
        raise ValueError(f"the picture is an array of {values.dtype}; expected {_ARRAY}{how}")
    if not values.size or not (len(shape) == 2 or (len(shape) == 3 and 3 in (shape[0], shape[2]))):
        raise ValueError(f"the picture is an array of the shape {shape}; expected {_ARRAY}")


def _fitted(picture: Image.Image, model: TakesPictures, source: str, notices: list[str]) -> Picture:
    """Three bytes a pixel in the model's size; ``notices`` gets what was changed for that."""
    wanted = (model.image_width, model.image_height)
    if picture.size != wanted:
        notices.append(f"resized from {picture.width}x{picture.height} to {wanted[0]}x{wanted[1]} pixels")
        if picture.width * wanted[1] != picture.height * wanted[0]:
            notices.append("the aspect ratio changed: crop the picture to the model's for an undistorted result")
        picture = picture.resize(wanted, Image.Resampling.LANCZOS)
    image = np.ascontiguousarray(np.asarray(picture, np.uint8).transpose(2, 0, 1))
    return Picture(image=image, source=source, notices=tuple(notices))


def read_raw(path: Path, model: TakesPictures) -> Picture:
    """Read raw pixels: float32 (3, H, W) in the model's size, bytes / 256, thus in [0, 1).

    Values between two bytes are rounded to the nearer one, and a notice says so.

    Raises
    ------
    ValueError
        For another size, and for pixels that are not finite or outside [0, 1).
    """
    shape = (3, model.image_height, model.image_width)
    expected, size = 4 * int(np.prod(shape)), path.stat().st_size
    if size != expected:
        state = "truncated, or of another size" if size < expected else "too long, or of another size"
        raise ValueError(
            f"wrong size: {path.name} has {size:,} bytes, expected {expected:,} for the {shape} float32 pixels that "
            f"'{model.name}' takes: {state}"
        )
    values = np.fromfile(path, "<f4").reshape(shape).astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        first = [int(index) for index in np.unravel_index(int((~finite).argmax()), shape)]
        raise ValueError(
            f"not finite: {path.name} has {int((~finite).sum()):,} NaN or infinite pixels, the first at {first}"
        )
    if values.min() < 0 or values.max() >= 1:
        raise ValueError(
            f"out of range: pixels of {path.name} lie in [{values.min():g}, {values.max():g}], expected [0, 1): give "
            "bytes divided by 256, without a mean or deviation taken off"
        )
    steps = values / PIXEL_SCALE
    image = np.minimum(np.rint(steps), 255).astype(np.uint8)
    between = int((image != steps).sum())
    notices = (f"{between:,} values lie between multiples of 1/256: rounded to the nearest",) if between else ()
    return Picture(image=image, source=str(path), notices=notices)
