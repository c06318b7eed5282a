"""Positions of a vision transformer: which patches they are of, and how they are fitted to another image size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from tessera.golden.config import ModelConfig
from tessera.sw.models.networks import Tensors
from tessera.sw.models.options import Options
from tessera.sw.models.state_dict import Finding, axis, common

_PUBLISHED = (224, 224)
"""Images of most published models: taken where a state dict has no positions to count."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The patches of a trained model.

    Members: edge of a ``patch`` in pixels; ``rows`` and ``columns`` of patches; ``classless``: the class token has no
    position of its own; ``problem``, what keeps the rest from being known, or empty; ``notices``, what was assumed.
    """

    patch: int
    rows: int
    columns: int
    classless: bool = False
    problem: str = ""
    notices: tuple[str, ...] = ()

    @property
    def findings(self) -> list[Finding]:
        """The problem as a finding about the positions."""
        return [Finding(about="pos_embed", line=self.problem, explains="^pos_embed$")] if self.problem else []


def read_grid(tensors: Tensors, options: Options) -> Grid:
    """The patches that the positions of a state dict are of, as far as their number and ``options`` say."""
    patch = common(axis(tensors, r"patch_embed\.proj\.weight", -1), 16)
    positions = common(axis(tensors, "pos_embed", 1), 0)
    try:
        if not positions:
            rows, columns = patch_grid(options.trained_size or options.image_size or _PUBLISHED, patch)
            return Grid(patch=patch, rows=rows, columns=columns)
        if options.trained_size:
            return _told_grid(positions, patch, options.trained_size)
        return _square_grid(positions, patch)
    except ValueError as error:
        return Grid(patch=patch, rows=1, columns=max(1, positions - 1), problem=str(error))


def _told_grid(positions: int, patch: int, size: tuple[int, int]) -> Grid:
    """The grid of images of a size; the class token has no position if there is none left for it."""
    rows, columns = patch_grid(size, patch)
    if positions - rows * columns not in (0, 1):
        raise ValueError(
            f"images of {size[0]}x{size[1]} have {rows} x {columns} patches of {patch}, but pos_embed is of "
            f"{positions - 1}: give the size of the training images with --trained-size HxW"
        )
    classless = positions == rows * columns
    return Grid(patch=patch, rows=rows, columns=columns, classless=classless, notices=_classless(classless))


def _square_grid(positions: int, patch: int) -> Grid:
    """The square grid that a number of positions is of: with the class token's, or else without."""
    for special in (1, 0):
        edge = math.isqrt(max(positions - special, 0))
        if edge and edge * edge == positions - special:
            notice = (
                f"{positions} positions taken as {edge} x {edge} patches"
                f"{' and the class token' if special else ''}: --trained-size HxW for another shape"
            )
            return Grid(
                patch=patch,
                rows=edge,
                columns=edge,
                classless=not special,
                notices=(notice, *_classless(not special)),
            )
    raise ValueError(
        f"pos_embed has {positions} positions, {positions - 1} without the class token, which is no square: say the "
        "size of the training images with --trained-size HxW"
    )


def _classless(true: bool) -> tuple[str, ...]:
    return ("the class token has no position of its own (no_embed_class): taken as 0",) if true else ()


def patch_grid(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """The grid of an image size; ValueError unless it is a whole number of patches."""
    if min(size) < patch or size[0] % patch or size[1] % patch:
        raise ValueError(
            f"image {size[0]}x{size[1]} is not a whole number of {patch}x{patch} patches: choose multiples of {patch}"
        )
    return size[0] // patch, size[1] // patch


def with_class_position(tensors: Tensors, grid: Grid) -> None:
    """Put a position of zeros before the others if the class token has none of its own."""
    if grid.classless and "pos_embed" in tensors:
        positions = tensors["pos_embed"]
        tensors["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)


def resized_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Positions (1, 1 + patches, D) for another grid: bicubic and antialiased, as timm does; the class token stays."""
    if old == new:
        return positions
    token, patches = positions[:, :1], positions[:, 1:]
    plane = patches.reshape(1, *old, -1).permute(0, 3, 1, 2)
    plane = functional.interpolate(plane, size=new, mode="bicubic", antialias=True)
    return torch.cat([token, plane.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1)], dim=1)


def fit_positions(tensors: Tensors, trained: ModelConfig, config: ModelConfig) -> list[str]:
    """Interpolate the positions of a trained geometry to another; a notice if that changed anything."""
    if trained.grid == config.grid:
        return []
    tensors["pos_embed"] = resized_positions(tensors["pos_embed"], trained.grid, config.grid)
    old, new = (f"{grid[0]} x {grid[1]}" for grid in (trained.grid, config.grid))
    return [f"positions interpolated from {old} to {new} patches"]
