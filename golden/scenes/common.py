"""What all parts of a procedural scene share: classes, colours, and the canvas with its camera and light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tessera.common.arrays import Singles

CLASS_NAMES = ("road", "ground", "building", "vegetation", "vehicle", "person", "pole", "sky")
ROAD, GROUND, BUILDING, VEGETATION, VEHICLE, PERSON, POLE, SKY = range(8)

CLASS_COLOURS: NDArray[np.uint8] = np.array(
    [
        (128, 64, 128),
        (244, 35, 232),
        (90, 90, 90),
        (107, 142, 35),
        (0, 0, 200),
        (220, 20, 60),
        (240, 200, 40),
        (70, 130, 180),
    ],
    dtype=np.uint8,
)
"""RGB colour of each class in label images."""

DEPTH_CAP = 80.0
"""Depth of the sky and the farthest depth of anything, in metres."""

CAMERA_HEIGHT = 1.5
"""Height of the camera above the ground, in metres."""


def smooth_noise(rng: np.random.Generator, height: int, width: int, knots: int) -> Singles:
    """Noise in [0, 1): a coarse random grid of ``knots`` x 2 ``knots``, bilinearly enlarged to (height, width)."""
    grid = rng.random((knots, 2 * knots), dtype=np.float32)
    row, column = np.linspace(0, knots - 1.001, height), np.linspace(0, 2 * knots - 1.001, width)
    top, left = row.astype(int), column.astype(int)
    down, across = (row - top)[:, None].astype(np.float32), (column - left)[None, :].astype(np.float32)
    rows = grid[top] * (1 - down) + grid[top + 1] * down
    return rows[:, left] * (1 - across) + rows[:, left + 1] * across


@dataclass(kw_only=True)
class Canvas:
    """The picture being painted, and the camera and light it is painted with.

    ``colour`` (H, W, 3) linear light about 0 to 1, ``label`` (H, W), ``depth`` (H, W) metres. ``focal`` is in pixels;
    (``centre``, ``horizon``) is the pixel of the road's vanishing point; ``rows`` and ``columns`` are pixel centres.
    """

    height: int
    width: int
    focal: float
    centre: float
    horizon: float
    sky: Singles
    haze: float
    light: tuple[float, float]
    ground_light: float
    rows: Singles
    columns: Singles
    colour: Singles
    label: NDArray[np.uint8]
    depth: Singles

    @classmethod
    def random(cls, rng: np.random.Generator, height: int, width: int) -> Canvas:
        """A blank canvas under a random camera, sun and haze."""
        sun = rng.uniform(-1, 1)
        overcast = rng.random() < 0.4
        if overcast:
            sky = np.full(3, rng.uniform(0.55, 0.9)) * (1 + rng.uniform(-0.03, 0.03, 3))
        elif rng.random() < 0.25:
            sky = np.array([rng.uniform(0.8, 1.0), rng.uniform(0.5, 0.75), rng.uniform(0.35, 0.65)])
        else:
            sky = np.array([rng.uniform(0.4, 0.7), rng.uniform(0.6, 0.85), rng.uniform(0.85, 1.0)])
        strength = 0.1 if overcast else 0.4
        return cls(
            height=height,
            width=width,
            focal=rng.uniform(0.7, 0.95) * width,
            centre=rng.uniform(0.3, 0.7) * width,
            horizon=rng.uniform(0.34, 0.54) * height,
            sky=sky.astype(np.float32),
            haze=rng.choice([0.0, rng.uniform(0, 0.012), rng.uniform(0.01, 0.03)]),
            light=(1 - strength * sun, 1 + strength * sun),
            ground_light=rng.uniform(0.75, 1.1),
            rows=np.arange(height, dtype=np.float32) + 0.5,
            columns=np.arange(width, dtype=np.float32) + 0.5,
            colour=np.empty((height, width, 3), np.float32),
            label=np.empty((height, width), np.uint8),
            depth=np.empty((height, width), np.float32),
        )

    def side_light(self, side: int) -> float:
        """Light on surfaces left (-1) or right (+1) of the road."""
        return self.light[side > 0]

    def fogged(self, colour: NDArray, z: NDArray | float) -> NDArray:
        """Blend ``colour`` into the sky's with distance ``z`` in metres."""
        keep = np.exp(-self.haze * np.asarray(z, np.float32))
        return colour * keep + self.sky * (1 - keep)
