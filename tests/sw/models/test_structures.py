"""Structures that this project has not: each is named at once by a line of its own, and by no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tessera.sw.models.importer import ImportProblems, Options, import_weights
from tests.helpers.timm_states import HEADS, timm_state


def without(*names: str, **options: int) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in timm_state(**options).items() if not name.startswith(names)}


def zeros(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


SWIGLU = zeros(**{f"blocks__{n}__mlp__{part}__weight": (96, 48) for n in range(2) for part in ("w12", "w3")})
CASES: dict[str, tuple[dict[str, Tensor], list[str]]] = {
    "distilled": (
        timm_state(special=2) | zeros(dist_token=(1, 1, 48), head_dist__weight=(10, 48), head_dist__bias=(10,)),
        ["a distillation token (dist_token and 2 more); nearest: the model trained without one"],
    ),
    "mean pooling": (
        without("norm.") | zeros(fc_norm__weight=(48,), fc_norm__bias=(48,)),
        ["pooling over patches (fc_norm.weight and 1 more); nearest: a head on the class token"],
    ),
    "no class token": (
        without("cls_token", special=0),
        ["missing: cls_token (1, 1, 48): a model without a class token"],
    ),
    "registers": (timm_state() | zeros(reg_token=(1, 4, 48)), ["register tokens (reg_token)"]),
    "registers with positions": (timm_state(special=5) | zeros(reg_token=(1, 4, 48)), ["register tokens (reg_token)"]),
    "registers of DINOv2": (timm_state() | zeros(register_tokens=(1, 4, 48)), ["register tokens (register_tokens)"]),
    "patches of 14": (timm_state(patch=14), ["patches of 14 x 14 pixels (patch_embed.proj.weight)"]),
    "patches of 7": (timm_state(patch=7), ["patches of 7 x 7 pixels"]),
    "oblong patches": (
        timm_state() | zeros(patch_embed__proj__weight=(48, 3, 16, 8)),
        ["patches of 16 x 8 pixels (patch_embed.proj.weight)"],
    ),
    "four channels": (timm_state(channels=4), ["pictures of 4 channels (patch_embed.proj.weight)"]),
    "gated MLP": (
        without("blocks.0.mlp.", "blocks.1.mlp.") | SWIGLU,
        ["a gated MLP (SwiGLU) (blocks.0.mlp.w12.weight"],
    ),
    "packed gated MLP": (
        timm_state()
        | {
            f"blocks.{n}.mlp.fc1.{part}": torch.zeros(shape)
            for n in range(2)
            for part, shape in (("weight", (192, 48)), ("bias", (192,)))
        },
        ["a gated MLP (blocks.0.mlp.fc1 makes 192 channels, fc2 reads 96)"],
    ),
    "relative positions": (
        without("pos_embed") | zeros(blocks__0__attn__relative_position_bias_table=(49, 3)),
        ["relative or rotary positions (blocks.0.attn.relative_position_bias_table)"],
    ),
    "query norm": (timm_state() | zeros(blocks__0__attn__q_norm__weight=(16,)), ["a norm inside attention"]),
    "adapters": (
        timm_state() | zeros(blocks__0__attn__qkv__lora_A__weight=(4, 48)),
        ["adapters (LoRA) beside the weights (blocks.0.attn.qkv.lora_A.weight)"],
    ),
    "stages": (
        zeros(patch_embed__proj__weight=(96, 3, 4, 4), layers__0__blocks__0__attn__qkv__weight=(9, 3)),
        ["a hierarchy of stages (Swin, ConvNeXt) (layers.0.blocks.0.attn.qkv.weight)"],
    ),
    "a norm before": (
        without("patch_embed.proj.bias") | zeros(norm_pre__weight=(48,), norm_pre__bias=(48,)),
        ["a norm before the first block (norm_pre.weight and 1 more)"],
    ),
    "two tokens in the head": (
        timm_state() | zeros(head__weight=(10, 96)),
        ["a head that reads the class token and the mean of the patches (head.weight reads 96 channels)"],
    ),
    "no head": (timm_state(classes=0), ["missing: head.weight (1000, 48) and head.bias: a model without a head"]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_for_each(tmp_path: Path, name: str) -> None:
    state, lines = CASES[name]
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(ImportProblems) as error:
        import_weights("timm-deit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert len(error.value.problems) == len(lines), error.value
    for line, words in zip(error.value.problems, lines, strict=True):
        assert line.startswith(("unsupported: ", "missing: ")) and words in line
    told = re.search("--backbone-only", str(error.value)) is not None
    assert told == (name in ("mean pooling", "no head", "two tokens in the head"))
    with pytest.raises(ImportProblems, match=re.escape(lines[0])):
        import_weights("timm-deit", tmp_path / "m.pth")  # structures come before what options must say


def test_a_plain_model_of_an_unpublished_width_needs_its_heads(tmp_path: Path) -> None:
    torch.save(timm_state(), tmp_path / "m.pth")
    with pytest.raises(ValueError, match="48 channels are of no published model: say how many attention heads"):
        import_weights("timm-vit", tmp_path / "m.pth")


def test_numbers_of_blocks_beyond_any_model(tmp_path: Path) -> None:
    torch.save(timm_state() | zeros(blocks__99999999__norm1__weight=(48,)), tmp_path / "m.pth")
    with pytest.raises(ValueError, match="names go up to blocks.99999999, expected 512 blocks at most"):
        import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))


@pytest.mark.parametrize("name", ["mean pooling", "no head"])
def test_the_backbone_of_a_model_with_another_end(tmp_path: Path, name: str) -> None:
    torch.save(CASES[name][0], tmp_path / "m.pth")
    found = import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS, backbone_only=True))
    assert found.config.tasks[0].kind == "features" and not found.config.final_norm
