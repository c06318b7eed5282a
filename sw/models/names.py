"""Other libraries' names of the same vision transformer: torchvision's and Hugging Face's, as timm calls them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from tessera.sw.models.networks import Tensors

_LEFT_BY_TRAINING = re.compile(
    r"^(mask_token|mask_embed|decoder|pooler\.|lm_head|rel_pos_|predictor|projector|projection|prototypes|proj_head|"
    r"dino_|ibot_|queue|center$|logit_scale$|contrastive|head\.(mlp|last_layer|layers|projection|predictor)\b)"
    r"|(^|\.)(n_averaged|total_ops|total_params|num_batches_tracked|position_ids)$"
)
"""Tensors that serve pre-training, or that tools leave behind; the network does not read them."""

_OUTER_HEAD = re.compile(r"(?:.*\.)?(?:heads?|classifier|cls_classifier|cls_head|fc|linear)\.(weight|bias)")
"""A linear layer that a wrapper puts after a network without a head."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Names of one library.

    Members: ``whose`` names they are; ``sign``, a pattern that only its names match; ``renames``, pairs of a pattern
    and what to put in its place, applied one after the other.
    """

    whose: str
    sign: str
    renames: tuple[tuple[str, str], ...]


TIMM = Scheme(
    whose="timm's",
    sign=r"blocks\.\d+\.|patch_embed\.",
    renames=((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),),  # DINOv2 trains blocks in chunks
)
TORCHVISION = Scheme(
    whose="torchvision's",
    sign=r"^conv_proj\.|^encoder\.layers\.encoder_layer_\d+\.",
    renames=(
        (r"^class_token$", "cls_token"),
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^encoder\.ln\.", "norm."),
        (r"^heads\.head\.", "head."),
        (r"^heads\.pre_logits\.", "pre_logits."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"\.ln_([12])\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", ".attn.qkv."),
        (r"\.self_attention\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
        (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    ),
)
HUGGING_FACE = Scheme(
    whose="Hugging Face's",
    sign=r"^embeddings\.patch_embeddings\.|^encoder\.layer\.\d+\.",
    renames=(
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.distillation_token$", "dist_token"),
        (r"^embeddings\.", ""),
        (r"^layernorm\.", "norm."),
        (r"^pooler\.layernorm\.", "fc_norm."),
        (r"^(?:cls_)?classifier\.", "head."),
        (r"^distillation_classifier\.", "head_dist."),
        (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.attention\.attention\.", ".attn."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
        (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"\.lambda_([12])$", r".ls\1.gamma"),
    ),
)
_SCHEMES = (TORCHVISION, HUGGING_FACE)


def timm_names(tensors: Tensors, outside: Tensors) -> tuple[Tensors, Scheme, list[str]]:
    """A network's tensors under timm's names; whose they were; notices of what was renamed, taken in or left out.

    Parameters
    ----------
    tensors, outside:
        Those of the network, and those beside it, as in :class:`tessera.sw.models.state_dict.StateDict`.
    """
    scheme = next((s for s in _SCHEMES if any(re.search(s.sign, name) for name in tensors)), TIMM)
    notices = [] if scheme is TIMM else [f"names are {scheme.whose}: read as timm's"]
    ours = {_renamed(name, scheme): tensor for name, tensor in tensors.items()}
    beside = {_renamed(name, scheme): (name, tensor) for name, tensor in outside.items()}
    heads = [name for name in beside if _OUTER_HEAD.fullmatch(name) and name.endswith("weight")]
    if "head.weight" not in ours and len(heads) == 1:
        stem = heads[0].removesuffix("weight")
        for part in ("weight", "bias"):
            if f"{stem}{part}" in beside:
                ours[f"head.{part}"] = beside.pop(f"{stem}{part}")[1]
        if stem != "head.":
            notices.append(f"head taken from {stem.rstrip('.')}")
    _join_attention(ours)
    for name in ("cls_token", "pos_embed"):
        if name in ours and 0 < ours[name].ndim < 3:
            ours[name] = ours[name].reshape(1, -1, ours[name].shape[-1])
    left = [name for name in ours if _LEFT_BY_TRAINING.search(name)]
    for name in left:
        del ours[name]
    for count, what, names in (
        (len(left), "of pre-training", left),
        (len(beside), "outside the network", [name for name, _ in beside.values()]),
    ):
        if count:
            notices.append(f"{count} tensor{'s' if count > 1 else ''} {what} left out, such as {names[0]}")
    return ours, scheme, notices


def _renamed(name: str, scheme: Scheme) -> str:
    for pattern, replacement in scheme.renames:
        name = re.sub(pattern, replacement, name)
    return name


def _join_attention(tensors: Tensors) -> None:
    """Query, key and value of each block as one layer, as timm has them; a bias that only some have is 0 for others."""
    for stem in sorted({m[1] for m in (re.fullmatch(r"(blocks\.\d+\.attn\.)query\.weight", n) for n in tensors) if m}):
        weights = [tensors.get(f"{stem}{part}.weight") for part in ("query", "key", "value")]
        whole = [weight for weight in weights if weight is not None and weight.ndim == 2]
        biases = [tensors.get(f"{stem}{part}.bias") for part in ("query", "key", "value")]
        if len(whole) < 3:
            continue
        joined = {"weight": torch.cat(whole)}
        if any(bias is not None for bias in biases):
            zeros = (torch.zeros(weight.shape[0]) for weight in whole)
            joined["bias"] = torch.cat([zero if b is None else b for zero, b in zip(zeros, biases, strict=True)])
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                tensors.pop(f"{stem}{part}.{kind}", None)
        tensors |= {f"{stem}qkv.{kind}": tensor for kind, tensor in joined.items()}
