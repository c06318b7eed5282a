"""Which pictures a model is calibrated on: the user's, a data set's, or generated street scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tessera.common.digest import content_digest
from tessera.common.expected import PATH, expect
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.network.network import TakesPictures
from tessera.sw.data.dataset import listed
from tessera.sw.data.picture_folder import calibration_folder, evenly, load_pictures
from tessera.sw.quantiser.quantise import CALIBRATION_SCENES

CalibrationImages = Path | str | NDArray[np.uint8]
"""A folder of pictures, or bytes (B, 3, H, W) at the model's size."""

MOST = len(CALIBRATION_SCENES)
"""Pictures that are taken of a folder or a data set."""


@dataclass(frozen=True, kw_only=True)
class CalibratedOn:
    """The pictures that ranges, means and covariances of activations are taken from.

    Parameters
    ----------
    source:
        Where they come from, in words.
    images:
        (B, 3, H, W) bytes; None for generated scenes, which the quantiser makes.
    found:
        Pictures that there were to choose from.
    files:
        Names of those that were taken; empty for pictures that are in no file.
    notices:
        What a reader of results should know about them.
    """

    source: str = "procedural training scenes"
    images: NDArray[np.uint8] | None = None
    found: int = MOST
    files: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def used(self) -> int:
        """Number of pictures."""
        return MOST if self.images is None else len(self.images)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form; ``sha256`` is of the pixels, null for scenes."""
        digest = None if self.images is None else content_digest(self.images.tobytes())
        return {
            "source": self.source,
            "found": self.found,
            "used": self.used,
            "files": list(self.files),
            "sha256": digest,
        }


SCENES = CalibratedOn()
"""Generated street scenes, for models that were trained on such."""


def check_calibration_images(given: CalibrationImages) -> None:
    """ValueError for what cannot be calibrated with, as far as that can be told without the model."""
    wanted = "a folder of pictures, or a NumPy array of bytes (uint8) of the shape (B, 3, H, W)"
    expect("calibration_images", given, (*PATH, np.ndarray), wanted)
    if not isinstance(given, np.ndarray):
        calibration_folder(Path(given))
    elif given.dtype != np.uint8 or given.ndim != 4 or given.shape[1] != 3 or not given.size:
        raise ValueError(
            f"calibration pictures are an array of {given.dtype} of the shape {given.shape}; expected bytes (uint8) of "
            "the shape (B, 3, H, W)"
        )


def calibrated_on(given: CalibrationImages | None, model: Checkpoint) -> CalibratedOn:
    """The pictures to calibrate ``model`` on: ``given`` ones, or generated scenes.

    Raises
    ------
    ValueError
        For a folder without pictures, pictures that cannot be read, or an array of another type or size.
    """
    if given is None:
        return scenes_for(model)
    check_calibration_images(given)
    if isinstance(given, np.ndarray):
        return _of_array(given, model.network)
    return _of_folder(Path(given), model.network)


def scenes_for(model: Checkpoint) -> CalibratedOn:
    """Generated scenes, with a notice for a model that was trained on something else."""
    if model.weights != "imported":
        return SCENES
    notice = (
        "calibrated on generated street scenes, which an imported model was not trained on: ranges may be too wide or "
        "too narrow, and outputs several times less exact; give pictures of its own kind with --calibration-images"
    )
    return CalibratedOn(notices=(notice,))


def _of_array(images: NDArray[np.uint8], model: TakesPictures) -> CalibratedOn:
    wanted = (3, model.image_height, model.image_width)
    if images.shape[1:] != wanted:
        raise ValueError(
            f"calibration pictures are an array of the shape {images.shape}; '{model.name}' takes (B, "
            f"{', '.join(map(str, wanted))})"
        )
    return CalibratedOn(source=f"array {images.shape}", images=np.ascontiguousarray(images), found=len(images))


def _of_folder(folder: Path, model: TakesPictures) -> CalibratedOn:
    there = calibration_folder(folder)
    taken = [there.pictures[number] for number in evenly(len(there.pictures), MOST)]
    pictures = load_pictures(taken, model)
    changes = dict.fromkeys(notice for picture in pictures for notice in picture.notices)
    count = f"{len(taken)}" if len(taken) == len(there.pictures) else f"{len(taken)} of {len(there.pictures):,}"
    notices = [f"calibrated on {count} pictures in {folder}" + (f": {listed(list(changes))}" if changes else "")]
    if there.others:
        names = listed([str(path.relative_to(folder)) for path in there.others])
        notices.append(f"left out of the calibration, because they are no pictures: {names}")
    if there.links:
        names = listed([str(path.relative_to(folder)) for path in there.links])
        notices.append(f"links not followed, because what they lead to is read already or lies above: {names}")
    return CalibratedOn(
        source=str(folder),
        images=np.stack([picture.image for picture in pictures]),
        found=len(there.pictures),
        files=tuple(str(path.relative_to(folder)) for path in taken),
        notices=tuple(notices),
    )
