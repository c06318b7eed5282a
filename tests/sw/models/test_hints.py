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
        got = to_checkpoint(found).model.predict(some_pixels(), 0).flatten(1)
    assert (got - expected).abs().max() < 1e-5 and found.config.norm_epsilon == 1e-12
    assert found.notices[1] == (
        "heads, size of the pictures, epsilon, mean, deviation: as the files beside the weights say"
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
    ("file", "content", "said"),
    [
        (
            "config.json",
            "{",
            "config.json lies beside the weights and holds no JSON object: fetch it again",
        ),
        ("config.json", "[1]", "config.json lies beside the weights and holds no JSON object"),
        ("preprocessor_config.json", "3", "preprocessor_config.json lies beside the weights and holds no JSON object"),
        ("config.json", CONFIG | {"num_attention_heads": "many"}, 'num_attention_heads is "many"; expected'),
        ("config.json", CONFIG | {"num_attention_heads": True}, "num_attention_heads is true; expected a positive"),
        ("config.json", CONFIG | {"image_size": [1, 2, 3]}, "image_size is [1, 2, 3]; expected one or two positive"),
        ("config.json", CONFIG | {"layer_norm_eps": -1}, "say what no model can have: --epsilon is -1"),
        ("config.json", CONFIG | {"model_args": [3]}, "model_args is [3]; expected an object"),
        ("preprocessor_config.json", PIXELS | {"image_mean": 5}, "image_mean is 5; expected one or three numbers"),
        ("preprocessor_config.json", PIXELS | {"image_std": [1, 1]}, "image_std is [1, 1]; expected one or three"),
        ("config.json", CONFIG | {"num_hidden_layers": 5}, "config.json says 5 layers, the weights have 2"),
        ("config.json", CONFIG | {"hidden_size": 96}, "config.json says 96 channels, the weights have 48"),
        ("config.json", CONFIG | {"id2label": {"0": "cat"}}, "config.json says 1 classes, the weights have 10"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, file: str, content: object, said: str) -> None:
    path = folder(tmp_path, **{"config" if file == "config.json" else "pixels": content})
    with pytest.raises(ValueError, match=re.escape(said)):
        import_weights("hf-vit", path)


def test_what_is_not_there_is_assumed(tmp_path: Path) -> None:
    found = import_weights("hf-vit", folder(tmp_path, {"layer_norm_eps": None}, {}), options=Options(heads=3))
    assert found.config.grid == (4, 4) and any("as Hugging Face's ViT does" in line for line in found.notices)


@pytest.mark.parametrize(
    ("changes", "mean", "deviation"),
    [
        ({"rescale_factor": 1 / 255}, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
        ({"rescale_factor": 1 / 127.5}, (0.2, 0.25, 0.3), (0.1, 0.15, 0.2)),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True}, (0.7, 0.75, 0.8), (0.1, 0.15, 0.2)),
        ({"do_rescale": False, "image_mean": [127.5], "image_std": [63.75]}, (0.5,), (0.25,)),
    ],
)
def test_bytes_are_scaled_as_the_folder_says(tmp_path: Path, changes: dict, mean: tuple, deviation: tuple) -> None:
    found = import_weights("hf-vit", folder(tmp_path, pixels=PIXELS | changes))
    told = import_weights("hf-vit", tmp_path, options=Options(mean=mean, std=deviation))
    for name in ("patch_embed.proj.weight", "patch_embed.proj.bias"):
        # Mean and deviation come from the factor here and as decimals there, and are folded into float32 weights.
        assert torch.allclose(found.tensors[name], told.tensors[name], rtol=1e-5, atol=1e-6)
