"""Reading one file of a dataset, whatever its format; every error names the file and what was expected of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tessera.common.files import check_readable
from tessera.sw.data.picture_files import load_file, open_rgb

_SUFFIXES = {".npy", ".mat"}
_LARGEST = 2.0**31
"""Floating-point numbers from here on are no labels."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """A picture of any mode as bytes (H, W, 3), as it is stored: labels lie on those pixels."""
    return np.asarray(open_rgb(path, [], stored=True), np.uint8)


def read_integers(path: Path, what: str) -> NDArray[np.int64]:
    """A picture of one channel, 8 or 16 bits or palette numbers, as integers (H, W)."""
    picture = load_file(path).picture
    bands, values = len(picture.getbands()), np.asarray(picture)
    if bands != 1 or values.ndim != 2:
        raise ValueError(f"{path} has {bands} channels, expected one with {what}; is it a picture in colours?")
    return whole_numbers(values, path)


def read_array(path: Path, key: str) -> NDArray:
    """A two-dimensional array: ``.npy``, or variable ``key`` of a MATLAB 5 ``.mat`` file."""
    from scipy.io import loadmat

    check_readable(path)
    try:
        values = np.load(path) if path.suffix == ".npy" else loadmat(path).get(key)
    except Exception as error:  # scipy raises whatever a broken file leads it to
        raise ValueError(
            f"{path} is not a readable {path.suffix} file; it is damaged, or holds no plain numbers: fetch it again"
        ) from error
    if values is None:
        raise ValueError(f"{path} has no variable '{key}'")
    values = np.squeeze(np.asarray(values))
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {values.dtype} of shape {values.shape}, expected numbers (height, width)")
    return values


def read_labels(path: Path, key: str) -> NDArray[np.int64]:
    """Raw labels (H, W) of a picture, ``.npy`` or ``.mat``."""
    if path.suffix not in _SUFFIXES:
        return read_integers(path, "a label for each pixel")
    return whole_numbers(read_array(path, key), path)


def whole_numbers(values: NDArray, path: Path | str) -> NDArray[np.int64]:
    """Numbers of any type as integers; ValueError for those that are none, with value, place and file."""
    if values.dtype.kind == "f":
        wrong = ~((np.abs(values) < _LARGEST) & (np.floor(values) == values))  # NaN is wrong, too
        if wrong.any():
            row, column = (int(place[0]) for place in np.nonzero(wrong))
            raise ValueError(
                f"not a whole number: {path} has {int(wrong.sum()):,} such pixels, the first is "
                f"{values[row, column]:g} in row {row}, column {column}; expected whole numbers: save it with integers"
            )
    return values.astype(np.int64)


def remap(labels: NDArray[np.int64], table: NDArray[np.int64], path: Path | str) -> NDArray[np.uint8]:
    """Classes of raw labels, by a table with an entry for each.

    Raises
    ------
    ValueError
        For a label outside the table, or one whose entry is negative; with its value, place and file.
    """
    inside = (labels >= 0) & (labels < len(table))
    classes = np.where(inside, table[np.where(inside, labels, 0)], -1)
    wrong = classes < 0
    if wrong.any():
        values = np.unique(labels[wrong])
        row, column = (int(place[0]) for place in np.nonzero(wrong))
        known = np.flatnonzero(table >= 0)
        raise ValueError(
            f"label out of range: {path} has {int(wrong.sum()):,} pixels of {_few(values)}, the first in row {row}, "
            f"column {column}; expected {known.min()} to {known.max()}: fetch the file again, or see what labels it has"
        )
    return classes.astype(np.uint8)


def as_depth(values: NDArray, limit: float) -> NDArray[np.float32]:
    """Metres (H, W) with NaN for what is no distance (zero, negative, infinite), infinite beyond ``limit`` metres."""
    with np.errstate(over="ignore"):
        depth = values.astype(np.float32)
    depth[~(np.isfinite(values) & (depth > 0))] = np.nan
    depth[depth > limit] = np.inf
    return depth


def check_size(path: Path | str, values: NDArray, image: NDArray) -> None:
    """ValueError unless ``values`` of the file at ``path`` cover ``image``."""
    if values.shape != image.shape[:2]:
        got, want = "x".join(map(str, values.shape)), "x".join(map(str, image.shape[:2]))
        raise ValueError(f"{path} is {got} pixels (height x width), its picture is {want}: they do not belong together")


def classes_of_file(path: Path, labels: NDArray, table: NDArray, image: NDArray) -> NDArray[np.uint8]:
    """Classes of the labels in the file at ``path``, which must cover ``image``; see :func:`remap`."""
    classes = remap(labels, table, path)
    check_size(path, classes, image)
    return classes


def read_names(path: Path) -> list[str]:
    """The lines of a list of pictures, without empty ones."""
    names = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    names = [name for name in names if name]
    if not names:
        raise ValueError(f"{path} is empty, expected the name of a picture in each line: fetch it again")
    return names


def first_there(candidates: Sequence[Path]) -> Path | None:
    """The first of some files that exists."""
    return next((path for path in candidates if path.is_file()), None)


def _few(values: NDArray) -> str:
    shown = ", ".join(map(str, values[:5]))
    return f"label {shown}" if len(values) <= 5 else f"label {shown} and {len(values) - 5} others"
