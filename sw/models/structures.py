"""What a state dict tells of a vision transformer's structure, and which structures this project has not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from tessera.golden.config import ModelConfig
from tessera.sw.models.networks import Tensors
from tessera.sw.models.positions import patch_grid
from tessera.sw.models.state_dict import Finding, Unsupported, axis, common

SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
"""What published models of a width are called."""

MOST_TOKENS = 1 << 16
"""Tokens of the largest geometry that a model is imported for: far beyond what any machine here holds."""

MOST_LAYERS = 512
"""Blocks of the deepest model that is imported."""

_PLAIN = "deit_small_patch16_224"
UNSUPPORTED = (
    Unsupported(
        pattern=r"dist_token|head_dist",
        what="a distillation token",
        instead="the model trained without one, such as deit_tiny_patch16_224",
        explains="^pos_embed$",
    ),
    Unsupported(
        pattern=r"reg(ister)?_tokens?$|storage_tokens",
        what="register tokens",
        instead="the model without them, such as vit_small_patch16_224",
        explains="^pos_embed$",
    ),
    Unsupported(
        pattern=r"\.attn\.[qk]_norm\.|\.attn\.norm\.|\.attn\.(q|k|inner_attn)_ln\.",
        what="a norm inside attention",
        instead=f"a model without it, such as {_PLAIN}",
    ),
    Unsupported(
        pattern=r"relative_position|rel_pos|\.attn\.rope|freqs|rope_embed",
        what="relative or rotary positions",
        instead=f"learnt absolute positions (pos_embed), as in {_PLAIN}",
        explains="^pos_embed$",
    ),
    Unsupported(
        pattern=r"\.mlp\.(fc1_g|fc1_x|w1|w2|w12|w3|weights_in|weights_out|gate_proj|norm)\b",
        what="a gated MLP (SwiGLU)",
        instead=f"two layers with GELU between, as in {_PLAIN}",
        explains=r"\.mlp\.fc[12]\.",
    ),
    Unsupported(
        pattern=r"patch_embed\.(backbone|conv|norm|proj\.\d)",
        what="a convolutional or normalised patch embedding",
        instead=f"one convolution of a patch, as in {_PLAIN}",
        explains=r"^patch_embed\.proj\.",
    ),
    Unsupported(
        pattern=r"^norm_pre\.",
        what="a norm before the first block",
        instead="a model without it, not CLIP's",
        explains=r"^patch_embed\.proj\.bias$",
    ),
    Unsupported(
        pattern=r"^fc_norm\.|^attn_pool\.",
        what="pooling over patches",
        instead=f"a head on the class token, as in {_PLAIN}",
        explains=r"^norm\.",
    ),
    Unsupported(
        pattern=r"^pre_logits\.", what="a layer between norm and head", instead="a model whose head follows the norm"
    ),
    Unsupported(
        pattern=r"lora_|adapter|\.base_layer\.",
        what="adapters (LoRA) beside the weights",
        instead="the model with them merged, such as merge_and_unload() of peft gives it",
        explains=r"\.(attn|mlp)\.",
    ),
    Unsupported(
        pattern=r"^(encoder\.)?(layers|stages)\.\d+\.|^downsample_layers\.",
        what="a hierarchy of stages (Swin, ConvNeXt)",
        instead=f"a plain vision transformer, such as {_PLAIN}",
        explains=".",
    ),
)

_FAMILIES = (
    (r"transformer\.resblocks\.\d+\.|vision_model\.", "CLIP's own vision tower (a norm before the first block)"),
    (r"layer[1-4]\.\d+\.conv\d\.", "a ResNet"),
    (r"(downsample_layers|stages)\.\d+\.", "a hierarchy of stages (ConvNeXt, Swin)"),
    (r"features\.\d+\.", "a convolutional network"),
    (r"transformer\.layers\.\d+\.\d+\.", "the vision transformer of vit-pytorch, under names of its own"),
    (r"layers\.\d+\.ln1\.", "the vision transformer of MMPretrain, under names of its own"),
    (r"\b(input_layernorm|lm_head|wte|embed_tokens)\b", "a language model"),
)
"""Names of other networks."""


def stranger(tensors: Mapping[str, Tensor]) -> str:
    """What a state dict is that has no name of a vision transformer that can be read; empty if it has any."""
    known = re.compile(r"blocks\.\d+\.(norm1|attn|mlp)\.|patch_embed\.|pos_embed$|cls_token$|^layers\.\d+\.blocks")
    if any(known.search(name) for name in tensors):
        return ""
    family = next((what for pattern, what in _FAMILIES if any(re.search(pattern, name) for name in tensors)), "")
    return f"no vision transformer that can be read: {family or 'its names are of something else'}"


def shape_findings(tensors: Tensors) -> list[Finding]:
    """Structures that shapes alone tell, with what to use instead."""
    found = []
    weight = "patch_embed.proj.weight"
    shape = tuple(tensors[weight].shape) if weight in tensors else ()
    if len(shape) == 4 and shape[1] not in (1, 3):
        line = f"unsupported: pictures of {shape[1]} channels ({weight}); nearest: three channels, or one of grey"
        found.append(Finding(about=weight, line=line, explains=f"^{weight}$"))
    if len(shape) == 4 and (shape[2] != shape[3] or shape[2] & (shape[2] - 1)):
        line = (
            f"unsupported: patches of {shape[2]} x {shape[3]} pixels ({weight}), because the machine loads squares "
            f"whose side is a power of two; nearest: patches of 16, as in {_PLAIN}"
        )
        found.append(Finding(about=weight, line=line, explains=f"^{weight}$|^pos_embed$"))
    first = common(axis(tensors, r"blocks\.\d+\.mlp\.fc1\.weight", 0), 0)
    second = common(axis(tensors, r"blocks\.\d+\.mlp\.fc2\.weight", 1), 0)
    if first and first == 2 * second:
        line = (
            f"unsupported: a gated MLP (blocks.0.mlp.fc1 makes {first} channels, fc2 reads {second}); nearest: two "
            f"layers with GELU between, as in {_PLAIN}"
        )
        found.append(Finding(about="blocks.0.mlp.fc1.weight", line=line, explains=r"\.mlp\.fc[12]\."))
    heads = [tensors[name] for name in ("head.weight",) if name in tensors and tensors[name].ndim == 2]
    dim = common(axis(tensors, r"blocks\.\d+\.norm[12]\.weight", 0), 0)
    if heads and dim and heads[0].shape[1] == 2 * dim:
        line = (
            f"unsupported: a head that reads the class token and the mean of the patches (head.weight reads {2 * dim} "
            f"channels); nearest: a head on the class token, as in {_PLAIN}"
        )
        found.append(Finding(about="head.weight", line=line, explains=r"^head\.weight$"))
    return found


def lacking_findings(tensors: Tensors, dim: int, classes: int) -> list[Finding]:
    """What a plain vision transformer has and this one was made without: a class token, a head (``classes`` or 0)."""
    found = []
    if "cls_token" not in tensors:
        line = f"missing: cls_token (1, 1, {dim}): a model without a class token; nearest: vit_small_patch16_224"
        found.append(Finding(about="cls_token", line=line, explains="^cls_token$"))
    if classes and not any(name.startswith("head.") for name in tensors):
        line = f"missing: head.weight ({classes}, {dim}) and head.bias: a model without a head, for --backbone-only"
        found.append(Finding(about="head.weight", line=line, explains=r"^head\."))
    for number in sorted(set(range(layer_count(tensors))) - set(_blocks(tensors))):
        line = f"missing: all of blocks.{number}"
        found.append(Finding(about=f"blocks.{number}", line=line, explains=rf"^blocks\.{number}\."))
    return found


def _blocks(tensors: Tensors) -> list[int]:
    """The number of the block that each tensor of one is in."""
    return [int(match[1]) for match in (re.match(r"blocks\.(\d+)\.", name) for name in tensors) if match]


def layer_count(tensors: Tensors) -> int:
    """Blocks, by the highest number among the tensors' names; 12 without any.

    Raises
    ------
    ValueError
        For more than any model has.
    """
    count = max(_blocks(tensors), default=11) + 1
    if count > MOST_LAYERS:
        raise ValueError(
            f"names go up to blocks.{count - 1}, expected {MOST_LAYERS} blocks at most: is it a whole model?"
        )
    return count


def hidden_width(tensors: Tensors, dim: int) -> int:
    """Hidden width of the dense MLPs; four times ``dim`` without any."""
    return common(axis(tensors, r"blocks\.\d+\.mlp\.fc1\.weight", 0), 4 * dim)


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


def at_size(config: ModelConfig, size: tuple[int, int] | None) -> ModelConfig:
    """The geometry for images of another size; ValueError unless they are whole patches, and not too many."""
    if size is None:
        return config
    rows, columns = patch_grid(size, config.patch)
    if rows * columns >= MOST_TOKENS:
        raise ValueError(
            f"--image-size {size[0]}x{size[1]} makes {rows * columns + 1:,} tokens of {config.patch} x {config.patch} "
            f"pixels; choose a size of less than {MOST_TOKENS:,}"
        )
    return replace(config, image_height=size[0], image_width=size[1])
