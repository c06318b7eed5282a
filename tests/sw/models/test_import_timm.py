"""timm's ViT and DeiT: the imported float model gives timm's own logits; what is not supported is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.golden.config import TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.golden.model import seeded
from tessera.hw.presets import preset
from tessera.sw.cli import app
from tessera.sw.compiler.compile import compile_model
from tessera.sw.models.importer import ImportProblems, Options, import_weights, to_checkpoint
from tessera.sw.quantiser.quantise import calibration_images, quantise
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.small_checkpoints import SMALL
from tests.helpers.timm_models import VisionTransformer, randomised
from tests.helpers.units import or_soak

STATISTICS = {
    "timm-deit": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "timm-vit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def small(**changes: object) -> nn.Module:
    """The reference in small: 16 patches of 8 x 8, two blocks of 48."""
    geometry = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    return randomised(VisionTransformer(**(geometry | changes)))


def saved(path: Path, model: nn.Module) -> Path:
    torch.save(model.state_dict(), path)
    return path


def images(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).integers(0, 256, (1, 3, height, width), dtype=np.uint8))


def normalised(pixels: torch.Tensor, format: str) -> torch.Tensor:
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in STATISTICS[format])
    return (pixels.float() / 255 - mean) / deviation


@pytest.mark.parametrize(
    ("format", "name", "dim", "heads"),
    or_soak([("timm-deit", "deit-tiny", 192, 3), ("timm-vit", "vit-small", 384, 6)], lambda case: case[2] < 384),
)
def test_logits_are_timm_s(tmp_path: Path, format: str, name: str, dim: int, heads: int) -> None:
    theirs = randomised(VisionTransformer(embed_dim=dim, depth=12, num_heads=heads))
    path, out = saved(tmp_path / "model.pth", theirs), tmp_path / "model.safetensors"
    result = CliRunner().invoke(app, ["import", "--format", format, str(path), "-o", str(out)])
    assert result.exit_code == 0, result.output + result.stderr
    assert f"{name}: 197 tokens of {dim}, 12 layers" in " ".join(result.output.split())
    ours = checkpoint.load(out).model
    pixels = images(224, 224)
    with torch.no_grad():
        expected, got = theirs(normalised(pixels, format)), ours.predict(pixels, "classes")
    assert expected.shape == (1, 1000) and got.shape == (1, 1000, 1, 1) and expected.std() > 0.3
    assert (got.flatten(1) - expected).abs().max() < 1e-5


def test_another_image_size_is_what_timm_makes_of_it(tmp_path: Path) -> None:
    theirs = small()
    path = saved(tmp_path / "model.pth", theirs)
    model = to_checkpoint(import_weights("timm-vit", path, options=Options(heads=3, image_size=(48, 40)))).model
    theirs.set_input_size((48, 40))
    pixels = images(48, 40)
    with torch.no_grad():
        # Pixel normalisation is folded into float32 weights here and in the pixels there.
        assert torch.allclose(model.predict(pixels, 0).flatten(1), theirs(normalised(pixels, "timm-vit")), atol=1e-5)


def test_the_backbone_alone_gives_the_residual_stream(tmp_path: Path) -> None:
    theirs = small()
    options = Options(heads=3, backbone_only=True)
    imported = import_weights("timm-deit", saved(tmp_path / "model.pth", theirs), options=options)
    assert "norm and head were left out" in imported.notices[-1]
    pixels = images(32, 32)
    with torch.no_grad():
        stream = to_checkpoint(imported).model.predict(pixels, 0)
        logits = theirs.head(theirs.norm(stream)[:, 0])
        # As above: float32 on both sides, the normalisation folded on one.
        assert torch.allclose(logits, theirs(normalised(pixels, "timm-deit")), atol=1e-5)


def test_the_integer_model_classifies_too(tmp_path: Path) -> None:
    imported = import_weights("timm-deit", saved(tmp_path / "model.pth", small()), options=Options(heads=3))
    model = to_checkpoint(imported).model
    calibration = np.random.default_rng(6).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    pixels = images(32, 32)
    with torch.no_grad():
        expected = model.predict(pixels, 0).flatten().double().numpy()
    cosines = []
    for width in (8, 12):
        numerics = preset("tiny").with_activation_width(width).numerics
        quantised = quantise(model, calibration, numerics)
        got = IntegerModel(quantised, numerics).predict(pixels[0].numpy(), 0)
        assert got.shape == (1, 10)
        cosines.append(float((got[0] * expected).sum() / np.linalg.norm(got) / np.linalg.norm(expected)))
    assert 0.995 < cosines[0] < cosines[1] < 1.0


def test_deit_tiny_in_parts_is_bit_exact_and_close_to_float(tmp_path: Path) -> None:
    """Its full geometry on the board's machine, which does not hold it at once."""
    theirs = randomised(VisionTransformer(embed_dim=192, depth=12, num_heads=3))
    model = to_checkpoint(import_weights("timm-deit", saved(tmp_path / "model.pth", theirs), options=Options())).model
    machine, pixels = preset("ecp5-wide"), images(224, 224)
    quantised = quantise(model, calibration_images(model.network, range(4)), machine.numerics)
    program, integer = compile_model(quantised, machine), IntegerModel(quantised, machine.numerics)
    golden, result = integer.run(pixels[0].numpy(), 0), emulator.run(program, pixels[0].numpy(), 0)
    verdict = verify(program, golden, result.traces, 0)
    assert verdict.passed, str(verdict)
    with torch.no_grad():
        expected = model.predict(pixels, 0).flatten().double().numpy()
    got = integer.output(golden, 0).ravel()
    assert got @ expected > 0.995 * np.linalg.norm(got) * np.linalg.norm(expected)


@pytest.mark.parametrize("mixed", [False, True])
def test_programs_classify_bit_by_bit(mixed: bool) -> None:
    """The class token's head alone, and beside heads that read the patches."""
    tasks = TaskConfig(name="classes", kind="classification", channels=11, cells=1)
    config = replace(SMALL, tasks=(*SMALL.tasks, tasks, replace(tasks, name="more", channels=7)) if mixed else (tasks,))
    model = seeded(config, 2).as_network()
    pixels = np.random.default_rng(6).integers(0, 256, (4, 3, 16, 32), dtype=np.uint8)
    for name in ("tiny", "edge"):
        machine = preset(name)
        quantised = quantise(model, pixels, machine.numerics)
        program, integer = compile_model(quantised, machine), IntegerModel(quantised, machine.numerics)
        for task in range(len(config.tasks)):
            golden = integer.run(pixels[0], task)
            result = emulator.run(program, pixels[0], task)
            verdict = verify(program, golden, result.traces, task)
            assert verdict.passed, str(verdict)
            assert np.array_equal(program.output(result.memory, task), integer.result(golden, task))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_token": False, "global_pool": "avg"}, ["missing: cls_token", "pooling over patches (fc_norm"]),
        ({"qk_norm": True}, ["a norm inside attention (blocks.0.attn.q_norm.weight"]),
        ({"reg_tokens": 4}, ["register tokens (reg_token)"]),
        ({"pre_norm": True}, ["a norm before the first block (norm_pre.weight"]),
        ({"num_classes": 0}, ["missing: head.weight (1000, 48)", "--backbone-only leaves norm and head out"]),
    ],
)
def test_unsupported_blocks_are_named_with_what_to_use_instead(tmp_path: Path, changes: dict, words: list[str]) -> None:
    path = saved(tmp_path / "model.pth", small(**changes))
    with pytest.raises(ImportProblems) as error:
        import_weights("timm-vit", path, options=Options(heads=3))
    for part in words:
        assert part in str(error.value)


def test_other_families_are_named(tmp_path: Path) -> None:
    state = small().state_dict() | {
        "dist_token": torch.zeros(1, 1, 48),
        "head_dist.weight": torch.zeros(10, 48),
        "layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(9, 3),
        "blocks.0.mlp.fc1_g.weight": torch.zeros(8, 48),
    }
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(ImportProblems) as error:
        import_weights("timm-deit", tmp_path / "model.pth", options=Options(heads=3))
    text = str(error.value)
    for what in ("a distillation token", "relative or rotary positions", "a gated MLP (SwiGLU)"):
        assert f"unsupported: {what}" in text and "nearest: " in text
    assert len(error.value.problems) == 3


def test_a_broken_one_lists_all_its_problems(tmp_path: Path) -> None:
    state = small().state_dict()
    del state["norm.weight"], state["blocks.1.mlp.fc2.bias"]
    state["head.weight"] = torch.zeros(10, 47)
    state["blocks.0.norm1.bias"] = torch.full((48,), float("inf"))
    torch.save(state, tmp_path / "model.pth")
    out = tmp_path / "out.safetensors"
    arguments = ["--format", "timm-deit", "--heads", "3", str(tmp_path / "model.pth"), "-o", str(out)]
    result = CliRunner().invoke(app, ["import", *arguments])
    assert result.exit_code == 2 and not out.exists()
    for line in (
        "(4 problems)",
        "missing: norm.weight (48,)",
        "missing: blocks.1.mlp.fc2.bias (48,)",
        "wrong shape: head.weight is (10, 47), expected (10, 48)",
        "not finite: blocks.0.norm1.bias",
    ):
        assert line in result.stderr
