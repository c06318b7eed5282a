"""What lies beside the weights in a folder of Hugging Face is taken, unless an option says otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tessera.sw.models.importer import Options, import_weights, to_checkpoint
from tests.helpers.timm_models import randomised
from tests.helpers.timm_states import some_pixels, timm_state
from tests.helpers.vit_references import HuggingFaceVit

CONFIG = {
    "architectures": ["ViTForImageClassification"],
    "hidden_act": "gelu",
    "image_size": 32,
    "layer_norm_eps": 1e-12,
    "num_attention_heads": 3,
}
PIXELS = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}


def folder(path: Path, config: object = CONFIG, pixels: object = PIXELS) -> Path:
    save_file(randomised(HuggingFaceVit()).state_dict(), path / "model.safetensors")
    for name, content in (("config.json", config), ("preprocessor_config.json", pixels)):
        (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_a_folder_needs_no_options(tmp_path: Path, file: str) -> None:
    path = folder(tmp_path)
    found = import_weights("hf-vit", path / file)
    mean, deviation = (torch.tensor(PIXELS[name]).view(-1, 1, 1) for name in ("image_mean", "image_std"))
    with torch.no_grad():
        expected = randomised(HuggingFaceVit())((some_pixels().float() / 255 - mean) / deviation)
        got = to_checkpoint(found).model(some_pixels(), 0).flatten(1)
    assert (got - expected).abs().max() < 1e-5 and found.config.norm_epsilon == 1e-12
    assert found.notices[1] == (
        "heads, epsilon, size of the pictures, mean, deviation: as the files beside the weights say"
    )
    assert not any("--pixels" in line or "--heads" in line for line in found.notices)


def test_an_option_comes_first(tmp_path: Path) -> None:
    chosen = Options(heads=6, pixels="raw", epsilon=1e-5)
    found = import_weights("hf-vit", folder(tmp_path), options=chosen)
    assert (found.config.heads, found.config.norm_epsilon) == (6, 1e-5)
    assert torch.equal(
        found.tensors["patch_embed.proj.bias"],
        randomised(HuggingFaceVit()).vit.embeddings.patch_embeddings.projection.bias,
    )


def test_pixels_that_were_not_normalised(tmp_path: Path) -> None:
    found = import_weights("hf-vit", folder(tmp_path, pixels=PIXELS | {"do_normalize": False}))
    told = import_weights("hf-vit", tmp_path, options=Options(mean=(0.0,), std=(1.0,)))
    assert torch.equal(found.tensors["patch_embed.proj.weight"], told.tensors["patch_embed.proj.weight"])


def test_a_folder_of_timm(tmp_path: Path) -> None:
    save_file(timm_state(grid=(2, 8)), tmp_path / "model.safetensors")
    pretrained = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    config = {"architecture": "vit", "pretrained_cfg": pretrained, "model_args": {"img_size": [16, 64], "num_heads": 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert import_weights("timm-deit", tmp_path).config.grid == (2, 8)


@pytest.mark.parametrize("activation", ["gelu_new", "quick_gelu", "relu", "gelu_pytorch_tanh"])
def test_another_activation_is_refused(tmp_path: Path, activation: str) -> None:
    path = folder(tmp_path, config=CONFIG | {"hidden_act": activation})
    with pytest.raises(
        ValueError, match=re.escape(f"the MLPs' activation is '{activation}'; the machine has the exact")
    ):
        import_weights("hf-vit", path)


@pytest.mark.parametrize(
    ("config", "pixels"),
    [
        ("{", "no json"),
        ("[1]", "3"),
        ({"num_attention_heads": "many", "image_size": -1}, {"image_mean": 5}),
        ({"model_args": [3], "pretrained_cfg": "none"}, {"image_mean": ["a", "b", "c"], "image_std": [1, 1, 1]}),
        ({"num_attention_heads": 0, "image_size": [1, 2, 3], "layer_norm_eps": None}, {"image_mean": [1, 2]}),
    ],
)
def test_what_makes_no_sense_is_passed_over(tmp_path: Path, config: object, pixels: object) -> None:
    found = import_weights("hf-vit", folder(tmp_path, config, pixels), options=Options(heads=3))
    assert found.config.grid == (4, 4) and any("as Hugging Face's ViT does" in line for line in found.notices)
