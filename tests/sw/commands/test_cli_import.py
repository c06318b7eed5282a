"""``tessera import``: which presets hold the model, what to do next, and that the machine computes it."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.sw.cli import app
from tests.helpers.timm_models import VisionTransformer, randomised
from tests.helpers.timm_states import timm_state
from tests.helpers.vit_references import HuggingFaceVit, TorchvisionVit


def imported(path: Path, state: dict[str, torch.Tensor], *more: str, format: str = "timm-vit") -> tuple[Path, str]:
    """The checkpoint, and what the command said, on one line."""
    torch.save(state, path / "model.pth")
    out = path / "model.safetensors"
    arguments = ["--format", format, "--heads", "3", str(path / "model.pth"), "-o", str(out), *more]
    result = CliRunner().invoke(app, ["import", *arguments])
    assert result.exit_code == 0, result.output + result.stderr
    return out, " ".join(result.output.split())


def deit_iii() -> torch.nn.Module:
    geometry = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    return VisionTransformer(**geometry, init_values=1e-4, no_embed_class=True)


def test_the_file_to_import_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(timm_state(), path)
    before = path.read_bytes()
    result = CliRunner().invoke(app, ["import", "--format", "timm-vit", "--heads", "3", str(path), "-o", str(path)])
    assert result.exit_code == 2 and "is the model itself, which would be lost" in " ".join(result.stderr.split())
    assert path.read_bytes() == before


def test_says_which_presets_hold_the_model(tmp_path: Path) -> None:
    out, said = imported(tmp_path, timm_state())
    assert "Presets that can hold it: tiny, ecp5-85f, ecp5-wide, edge, edge-8, edge-large" in said
    assert said.endswith(f"Next: tessera run --model {out}")


def test_names_a_preset_that_holds_it(tmp_path: Path) -> None:
    out, said = imported(tmp_path, timm_state(grid=(3, 3)))
    assert "edge cannot: an image row has 24 bytes; it must be a multiple of the bus width (32 bytes)" in said
    assert said.endswith(f"Next: tessera run --model {out} --preset edge-8")


def test_what_it_proposes_for_small_pictures_works(tmp_path: Path) -> None:
    folder = tmp_path / "own models"
    folder.mkdir()
    _, said = imported(folder, timm_state(grid=(2, 2), patch=4))
    words = shlex.split(said.rpartition("Next: tessera ")[2])
    assert words[0] == "run" and words[2].endswith(".safetensors")
    program = ["compile", *words[1:], "-o", str(tmp_path / "program.safetensors")]  # what run does first
    assert CliRunner().invoke(app, program).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"grid": (16, 16)}, "edge cannot: keys: needs 257, has 256 (max_tokens)"),
        ({"grid": (17, 17), "patch": 4}, "edge cannot: keys: needs 290, has 256 (max_tokens)"),
    ],
)
def test_what_no_preset_holds_is_said(tmp_path: Path, changes: dict, reason: str) -> None:
    out, said = imported(tmp_path, timm_state(**changes))
    assert "Presets that can hold it: none" in said and reason in said and "tessera run" not in said
    assert said.endswith(f"tessera evaluate --rtl-samples 0 --model {out}")


def test_patches_of_more_pixels_than_a_product_reduces_at_once_are_held(tmp_path: Path) -> None:
    said = imported(tmp_path, timm_state(patch=32))[1]
    holding = said.partition("Presets that can hold it: ")[2].partition("Next: ")[0]
    assert "edge" in holding and "edge cannot" not in said


@pytest.mark.parametrize(
    ("make", "format", "epsilon"),
    [(deit_iii, "timm-deit", "1e-5"), (TorchvisionVit, "torchvision-vit", "1e-6"), (HuggingFaceVit, "hf-vit", "1e-12")],
)
def test_the_machine_computes_it_bit_by_bit(tmp_path: Path, make, format: str, epsilon: str) -> None:
    out, _ = imported(tmp_path, randomised(make()).state_dict(), "--epsilon", epsilon, format=format)
    assert checkpoint.load(out).geometry.norm_epsilon == float(epsilon)
    folder = tmp_path / "run"
    result = CliRunner().invoke(app, ["run", "--model", str(out), "--preset", "tiny", "--out", str(folder)])
    assert result.exit_code == 0, result.output + result.stderr
    run = json.loads((folder / "run.json").read_text())
    assert any(line.startswith("pixels normalised") for line in run["checkpoint"]["assumed"])
    page = html.unescape((folder / "report.html").read_text())
    assert run["checkpoint"]["assumed"] and all(line in page for line in run["checkpoint"]["assumed"])
    assert re.search(r"The class is (not )?the float model's", page) and "depth difference" not in page
    assert run["bit_exact"] is True and run["tasks"]["classes"]["tensors_compared"] > 20
