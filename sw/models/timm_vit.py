"""Reader of state dicts of timm's ``VisionTransformer`` (PyTorch Image Models): ViT and DeiT, tiny to large.

Dense blocks, a class token, a final norm and a linear head on the class token: all are ours but the way pixels are
normalised, which goes into the patch embedding. ViT's own weights and DeiT's differ in nothing but that, so each has a
format of its own.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from tessera.common.progress import Progress
from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.model import VisionTransformer
from tessera.sw.models.imported import Imported, ImportProblems
from tessera.sw.models.state_dict import Tensors, axis, common, problems, read_state_dict
from tessera.sw.models.vision import (
    SIZES,
    UNSUPPORTED,
    Options,
    at_size,
    fill_biases,
    fit_positions,
    hidden_width,
    layer_count,
    patches,
    published_heads,
    take_bytes,
)

DEIT, VIT = "timm-deit", "timm-vit"
WHAT = {
    DEIT: "state dict of timm's DeiT (pixels normalised by ImageNet's mean and deviation)",
    VIT: "state dict of timm's ViT (pixels normalised to -1 to 1)",
}
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}
"""Attention heads by width: 64 channels each."""

_PIXELS = {DEIT: "imagenet", VIT: "half"}
_HEAD = re.compile(r"^(norm|head)\.")


def _read(name: str, path: Path, options: Options, on_progress: Progress) -> Imported:
    found = read_state_dict(path, on_progress)
    tensors = {n: t for n, t in found.items() if not (options.backbone_only and _HEAD.match(n))}
    fill_biases(tensors)
    notices: list[str] = []
    patch, grid, wrong = patches(tensors, options)
    trained = _geometry(name, tensors, grid, patch, options, notices)
    expected = {n: tuple(t.shape) for n, t in VisionTransformer(trained).state_dict().items()}
    theirs = {ours.replace(f"heads.{trained.tasks[0].name}.", "head."): shape for ours, shape in expected.items()}
    wrong = problems(tensors, theirs, UNSUPPORTED) + wrong
    if wrong:
        raise ImportProblems(
            f"{path} is no state dict of a timm VisionTransformer that can be imported, read as {trained.tokens} "
            f"tokens of {trained.dim}, {trained.layers} layers",
            wrong,
            "Nothing was written. --backbone-only leaves norm and head out; docs/models.md lists the names and shapes.",
        )
    config = at_size(trained, options.image_size)
    ours = {re.sub(r"^head\.", f"heads.{config.tasks[0].name}.", n): t for n, t in tensors.items()}
    notices += fit_positions(ours, trained, config)
    take_bytes(ours, options.pixels or _PIXELS[name])
    if len(found) > len(tensors):
        notices.append("norm and head were left out: the result is the residual stream after the last layer")
    return Imported(config=config, tensors=ours, source=name, notices=tuple(notices))


def _geometry(
    name: str, tensors: Tensors, grid: tuple[int, int], patch: int, options: Options, notices: list[str]
) -> ModelConfig:
    """The geometry that most of the tensors agree on; what is assumed is added to ``notices``."""
    dim = common(axis(tensors, r"blocks\.\d+\.norm[12]\.weight", 0), 192)
    heads = published_heads(dim, options.heads, HEADS)
    if options.heads is None:
        notices.append(
            f"{heads} attention heads, as published models of {dim} channels have: --heads for another number"
        )
    if options.tasks and len(options.tasks) > 1:
        raise ValueError(f"--tasks names {len(options.tasks)} tasks, the model has one")
    task = options.tasks[0] if options.tasks else "features" if options.backbone_only else "classes"
    channels = common(axis(tensors, r"head\.(weight|bias)", 0), 1000)
    if options.backbone_only:
        tasks = TaskConfig(name=task, kind="features", channels=0, cells=0)
    else:
        tasks = TaskConfig(name=task, kind="classification", channels=channels, cells=1)
    return ModelConfig(
        name=f"{name.removeprefix('timm-')}-{SIZES.get(dim, dim)}",
        image_height=grid[0] * patch,
        image_width=grid[1] * patch,
        patch=patch,
        dim=dim,
        heads=heads,
        layers=layer_count(tensors),
        mlp_hidden=hidden_width(tensors, dim),
        expert_layers=(),
        experts=0,
        expert_hidden=0,
        top_k=0,
        tasks=(tasks,),
        final_norm=not options.backbone_only,
    )


read_deit = partial(_read, DEIT)
"""Read DeiT's; see :func:`tessera.sw.models.importer.import_weights`."""
read_vit = partial(_read, VIT)
"""Read ViT's; see :func:`tessera.sw.models.importer.import_weights`."""
