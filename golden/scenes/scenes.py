"""Procedural driving scenes with exact labels and depth: the project's own data set, generated, never downloaded.

A pinhole camera 1.5 m above a road looks along it. Ground, road and a wall of facades on either side are ray-cast for
all pixels at once; vehicles, people, poles and trees are upright sprites drawn far to near. A scene is a pure function
of (data version, index, size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tessera.golden.scenes import sprites
from tessera.golden.scenes.common import (
    BUILDING,
    CAMERA_HEIGHT,
    DEPTH_CAP,
    GROUND,
    ROAD,
    SKY,
    VEGETATION,
    Canvas,
    smooth_noise,
)

DATA_VERSION = 1
"""Raised whenever the same index would give other pixels; recorded in checkpoints."""

SMALLEST = 16
"""Height and width from which on a scene is drawn pixel by pixel."""

HELD_OUT = 1_000_000
"""Scenes from this index on are never trained on."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One scene: ``image`` (H, W, 3) bytes, ``label`` (H, W) class bytes, ``depth`` (H, W) float32 metres."""

    image: Bytes
    label: Bytes
    depth: NDArray[np.float32]


def generate(index: int, *, height: int = 64, width: int = 128) -> Scene:
    """Generate scene ``index`` at ``height`` x ``width`` pixels.

    Indices from :data:`HELD_OUT` on are for evaluation. Sky has the depth cap of 80 m. A scene below
    :data:`SMALLEST` pixels is drawn larger by a whole factor and reduced.

    Raises
    ------
    ValueError
        For a negative index or an image without pixels.
    """
    if index < 0 or height < 1 or width < 1:
        raise ValueError(f"scene {index} at {height}x{width}: expected an index of at least 0 and 1x1 pixels or more")
    if (times := -(-SMALLEST // min(height, width))) > 1:
        return _reduced(generate(index, height=times * height, width=times * width), times)
    rng = np.random.default_rng([DATA_VERSION, index])
    canvas = Canvas.random(rng, height, width)
    road_half = rng.uniform(3.0, 6.5)
    offset = rng.uniform(-0.5, 0.5) * road_half
    left, right = -road_half - offset, road_half - offset
    _paint_sky(canvas, rng)
    verge = (rng.uniform(1.0, 5.0), rng.uniform(1.0, 5.0))
    _paint_ground(canvas, rng, left, right)
    _paint_wall(canvas, rng, left - verge[0], -1)
    _paint_wall(canvas, rng, right + verge[1], +1)
    sprites.populate(canvas, rng, left, right, verge)
    return Scene(image=_expose(canvas, rng), label=canvas.label, depth=canvas.depth)


def _reduced(scene: Scene, times: int) -> Scene:
    """A scene of ``times`` fewer pixels each way: colours on average, labels and depth of the middle pixel."""
    height, width = (size // times for size in scene.label.shape)
    blocks = scene.image.reshape(height, times, width, times, 3)
    middle = (slice(times // 2, None, times),) * 2
    image = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return Scene(image=image, label=scene.label[middle].copy(), depth=scene.depth[middle].copy())


def generate_batch(indices: list[int] | range, *, height: int = 64, width: int = 128) -> Scene:
    """Several scenes stacked along a leading axis."""
    scenes = [generate(index, height=height, width=width) for index in indices]
    return Scene(
        image=np.stack([scene.image for scene in scenes]),
        label=np.stack([scene.label for scene in scenes]),
        depth=np.stack([scene.depth for scene in scenes]),
    )


def _paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    zenith, cloud = canvas.sky * rng.uniform(0.45, 1.0), np.float32(rng.uniform(0.6, 1.0))
    blend = np.clip(canvas.rows / max(canvas.horizon, 1.0), 0, 1)[:, None, None]
    colour = zenith + (canvas.sky - zenith) * blend
    cover = np.clip(smooth_noise(rng, canvas.height, canvas.width, 5) * 1.6 - rng.uniform(0.2, 1.4), 0, 1)
    canvas.colour[:] = colour + (cloud - colour) * cover[:, :, None] * 0.8
    canvas.label[:] = SKY
    canvas.depth[:] = DEPTH_CAP


def _paint_ground(canvas: Canvas, rng: np.random.Generator, left: float, right: float) -> None:
    below = canvas.rows - canvas.horizon
    first = int(np.searchsorted(below, CAMERA_HEIGHT * canvas.focal / DEPTH_CAP))
    z = (CAMERA_HEIGHT * canvas.focal / below[first:]).astype(np.float32)
    x = (canvas.columns[None, :] - canvas.centre) * z[:, None] / canvas.focal
    texture = smooth_noise(rng, len(z), canvas.width, 9)[:, :, None] - 0.5
    fine = rng.normal(0, 0.03, (len(z), canvas.width, 1)).astype(np.float32)
    grass = rng.random(2) < 0.5
    road = (x > left) & (x < right)
    grey = rng.uniform(0.22, 0.48) * (1 + rng.uniform(-0.06, 0.06, 3))
    paved = rng.uniform(0.35, 0.65) * (1 + rng.uniform(-0.12, 0.12, 3))
    green = np.array([rng.uniform(0.25, 0.5), rng.uniform(0.35, 0.55), rng.uniform(0.1, 0.25)])
    colour = np.where((x < left)[..., None], green if grass[0] else paved, green if grass[1] else paved * 0.95)
    dash = (z[:, None] + rng.uniform(0, 8)) % 8.0 < rng.uniform(2.5, 5.0)
    middle = (left + right) / 2
    line = (np.abs(x - middle) < 0.12 + z[:, None] * 0.004) & dash
    edge = np.minimum(np.abs(x - left - 0.3), np.abs(x - right + 0.3)) < 0.1 + z[:, None] * 0.003
    if rng.random() < 0.7:
        line |= edge
    surface = np.where(line[..., None], rng.uniform(0.65, 0.9), grey)
    colour = np.where(road[..., None], surface, colour)
    canvas.colour[first:] = canvas.fogged(colour * canvas.ground_light * (1 + 0.35 * texture + fine), z[:, None, None])
    canvas.label[first:] = np.where(road, ROAD, GROUND)
    canvas.depth[first:] = z[:, None]


def _paint_wall(canvas: Canvas, rng: np.random.Generator, lateral: float, side: int) -> None:
    """Facades, hedges and gaps along a vertical plane parallel to the road at ``lateral`` metres."""
    u = canvas.columns - canvas.centre
    facing = u * side > 0.5
    z = np.full(canvas.width, np.inf, np.float32)
    z[facing] = lateral * canvas.focal / u[facing]
    # Segments of random length along the road, each with its own height, colour and kind.
    edges = np.cumsum(rng.uniform(5.0, 22.0, 14)) - rng.uniform(0, 8)
    segment = np.minimum(np.searchsorted(edges, z), 13)
    urban = rng.uniform(0.1, 0.9)
    kind = rng.random(14)
    heights = np.where(kind < urban, rng.uniform(4.0, 22.0, 14), rng.uniform(1.2, 6.0, 14))
    label = np.where(kind < urban, BUILDING, VEGETATION).astype(np.uint8)
    empty = kind > urban + (1 - urban) * 0.6
    seen = facing & (z < DEPTH_CAP) & ~empty[segment]
    where = np.flatnonzero(seen)
    if not len(where):
        return
    z, segment = z[where], segment[where]
    y = CAMERA_HEIGHT - (canvas.rows[:, None] - canvas.horizon) * z / canvas.focal
    ragged = np.where(label[segment] == VEGETATION, rng.uniform(-0.6, 0.6, len(z)) * heights[segment] * 0.25, 0)
    inside = (y > 0) & (y < heights[segment] + ragged)
    base = rng.uniform(0.25, 0.8, (14, 1)) * (1 + rng.uniform(-0.25, 0.25, (14, 3)))
    leaf = np.stack([rng.uniform(0.12, 0.35, 14), rng.uniform(0.22, 0.45, 14), rng.uniform(0.05, 0.2, 14)], axis=1)
    colour = np.where((label == BUILDING)[:, None], base, leaf)[segment] * canvas.side_light(side)
    pitch, storey = rng.uniform(2.0, 4.0, 14)[segment], rng.uniform(2.6, 3.6, 14)[segment]
    window = ((z % pitch) / pitch > 0.45) & ((y % storey) / storey > 0.45) & (label[segment] == BUILDING)
    pane = rng.uniform(0.1, 0.9, (14, 1))[segment]
    shade = np.where(window[..., None], colour * pane, colour)
    rough = np.where(label[segment] == BUILDING, 0.04, 0.22)[:, None]
    shade = shade * (1 + rough * rng.standard_normal((canvas.height, len(z), 1), dtype=np.float32))
    rows, columns = np.nonzero(inside)
    canvas.colour[rows, where[columns]] = canvas.fogged(shade[rows, columns], z[columns, None])
    canvas.label[rows, where[columns]] = label[segment[columns]]
    canvas.depth[rows, where[columns]] = z[columns]


def _expose(canvas: Canvas, rng: np.random.Generator) -> Bytes:
    """Light, white balance, contrast, vignette and sensor noise; then bytes."""
    tint = 1 + rng.uniform(-0.12, 0.12, 3)
    exposure = rng.uniform(0.35, 1.15)
    radius = ((canvas.columns / canvas.width - 0.5) ** 2)[None, :] + ((canvas.rows / canvas.height - 0.5) ** 2)[:, None]
    gain = (exposure * tint) * (1 - rng.uniform(0, 0.6) * radius)[..., None]
    noise = rng.standard_normal(canvas.colour.shape, dtype=np.float32) * rng.uniform(0.005, 0.045)
    return (np.clip(canvas.colour * gain + noise + rng.uniform(-0.02, 0.06), 0, 1) * 255 + 0.5).astype(np.uint8)
