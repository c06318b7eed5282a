"""Upright sprites of a procedural scene: vehicles, people, poles and trees, drawn far to near."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tessera.golden.scenes.common import CAMERA_HEIGHT, DEPTH_CAP, PERSON, POLE, VEGETATION, VEHICLE, Canvas

Grid = NDArray[np.float32]
Look = tuple[NDArray[np.bool_], NDArray]
"""Where a sprite covers its box, and its colour there (broadcastable to rows x columns x 3)."""


def populate(canvas: Canvas, rng: np.random.Generator, left: float, right: float, verge: tuple[float, float]) -> None:
    """Place a random number of objects on the road (``left`` to ``right``, metres) and on its verges, and draw them."""
    crowd = rng.uniform(0.3, 1.0)
    kinds = [VEHICLE] * rng.binomial(9, crowd * 0.7) + [PERSON] * rng.binomial(12, crowd * 0.7)
    kinds += [POLE] * rng.binomial(8, 0.5) + [VEGETATION] * rng.binomial(7, rng.uniform(0.0, 0.8))
    distances = 4.0 + 46.0 * rng.random(len(kinds)) ** 1.4
    for number in np.argsort(-distances):
        kind, z = kinds[number], float(distances[number])
        side = -1 if rng.random() < 0.5 else 1
        kerb = left if side < 0 else right
        beyond = kerb + side * rng.uniform(0.3, max(0.5, verge[side > 0]))
        if kind == VEHICLE:
            # Parked at the kerb or driving in one of two lanes.
            parked, driving = kerb - side * rng.uniform(1.2, 1.5), left + (right - left) * rng.choice([0.28, 0.72])
            _vehicle(canvas, rng, parked if rng.random() < 0.5 else driving, z)
        elif kind == PERSON:
            _person(canvas, rng, beyond if rng.random() < 0.7 else rng.uniform(left, right), z)
        elif kind == POLE:
            _pole(canvas, rng, kerb + side * rng.uniform(0.2, 0.8), z, -side)
        else:
            _tree(canvas, rng, beyond + side * rng.uniform(0.5, 4.0), z)


def _box(canvas: Canvas, x: float, z: float, width: float, height: float) -> tuple[slice, slice, Grid, Grid] | None:
    """Pixels of an upright box standing on the ground, with coordinates across (-1 to 1) and up (0 to 1)."""
    scale = canvas.focal / z
    centre, bottom = canvas.centre + x * scale, canvas.horizon + CAMERA_HEIGHT * scale
    half, tall = max(width * scale / 2, 0.55), max(height * scale, 1.1)
    columns = slice(max(int(centre - half), 0), min(int(centre + half) + 1, canvas.width))
    rows = slice(max(int(bottom - tall), 0), min(int(bottom) + 1, canvas.height))
    if columns.stop <= columns.start or rows.stop <= rows.start:
        return None
    across = (canvas.columns[None, columns] - centre) / half
    up = (bottom - canvas.rows[rows, None]) / tall
    return rows, columns, across, up


def _draw(canvas: Canvas, box: tuple[slice, slice, Grid, Grid], look: Look, label: int, z: float) -> None:
    rows, columns, across, up = box
    mask, colour = look
    mask = mask & (np.abs(across) <= 1) & (up >= 0) & (up <= 1) & (canvas.depth[rows, columns] > z - 1.0)
    colour = canvas.fogged(np.broadcast_to(colour, (*mask.shape, 3)), z)
    canvas.colour[rows, columns][mask] = colour[mask]
    canvas.label[rows, columns][mask] = label
    canvas.depth[rows, columns][mask] = min(z, DEPTH_CAP)


def _shadow(canvas: Canvas, x: float, z: float, width: float) -> None:
    box = _box(canvas, x, max(z - 0.3, 1.0), width, 0.18)
    if box is not None:
        canvas.colour[box[0], box[1]] *= np.where(np.abs(box[2]) <= 1, 0.45, 1.0)[..., None]


def _vehicle(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    van = rng.random() < 0.25
    width = rng.uniform(2.0, 2.4) if van else rng.uniform(1.6, 1.95)
    height = rng.uniform(2.2, 3.2) if van else rng.uniform(1.35, 1.7)
    paint = rng.uniform(0.05, 0.95) * (1 + rng.uniform(-0.3, 0.3, 3)) if rng.random() < 0.5 else rng.uniform(0, 0.9, 3)
    glass, lamp = rng.uniform(0.05, 0.35), rng.random()
    _shadow(canvas, x, z, width * 1.1)
    box = _box(canvas, x, z, width, height)
    if box is None:
        return
    _, _, across, up = box
    waist = 0.75 if van else 0.55
    cabin = 1.0 if van else 0.95 - 0.55 * np.clip(up - waist, 0, 1)
    mask = (np.abs(across) < np.where(up > waist, cabin, 1.0)) & ((up > 0.18) | (np.abs(across) > 0.6))
    window = (up > waist) & (up < 0.93) & (np.abs(across) < cabin - 0.12)
    lights = (np.abs(np.abs(across) - 0.8) < 0.15) & (np.abs(up - 0.42) < 0.07)
    colour = np.where(window[..., None], glass, paint * (0.75 + 0.35 * up[..., None]))
    colour = np.where((up < 0.2)[..., None], 0.06, colour)
    colour = np.where(lights[..., None], [0.9, 0.1 if lamp < 0.6 else 0.9, 0.1 if lamp < 0.6 else 0.75], colour)
    _draw(canvas, box, (mask, colour), VEHICLE, z)


def _person(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    box = _box(canvas, x, z, rng.uniform(0.5, 0.7), rng.uniform(1.5, 1.95))
    if box is None:
        return
    _, _, across, up = box
    stride = rng.uniform(0.0, 0.5)
    head = (across / 0.42) ** 2 + ((up - 0.91) / 0.09) ** 2 < 1
    torso = (up > 0.45) & (up < 0.83) & (np.abs(across) < 0.85)
    legs = (up <= 0.45) & (np.abs(across) < 0.65) & (np.abs(across) > stride * (0.4 - up))
    skin = np.array([0.85, 0.62, 0.48]) * rng.uniform(0.3, 1.0)
    top, bottom = rng.uniform(0.03, 0.95, 3), rng.uniform(0.03, 0.5) * (1 + rng.uniform(-0.3, 0.3, 3))
    colour = np.where(head[..., None], skin, np.where((up > 0.45)[..., None], top, bottom))
    _shadow(canvas, x, z, 0.6)
    _draw(canvas, box, (head | torso | legs, colour), PERSON, z)


def _pole(canvas: Canvas, rng: np.random.Generator, x: float, z: float, arm: int) -> None:
    grey = rng.uniform(0.08, 0.7) * (1 + rng.uniform(-0.05, 0.05, 3))
    height = rng.uniform(3.0, 7.5)
    box = _box(canvas, x, z, rng.uniform(0.22, 0.4), height)
    if box is not None:
        shaft = np.ones((len(box[3]), box[2].shape[1]), bool)
        _draw(canvas, box, (shaft, grey * (1 - 0.3 * box[2])[..., None]), POLE, z)
    # A sign (a plate near the top) or a lamp's arm reaching over the road.
    plate = rng.random() < 0.5
    width, depth = (rng.uniform(0.6, 1.1), 0.8 / height) if plate else (rng.uniform(2.0, 4.0), 0.3 / height)
    box = _box(canvas, x if plate else x + arm * width / 2, z, width, height)
    if box is not None:
        mask = np.broadcast_to(box[3] > 1 - depth, (len(box[3]), box[2].shape[1]))
        _draw(canvas, box, (mask, rng.uniform(0.1, 0.95, 3) if plate else grey), POLE, z)


def _tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    bush = rng.random() < 0.35
    width = rng.uniform(1.0, 2.5) if bush else rng.uniform(2.5, 5.5)
    height = rng.uniform(0.8, 1.8) if bush else rng.uniform(4.0, 9.0)
    box = _box(canvas, x, z, width, height)
    if box is None:
        return
    _, _, across, up = box
    middle, tall = (0.45, 0.55) if bush else (0.66, 0.34)
    shape = (len(up), across.shape[1])
    texture = rng.standard_normal(shape).astype(np.float32)
    crown = across**2 + ((up - middle) / tall) ** 2 < 1 + 0.15 * texture
    trunk = (np.abs(across) < 0.09) & (up < middle)
    leaf = np.array([rng.uniform(0.12, 0.4), rng.uniform(0.2, 0.45), rng.uniform(0.04, 0.2)])
    bark = np.array([0.28, 0.2, 0.14]) * rng.uniform(0.6, 1.4)
    light = canvas.light[1] * (1 + across) / 2 + canvas.light[0] * (1 - across) / 2
    colour = np.where(crown[..., None], leaf * ((0.6 + 0.6 * up) * light * (1 + 0.2 * texture))[..., None], bark)
    _shadow(canvas, x, z, width * 0.8)
    _draw(canvas, box, (crown | trunk, colour), VEGETATION, z)
