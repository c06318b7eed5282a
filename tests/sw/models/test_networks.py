"""The network among all that a file holds: under any key, behind any prefix, beside its averages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tessera.sw.models.importer import Imported, Options, import_weights
from tests.helpers.timm_states import HEADS, timm_state

STATE = timm_state()


def behind(prefix: str, factor: float = 1.0) -> dict[str, Tensor]:
    return {prefix + name: factor * tensor for name, tensor in STATE.items()}


def read(path: Path, content: object, **options: object) -> Imported:
    torch.save(content, path / "m.pth")
    return import_weights("timm-vit", path / "m.pth", options=Options(**({"heads": HEADS} | options)))


def is_factor(found: Imported, factor: float) -> bool:
    """Whether the state dict times ``factor`` was taken."""
    return torch.equal(found.tensors["cls_token"], factor * STATE["cls_token"])


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "module.visual.trunk.",
        "net.",
        "encoder.",
        "vit.",
        "module.",
        "backbone.",
        "_orig_mod.module.",
        "base_model.model.",
        "model.0.",
        "image_encoder.",
        "semantic.",
    ],
)
@pytest.mark.parametrize("key", [(), ("state_dict",), ("weights", "best")])
def test_any_prefix_and_any_key(tmp_path: Path, prefix: str, key: tuple[str, ...]) -> None:
    content: object = behind(prefix)
    for name in reversed(key):
        content = {name: content, "epoch": 3, "best_acc1": torch.tensor(71.3), "optimizer": {"state": {0: {"s": 1}}}}
    found = read(tmp_path, content)
    assert is_factor(found, 1.0)
    assert all(f"'{name}'" in found.notices[0] for name in key)


def test_wrappers_inside_names(tmp_path: Path) -> None:
    content = {name.replace("blocks.0.", "blocks.0._orig_mod."): tensor for name, tensor in STATE.items()}
    assert is_factor(read(tmp_path, {"model": content}), 1.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": behind(""), "model_ema": behind("", 2.0)}, "'model', not from 32 tensors under 'model_ema'"),
        ({"state_dict": behind(""), "state_dict_ema": behind("module.", 2.0)}, "under 'state_dict', not from"),
        (behind("model.") | behind("ema_model.", 2.0), "behind the prefix 'model.', not from"),
        (behind("base_encoder.") | behind("momentum_encoder.", 2.0), "'base_encoder.', not from"),
        (behind("encoder.") | behind("decoder.", 2.0), "'encoder.', not from"),
        ({"net": behind(""), "other": behind("", 2.0)}, "under 'net', not from"),
        (behind("online.") | behind("teacher.", 2.0), "'online.', not from"),
        ({"first": behind(""), "swa_state": behind("", 2.0)}, "under 'first', not from"),
        ([behind(""), {"epoch": 4}], "under '0'"),
    ],
)
def test_averages_stay_beside_and_are_named(tmp_path: Path, content: object, said: str) -> None:
    found = read(tmp_path, content)
    assert is_factor(found, 1.0) and said in found.notices[0]


DINO = {"student": behind("module.backbone."), "teacher": behind("backbone.", 2.0), "epoch": 3}


@pytest.mark.parametrize(("part", "factor"), [("student", 1.0), ("teacher", 2.0)])
@pytest.mark.parametrize("flat", [False, True])
def test_a_part_is_chosen(tmp_path: Path, part: str, factor: float, flat: bool) -> None:
    content = behind("student.") | behind("teacher.", 2.0) if flat else DINO
    found = read(tmp_path, content, part=part)
    assert is_factor(found, factor) and part in found.notices[0]


@pytest.mark.parametrize(
    ("content", "part", "words"),
    [
        (
            DINO,
            None,
            "holds 2 networks: 32 tensors under 'student'; 32 tensors under 'teacher'; choose one with --part",
        ),
        (DINO, "ema", "holds no network called 'ema'; it has: 32 tensors under 'student'; 32 tensors under 'teacher'"),
        ({"a": behind(""), "b": behind("")}, None, "choose one with --part, such as --part b"),
        ({"epoch": 3}, None, "holds no state dict"),
        (torch.zeros(3), None, "holds no state dict"),
        ({"w": torch.zeros(3)}, None, "holds no vision transformer that can be read"),
        (
            {"layer1.0.conv1.weight": torch.zeros(3), "fc.weight": torch.zeros(3)},
            None,
            "holds no vision transformer that can be read: a ResNet; its 2 tensors begin with layer1.0.conv1.weight",
        ),
        ({"visual.transformer.resblocks.0.ln_1.weight": torch.zeros(3)}, None, "CLIP's own vision tower"),
        ({"transformer.encoder.layers.0.self_attn.bias": torch.zeros(3)}, None, "its names are of something else"),
        ({"model.embed_tokens.weight": torch.zeros(3)}, None, "a language model"),
    ],
)
def test_no_network_that_is_meant(tmp_path: Path, content: object, part: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        read(tmp_path, content, part=part)
