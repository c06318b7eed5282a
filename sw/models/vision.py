"""What readers of vision transformers share: image sizes, positions, and the way pixels were normalised."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor

from tessera.golden.config import ModelConfig
from tessera.golden.model import PIXEL_SCALE
from tessera.sw.models.state_dict import Tensors, Unsupported, axis, common

SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
"""What published models of a width are called."""

NORMALISATIONS = {
    "raw": ((0.0, 0.0, 0.0), None),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Mean and deviation taken off pixels in [0, 1]. ``raw``: none, and bytes / 256 as our model takes them."""

UNSUPPORTED = (
    Unsupported(
        pattern=r"dist_token|head_dist",
        what="a distillation token",
        instead="the model trained without one, such as deit_tiny_patch16_224",
    ),
    Unsupported(
        pattern=r"reg_token", what="register tokens", instead="the model without them, such as vit_small_patch16_224"
    ),
    Unsupported(
        pattern=r"\.ls[12]\.gamma|\.gamma_[12]$",
        what="LayerScale",
        instead="multiply the rows of attn.proj and mlp.fc2 by gamma, and leave it out",
    ),
    Unsupported(
        pattern=r"\.attn\.[qk]_norm\.|\.attn\.norm\.",
        what="a norm inside attention",
        instead="a model without it, such as deit_small_patch16_224",
    ),
    Unsupported(
        pattern=r"relative_position_|rel_pos|\.attn\.rope|freqs",
        what="relative or rotary positions",
        instead="learnt absolute positions (pos_embed), as in deit_small_patch16_224",
    ),
    Unsupported(
        pattern=r"\.mlp\.(fc1_g|fc1_x|w12|w3|norm)\b",
        what="a gated MLP (SwiGLU)",
        instead="two layers with GELU between, as in deit_small_patch16_224",
    ),
    Unsupported(
        pattern=r"patch_embed\.(backbone|conv|norm|proj\.\d)",
        what="a convolutional or normalised patch embedding",
        instead="one convolution of a patch, as in deit_small_patch16_224",
    ),
    Unsupported(pattern=r"^norm_pre\.", what="a norm before the first block", instead="a model without it, not CLIP's"),
    Unsupported(
        pattern=r"^fc_norm\.|^attn_pool\.",
        what="pooling over patches",
        instead="a head on the class token, as in deit_small_patch16_224",
    ),
    Unsupported(
        pattern=r"^pre_logits\.", what="a layer between norm and head", instead="a model whose head follows the norm"
    ),
    Unsupported(
        pattern=r"^layers\.\d+\.|^stages\.\d+\.",
        what="a hierarchy of stages (Swin, ConvNeXt)",
        instead="a plain vision transformer, such as deit_small_patch16_224",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a state dict does not say.

    Parameters
    ----------
    image_size:
        Height and width to import the model for; None for those it was trained with. Positions are interpolated.
    trained_size:
        Height and width it was trained with; None if they are equal.
    heads:
        Attention heads; None for those of the published model of that width.
    top_k:
        Experts for each token; None for the usual number.
    tasks:
        Names of the tasks; None for those that the checkpoint suggests.
    pixels:
        One of ``NORMALISATIONS``; None for the format's own.
    backbone_only:
        Leave heads out: the result is the residual stream after the last layer.
    """

    image_size: tuple[int, int] | None = None
    trained_size: tuple[int, int] | None = None
    heads: int | None = None
    top_k: int | None = None
    tasks: tuple[str, ...] | None = None
    pixels: str | None = None
    backbone_only: bool = False

    @property
    def given(self) -> set[str]:
        """Names of those that differ from their defaults."""
        return {name for name, value in vars(self).items() if value not in (None, False)}


def trained_grid(positions: int, patch: int, size: tuple[int, int] | None) -> tuple[int, int]:
    """Patches down and across of the trained model, from its number of positions (class token included).

    Raises
    ------
    ValueError
        If the size it was trained with must be told, or does not give that many positions.
    """
    patches = positions - 1
    if size is None:
        edge = math.isqrt(max(patches, 0))
        if edge * edge != patches or not edge:
            raise ValueError(
                f"pos_embed has {positions} positions, {patches} without the class token, which is no square: say the "
                "size of the training images with --trained-size HxW"
            )
        return edge, edge
    grid = size[0] // patch, size[1] // patch
    if grid[0] * grid[1] != patches:
        raise ValueError(
            f"images of {size[0]}x{size[1]} have {grid[0]} x {grid[1]} patches of {patch}, but pos_embed is of "
            f"{patches}: give the size of the training images with --trained-size HxW"
        )
    return grid


def resized_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Positions (1, 1 + patches, D) for another grid: bicubic and antialiased, as timm does; the class token stays."""
    if old == new:
        return positions
    token, patches = positions[:, :1], positions[:, 1:]
    plane = patches.reshape(1, *old, -1).permute(0, 3, 1, 2)
    plane = functional.interpolate(plane, size=new, mode="bicubic", antialias=True)
    return torch.cat([token, plane.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1)], dim=1)


def take_bytes(tensors: Tensors, pixels: str) -> None:
    """Fold the normalisation of pixels into the patch embedding, so that it takes bytes / 256 as our model does.

    Raises
    ------
    ValueError
        For a normalisation that there is none of.
    """
    if pixels not in NORMALISATIONS:
        raise ValueError(f"unknown normalisation of pixels '{pixels}'; choose one of: {', '.join(NORMALISATIONS)}")
    mean, deviation = NORMALISATIONS[pixels]
    if deviation is None:
        return
    weight = tensors["patch_embed.proj.weight"].double() / torch.tensor(deviation).double()[None, :, None, None]
    shift = (weight.sum(dim=(2, 3)) * torch.tensor(mean).double()).sum(dim=1)
    tensors["patch_embed.proj.bias"] = (tensors["patch_embed.proj.bias"].double() - shift).float()
    tensors["patch_embed.proj.weight"] = (weight / (255 * PIXEL_SCALE)).float()


def patch_grid(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """The grid of an image size; ValueError unless it is a whole number of patches."""
    if min(size) < patch or size[0] % patch or size[1] % patch:
        raise ValueError(
            f"image {size[0]}x{size[1]} is not a whole number of {patch}x{patch} patches: choose multiples of {patch}"
        )
    return size[0] // patch, size[1] // patch


def published_heads(dim: int, heads: int | None, published: Mapping[int, int]) -> int:
    """Attention heads: as many as were given, or as the ``published`` model of that width has.

    Raises
    ------
    ValueError
        For a width that no published model has, if none were given.
    """
    found = heads or published.get(dim)
    if found is None:
        raise ValueError(f"{dim} channels are of no published model: say how many attention heads it has with --heads")
    return found


def layer_count(tensors: Tensors) -> int:
    """Blocks, by the highest number among the tensors' names; 12 without any."""
    numbers = [int(match[1]) for match in (re.match(r"blocks\.(\d+)\.", name) for name in tensors) if match]
    return max(numbers, default=11) + 1


def hidden_width(tensors: Tensors, dim: int) -> int:
    """Hidden width of the dense MLPs; four times ``dim`` without any."""
    return common(axis(tensors, r"blocks\.\d+\.mlp\.fc1\.weight", 0), 4 * dim)


def at_size(config: ModelConfig, size: tuple[int, int] | None) -> ModelConfig:
    """The geometry for images of another size; ValueError unless they are a whole number of patches."""
    if size is None:
        return config
    patch_grid(size, config.patch)
    return replace(config, image_height=size[0], image_width=size[1])


def fill_biases(tensors: Tensors) -> None:
    """Zeros for the biases of Q, K and V if the model was made without any."""
    weights = [name for name in tensors if re.fullmatch(r"blocks\.\d+\.attn\.qkv\.weight", name)]
    if not any(re.fullmatch(r"blocks\.\d+\.attn\.qkv\.bias", name) for name in tensors):
        for name in weights:
            tensors[name.replace("weight", "bias")] = torch.zeros(tensors[name].shape[0])


def patches(tensors: Tensors, options: Options) -> tuple[int, tuple[int, int], list[str]]:
    """Edge of a patch, the trained model's patches down and across, and what keeps them from being known."""
    patch = common(axis(tensors, r"patch_embed\.proj\.weight", -1), 16)
    positions = common(axis(tensors, "pos_embed", 1), 0)
    try:
        if positions:
            return patch, trained_grid(positions, patch, options.trained_size), []
        return patch, patch_grid(options.trained_size or options.image_size or (224, 224), patch), []
    except ValueError as error:
        return patch, (1, max(1, positions - 1)), [str(error)]


def fit_positions(tensors: Tensors, trained: ModelConfig, config: ModelConfig) -> list[str]:
    """Interpolate the positions of a trained geometry to another; a notice if that changed anything."""
    if trained.grid == config.grid:
        return []
    tensors["pos_embed"] = resized_positions(tensors["pos_embed"], trained.grid, config.grid)
    old, new = (f"{grid[0]} x {grid[1]}" for grid in (trained.grid, config.grid))
    return [f"positions interpolated from {old} to {new} patches"]
