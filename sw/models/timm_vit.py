"""Reader of plain vision transformers: state dicts of timm's ``VisionTransformer``, torchvision's and Hugging Face's.

Dense blocks, a class token, a final norm and a linear head on the class token: all are ours. What differs in form is
folded (:mod:`tessera.sw.models.folds`) or renamed (:mod:`tessera.sw.models.names`), whichever format was named; the
format says how pixels were normalised and what LayerNorm's epsilon is, which a state dict does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from tessera.common.progress import Progress
from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.model import VisionTransformer
from tessera.sw.models.folds import filled_biases, folded_layer_scale, joined_biases, take_bytes, three_colours
from tessera.sw.models.hints import read_hints
from tessera.sw.models.imported import Imported, ImportFormat, ImportProblems
from tessera.sw.models.names import timm_names
from tessera.sw.models.networks import Tensors
from tessera.sw.models.options import COMMON_OPTIONS, Options
from tessera.sw.models.positions import Grid, fit_positions, read_grid, with_class_position
from tessera.sw.models.state_dict import Finding, axis, common, problems, read_state_dict
from tessera.sw.models.structures import (
    SIZES,
    UNSUPPORTED,
    at_size,
    hidden_width,
    lacking_findings,
    layer_count,
    published_heads,
    shape_findings,
    stranger,
)


@dataclass(frozen=True, kw_only=True)
class VitFamily:
    """Models that one library publishes.

    Members: ``name`` of the format; ``what`` it is, in a line; ``whose`` the models are; how ``pixels`` were
    normalised; LayerNorm's ``epsilon``.
    """

    name: str
    what: str
    whose: str
    pixels: str
    epsilon: float = 1e-6


DEIT = VitFamily(
    name="timm-deit",
    what="state dict of timm's DeiT (pixels normalised by ImageNet's mean and deviation)",
    whose="timm's DeiT",
    pixels="imagenet",
)
VIT = VitFamily(
    name="timm-vit",
    what="state dict of timm's ViT (pixels normalised to -1 to 1)",
    whose="timm's ViT",
    pixels="half",
)
TORCHVISION_VIT = VitFamily(
    name="torchvision-vit",
    what="state dict of torchvision's ViT, such as vit_b_16 (pixels normalised by ImageNet's mean and deviation)",
    whose="torchvision's ViT",
    pixels="imagenet",
)
HF_VIT = VitFamily(
    name="hf-vit",
    what="file or folder of Hugging Face's ViTForImageClassification (pixels normalised to -1 to 1)",
    whose="Hugging Face's ViT",
    pixels="half",
    epsilon=1e-12,
)
FAMILIES = (DEIT, VIT, TORCHVISION_VIT, HF_VIT)

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}
"""Attention heads by width: 64 channels each."""

_HEAD = re.compile(r"^(norm|fc_norm|attn_pool|pre_logits|head|head_dist)\.")
_OF_HEAD = re.compile(r"\b(head|norm|fc_norm|pre_logits)\.(weight|bias)")


def read_vit(family: VitFamily, path: Path, options: Options, on_progress: Progress) -> Imported:
    """Read a checkpoint; see :func:`tessera.sw.models.importer.import_weights`."""
    hints = read_hints(path, options)
    options = hints.options
    found = read_state_dict(path, options.part, on_progress)
    tensors, _, notices = timm_names(found.tensors, found.outside)
    if strange := stranger(tensors):
        raise ValueError(
            f"{path} holds {strange}; its {len(found.tensors):,} tensors begin with "
            f"{', '.join(list(found.tensors)[:3])}: give a plain ViT or DeiT, docs/models.md lists the names"
        )
    headless = {n for n in tensors if options.backbone_only and _HEAD.match(n)}
    tensors = {n: t for n, t in tensors.items() if n not in headless}
    joined_biases(tensors)
    notices += filled_biases(tensors)
    folded, wrong = folded_layer_scale(tensors)
    notices = [*found.notices, *hints.notices, *notices, *folded]
    grid = read_grid(tensors, options)
    with_class_position(tensors, grid)
    findings = [*wrong, *shape_findings(tensors), *grid.findings]
    notices += [*three_colours(tensors), *grid.notices]
    trained = _geometry(family, tensors, grid, options, notices)
    sizes = {"layers": trained.layers, "channels": trained.dim, "classes": trained.tasks[0].channels}
    findings += hints.contradictions({n: size for n, size in sizes.items() if size})
    _check(path, tensors, trained, findings)
    published_heads(trained.dim, options.heads, HEADS)
    config = at_size(trained, options.image_size)
    ours = {re.sub(r"^head\.", f"heads.{config.tasks[0].name}.", n): t for n, t in tensors.items()}
    notices += fit_positions(ours, trained, config)
    notices += take_bytes(ours, options, family.pixels, family.whose)
    if headless:
        notices.append("norm and head were left out: the result is the residual stream after the last layer")
    return Imported(config=config, tensors=ours, source=family.name, notices=tuple(notices))


def _check(path: Path, tensors: Tensors, trained: ModelConfig, findings: Sequence[Finding]) -> None:
    """Raise ImportProblems unless every tensor is there, and nothing that the machine has not."""
    task = trained.tasks[0]
    with torch.device("meta"):  # for shapes alone
        expected = {n: tuple(t.shape) for n, t in VisionTransformer(trained).state_dict().items()}
    theirs = {ours.replace(f"heads.{task.name}.", "head."): shape for ours, shape in expected.items()}
    lacking = lacking_findings(tensors, trained.dim, task.channels)
    lines = problems(tensors, theirs, UNSUPPORTED, [*findings, *lacking])
    if lines:
        headless = "--backbone-only leaves norm and head out; " if any(map(_OF_HEAD.search, lines)) else ""
        raise ImportProblems(
            f"{path} is no state dict of a timm VisionTransformer that can be imported, read as {trained.tokens} "
            f"tokens of {trained.dim}, {trained.layers} layers",
            lines,
            f"Nothing was written. {headless}docs/models.md lists the names and shapes.",
        )


def _geometry(family: VitFamily, tensors: Tensors, grid: Grid, options: Options, notices: list[str]) -> ModelConfig:
    """The geometry that most of the tensors agree on; what is assumed is added to ``notices``."""
    dim = common(axis(tensors, r"blocks\.\d+\.norm[12]\.weight", 0), 192)
    heads = options.heads or HEADS.get(dim, 1)
    if options.heads is None:
        notices.append(
            f"{heads} attention heads, as published models of {dim} channels have: --heads for another number"
        )
    epsilon = family.epsilon if options.epsilon is None else options.epsilon
    if options.epsilon is None:
        notices.append(f"LayerNorm's epsilon is {epsilon:g}, as in {family.whose}: --epsilon for another")
    if options.tasks and len(options.tasks) > 1:
        raise ValueError(f"--tasks names {len(options.tasks)} tasks, the model has one")
    task = options.tasks[0] if options.tasks else "features" if options.backbone_only else "classes"
    channels = common(axis(tensors, r"head\.(weight|bias)", 0), 1000) or 1000
    if options.backbone_only:
        tasks = TaskConfig(name=task, kind="features", channels=0, cells=0)
    else:
        tasks = TaskConfig(name=task, kind="classification", channels=channels, cells=1)
    return ModelConfig(
        name=f"{family.name.split('-')[-1]}-{SIZES.get(dim, dim)}",
        image_height=grid.rows * grid.patch,
        image_width=grid.columns * grid.patch,
        patch=grid.patch,
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
        norm_epsilon=epsilon,
    )


def formats() -> list[ImportFormat]:
    """The formats of all families."""
    return [ImportFormat(name=f.name, what=f.what, read=partial(read_vit, f), options=COMMON_OPTIONS) for f in FAMILIES]
