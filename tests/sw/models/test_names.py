"""Names of torchvision and Hugging Face: the imported model gives the original's logits, whatever format was named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.sw.cli import app
from tessera.sw.models.importer import ImportProblems, Options, import_weights, to_checkpoint
from tests.helpers.timm_models import randomised
from tests.helpers.timm_states import (
    HEADS,
    half_normalised,
    imported_logits,
    imported_model,
    some_pixels,
    timm_logits,
    timm_state,
)
from tests.helpers.vit_references import HuggingFaceVit, TorchvisionVit

IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])


def imagenet(pixels: torch.Tensor) -> torch.Tensor:
    mean, deviation = IMAGENET.view(2, 3, 1, 1)
    return (pixels.float() / 255 - mean) / deviation


@pytest.mark.parametrize(
    ("format", "normalised"),
    [
        ("torchvision-vit", imagenet),
        ("timm-vit", half_normalised),
        ("timm-deit", imagenet),
        ("hf-vit", half_normalised),
    ],
)
@pytest.mark.parametrize("library", [TorchvisionVit, HuggingFaceVit])
def test_logits_are_the_original_s(tmp_path: Path, library: type, format: str, normalised) -> None:
    theirs = randomised(library())
    out = tmp_path / "out.safetensors"
    torch.save(theirs.state_dict(), tmp_path / "model.pth")
    arguments = ["--format", format, "--heads", "3", str(tmp_path / "model.pth"), "-o", str(out)]
    result = CliRunner().invoke(app, ["import", *arguments])
    assert result.exit_code == 0, result.stderr
    whose = "torchvision's" if library is TorchvisionVit else "Hugging Face's"
    assert f"names are {whose}: read as timm's" in " ".join(result.output.split())
    pixels = some_pixels()
    with torch.no_grad():
        expected = theirs(normalised(pixels).float())
        got = checkpoint.load(out).model.predict(pixels, "classes").flatten(1)
    assert expected.std() > 0.2 and (got - expected).abs().max() < 1e-5


@pytest.mark.parametrize("changes", [{"scale": True}, {"key_bias": False}])
def test_variants_of_hugging_face(tmp_path: Path, changes: dict) -> None:
    theirs = randomised(HuggingFaceVit(**changes))
    pixels = some_pixels()
    with torch.no_grad():
        expected = theirs(half_normalised(pixels).float())
    got = imported_logits(tmp_path / "m.pth", theirs.state_dict(), pixels, "hf-vit")
    assert (got - expected).abs().max() < 1e-5


def test_old_names_of_torchvision(tmp_path: Path) -> None:
    theirs = randomised(TorchvisionVit()).state_dict()
    old = {n.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): t for n, t in theirs.items()}
    ours = [imported_model(tmp_path / "m.pth", state).weights for state in (theirs, old)]
    assert old.keys() != theirs.keys() and all(torch.equal(ours[0][name], ours[1][name]) for name in ours[0])


@pytest.mark.parametrize("wrap", ["", "model.", "module.net."])
def test_a_wrapped_model_keeps_its_head(tmp_path: Path, wrap: str) -> None:
    theirs = randomised(HuggingFaceVit()).state_dict()
    content = {"state_dict": {wrap + name: tensor for name, tensor in theirs.items()}}
    model = imported_model(tmp_path / "m.pth", content)
    assert torch.equal(model.weights["heads.classes.weight"], theirs["classifier.weight"])


@pytest.mark.parametrize("head", ["head", "fc", "classifier", "model.fc"])
def test_a_head_beside_the_network_is_taken(tmp_path: Path, head: str) -> None:
    state = timm_state()
    content = {f"trunk.{name}": tensor for name, tensor in state.items() if not name.startswith("head.")}
    content |= {f"{head}.{part}": state[f"head.{part}"] for part in ("weight", "bias")}
    content["criterion.weight"] = torch.ones(7)
    torch.save(content, tmp_path / "m.pth")
    found = import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert torch.equal(found.tensors["heads.classes.weight"], state["head.weight"])
    assert any("1 tensor outside the network left out, such as criterion.weight" in line for line in found.notices)


def test_leftovers_of_pre_training_stay_behind(tmp_path: Path) -> None:
    state = timm_state()
    left = {
        "mask_token": torch.zeros(1, 1, 48),
        "decoder_pos_embed": torch.zeros(1, 17, 32),
        "decoder_blocks.0.norm1.weight": torch.zeros(32),
        "decoder_pred.bias": torch.zeros(9),
        "head.mlp.0.weight": torch.zeros(9, 48),
        "head.last_layer.weight_g": torch.zeros(9, 1),
        "blocks.0.total_ops": torch.zeros(1),
    }
    torch.save({"model": state | left}, tmp_path / "m.pth")
    found = import_weights("timm-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    assert any("7 tensors of pre-training left out, such as mask_token" in line for line in found.notices)
    expected = timm_logits(state, half_normalised(some_pixels()))
    with torch.no_grad():
        got = to_checkpoint(found).model.double().predict(some_pixels(), 0).flatten(1)
    assert (got - expected).abs().max() < 1e-5


def test_blocks_in_chunks(tmp_path: Path) -> None:
    plain = imported_model(tmp_path / "m.pth", timm_state()).weights
    chunked = {
        n.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): t for n, t in timm_state().items()
    }
    again = imported_model(tmp_path / "c.pth", chunked | {"n_averaged": torch.tensor(3)}).weights
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_tokens_and_positions_of_other_shapes(tmp_path: Path) -> None:
    state = timm_state()
    plain = imported_model(tmp_path / "m.pth", state).weights
    flat = imported_model(
        tmp_path / "f.pth", state | {"cls_token": state["cls_token"].flatten(), "pos_embed": state["pos_embed"][0]}
    ).weights
    assert all(torch.equal(plain[name], flat[name]) for name in plain)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_folder_of_hugging_face(tmp_path: Path, parts: int) -> None:
    state = randomised(HuggingFaceVit()).state_dict()
    names = sorted(state)
    if parts == 1:
        save_file(state, tmp_path / "model.safetensors")
    else:
        files = {name: f"model-0000{1 + (number > 9)}-of-00002.safetensors" for number, name in enumerate(names)}
        for file in set(files.values()):
            save_file({name: state[name] for name in names if files[name] == file}, tmp_path / file)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    found = import_weights("hf-vit", tmp_path, options=Options(heads=HEADS))
    assert torch.equal(found.tensors["heads.classes.weight"], state["classifier.weight"])
    if parts == 2:
        (tmp_path / files[names[0]]).unlink()
        with pytest.raises(ValueError, match="lists 2 files; missing: model-00001-of-00002.safetensors"):
            import_weights("hf-vit", tmp_path, options=Options(heads=HEADS))


def test_a_distilled_model_of_hugging_face_is_named(tmp_path: Path) -> None:
    state = {name.replace("vit.", "deit."): t for name, t in randomised(HuggingFaceVit()).state_dict().items()}
    state["deit.embeddings.distillation_token"] = torch.zeros(1, 1, 48)
    state["deit.embeddings.position_embeddings"] = torch.zeros(1, 18, 48)
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(ImportProblems) as error:
        import_weights("hf-vit", tmp_path / "m.pth", options=Options(heads=HEADS))
    (line,) = error.value.problems
    assert line.startswith("unsupported: a distillation token (dist_token); nearest: the model trained without one")
