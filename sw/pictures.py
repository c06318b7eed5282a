"""Pictures for the machine: files of any size and mode, or procedural scenes, as the bytes that a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from golden.config import ModelConfig
from golden.scenes import HELD_OUT, Scene, generate


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


def scene_picture(model: ModelConfig, number: int = 0) -> Picture:
    """Held-out scene ``number`` at the model's size: never trained on, nor calibrated with."""
    if number < 0:
        raise ValueError(f"scene is {number}; held-out scenes are numbered from 0")
    scene = generate(HELD_OUT + number, height=model.image_height, width=model.image_width)
    image = np.ascontiguousarray(scene.image.transpose(2, 0, 1))
    return Picture(image=image, source=f"held-out procedural scene {number}", scene=scene)


def load_picture(path: Path | str, model: ModelConfig) -> Picture:
    """Read a picture file, convert it to three bytes a pixel and resize it to what the model takes.

    Raises
    ------
    ValueError
        If there is no such file, or it is not a picture that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no picture at {path}; give a PNG, JPEG or similar file, or --scene N for a generated one")
    notices: list[str] = []
    try:
        with Image.open(path) as file:
            file.load()
            picture = _as_rgb(file, notices)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is not a readable picture ({error}); give a whole PNG, JPEG or similar file"
        ) from error
    wanted = (model.image_width, model.image_height)
    if picture.size != wanted:
        notices.append(f"resized from {picture.width}x{picture.height} to {wanted[0]}x{wanted[1]} pixels")
        if picture.width * wanted[1] != picture.height * wanted[0]:
            notices.append("the aspect ratio changed: crop the picture to the model's for an undistorted result")
        picture = picture.resize(wanted, Image.Resampling.LANCZOS)
    image = np.ascontiguousarray(np.asarray(picture, np.uint8).transpose(2, 0, 1))
    return Picture(image=image, source=str(path), notices=tuple(notices))


def _as_rgb(picture: Image.Image, notices: list[str]) -> Image.Image:
    if picture.mode == "RGB":
        return picture.copy()
    notices.append(f"converted from mode {picture.mode} to three 8-bit colours")
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, np.float64)
        # 16-bit files use their whole range; what stays within a byte is taken as bytes.
        scale = 255 / 65535 if values.max(initial=0) > 255 else 1.0
        return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        notices.append("transparent parts are shown on black")
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert("RGB")
    return picture.convert("RGB")
