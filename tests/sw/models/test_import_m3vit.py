"""M3ViT's checkpoints: what is imported computes what the original does, and a broken one lists all its problems."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

import tessera
from tessera.golden import checkpoint
from tessera.golden.integer.model import IntegerModel
from tessera.golden.model import seeded
from tessera.golden.network.operators import MixExperts
from tessera.hw.formats import Numerics
from tessera.sw.cli import app
from tessera.sw.models.importer import ImportProblems, Options, import_weights, to_checkpoint
from tessera.sw.quantiser.quantise import quantise
from tests.helpers.m3vit import DIM, HEADS, TASKS, forward, head, state_dict
from tests.helpers.quantised_models import MIXED
from tests.helpers.timm_models import resample_abs_pos_embed

TOP_K = 2
RAW = Options(heads=HEADS, top_k=TOP_K, pixels="raw")


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def pictures(height: int = 32, width: int = 32) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (2, 3, height, width), dtype=np.uint8))


def imported(path: Path, options: Options = RAW):
    return to_checkpoint(import_weights("m3vit", path, options=options)).model


@pytest.mark.parametrize("router", ["multi_gate", "shared", "conditioned"])
@pytest.mark.parametrize("pixels", ["raw", "imagenet"])
def test_computes_what_the_original_does(tmp_path: Path, router: str, pixels: str) -> None:
    state = state_dict(router)
    tasks = ("semseg", "depth")
    options = Options(heads=HEADS, top_k=TOP_K, pixels=pixels, tasks=tasks)
    model = imported(saved(tmp_path / "model.pth", state), options).double()
    assert [task.name for task in model.network.tasks] == list(tasks)
    assert [mixture.place for mixture in model.network.of_kind(MixExperts)] == ["layer01", "layer03"]
    images = pictures()
    inputs = images.double() / 256
    if pixels == "imagenet":
        mean, deviation = (
            torch.tensor(v).double().view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        )
        inputs = (images.double() / 255 - mean) / deviation
    results = []
    for task in range(TASKS):
        expected = forward(state, inputs, task, TOP_K)
        with torch.no_grad():
            results.append(model.predict(images, task))
        # Both sides compute in float64; but what the importer folds (pixels, task embedding) is stored as float32.
        exact = pixels == "raw" and router != "conditioned"
        assert torch.allclose(results[-1], expected, rtol=0, atol=1e-12 if exact else 1e-5)
    assert torch.equal(*results) == (router == "shared")


def test_a_checkpoint_of_our_float_model_comes_back_exactly(tmp_path: Path) -> None:
    model = seeded(MIXED, 4)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(("norm.", "heads."))}
    path = saved(
        tmp_path / "model.pth.tar", {"epoch": 3, "model": {f"module.backbone.{n}": t for n, t in state.items()}}
    )
    again = imported(path, Options(heads=3, top_k=2, pixels="raw", trained_size=(32, 48)))
    for name, tensor in again.weights.items():
        assert torch.equal(tensor, state[name]), name
    captured: list[dict] = [{}, {}]
    with torch.no_grad():
        model(pictures(32, 48), 1, capture=captured[0])
        again.predict(pictures(32, 48), 1, capture=captured[1])
    assert torch.equal(captured[0]["layer02.residual"], captured[1]["layer02.residual"])


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
def test_prefixes_and_nests(tmp_path: Path, prefix: str, nest: str | None) -> None:
    state = state_dict()
    content: object = {prefix + name: tensor for name, tensor in state.items()}
    if nest is not None:
        extra = {"best": np.float64(0.5), "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}}
        content = {"epoch": 7, nest: content, **extra}
    ours = imported(saved(tmp_path / "model.pth", content)).weights
    assert all(torch.equal(ours[name], tensor) for name, tensor in state.items())


def test_half_precision_and_safetensors(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    ours = imported(tmp_path / "model.safetensors").weights
    assert all(torch.equal(ours[name], tensor.float()) for name, tensor in state.items())


def test_experts_of_several_ranks_are_joined(tmp_path: Path) -> None:
    state = state_dict()
    for rank, share in enumerate((slice(0, 2), slice(2, 5))):
        part = {n: t[share].clone() if ".experts." in n else t for n, t in state.items()}
        saved(tmp_path / f"{rank}.pth", {"state_dict": {n: t for n, t in part.items() if not rank or ".experts." in n}})
    ours = imported(tmp_path).weights
    assert all(torch.equal(ours[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("size", [(48, 64), (16, 24)])
def test_positions_of_another_image_size_are_timm_s(tmp_path: Path, size: tuple[int, int]) -> None:
    state = state_dict()
    path = saved(tmp_path / "model.pth", state)
    model = imported(path, Options(heads=HEADS, top_k=TOP_K, pixels="raw", image_size=size))
    grid = (size[0] // 8, size[1] // 8)
    expected = resample_abs_pos_embed(state["pos_embed"], list(grid))
    # Two float32 interpolations of values of about 1, which may add in another order.
    assert torch.allclose(model.weights["pos_embed"], expected, atol=1e-6) and model.network.tasks[0].grid == grid
    with torch.no_grad():
        assert model.predict(pictures(*size), 0).shape == (2, 1 + grid[0] * grid[1], DIM)


def test_models_without_biases_of_q_k_v(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in state_dict().items() if not name.endswith("qkv.bias")}
    ours = imported(saved(tmp_path / "model.pth", state)).weights
    assert not ours["blocks.0.attn.qkv.bias"].any()


def test_the_command_says_what_it_assumed_and_the_model_quantises(tmp_path: Path) -> None:
    state = state_dict() | {
        "decoders.semseg.conv_0.weight": torch.zeros(2, DIM, 3, 3),
        "decoders.depth.conv_0.weight": torch.zeros(2, DIM, 3, 3),
        "blocks.1.mlp.gate.0.w_gate_aux": torch.zeros(DIM, 5),
    }
    path, out = saved(tmp_path / "model.pth", state), tmp_path / "model.safetensors"
    arguments = ["--heads", str(HEADS), "--backbone-only", "--image-size", "16x32", "-o", str(out)]
    result = CliRunner().invoke(app, ["import", "--format", "m3vit", str(path), *arguments])
    output = " ".join(result.output.split())
    assert result.exit_code == 0, output
    for words in (
        "semseg (features), depth (features)",
        "each token goes to 4 experts",
        "pixels normalised by ImageNet's mean and deviation",
        "positions interpolated from 4 x 4 to 2 x 4 patches",
        "3 tensors of heads and of training were left out",
    ):
        assert words in output
    loaded = checkpoint.load(out)
    assert (loaded.weights, loaded.source) == ("imported", "m3vit")
    assert {mixture.top_k for mixture in loaded.network.of_kind(MixExperts)} == {4}
    assert "3 tensors of heads and of training were left out" in loaded.assumed
    images = pictures(16, 32)
    quantised = quantise(loaded.model, images.numpy(), Numerics())
    with torch.no_grad():
        expected = loaded.model.predict(images[:1], 1)[0].double().numpy()
    got = IntegerModel(quantised, Numerics()).predict(images[0].numpy(), 1)
    assert np.linalg.norm(got - expected) < 0.08 * np.linalg.norm(expected)


# Heads ----------------------------------------------------------------------------------------------------------------

WITH_HEADS = {"patch": 16, "grid": (8, 16), "heads": {"semseg": 7, "depth": 1}}


def test_heads_compute_what_the_original_s_do(tmp_path: Path) -> None:
    state = state_dict(**WITH_HEADS)
    options = Options(heads=HEADS, top_k=TOP_K, trained_size=(128, 256))
    model = imported(saved(tmp_path / "model.pth", {f"module.{name}": value for name, value in state.items()}), options)
    found = [(task.name, task.kind, task.channels, task.grid) for task in model.network.tasks]
    assert found == [("semseg", "segmentation", 7, (128, 256)), ("depth", "depth", 1, (128, 256))]
    images = pictures(128, 256)
    mean, deviation = (torch.tensor(v).double().view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    inputs = (images.double() / 255 - mean) / deviation
    for task, name in enumerate(("semseg", "depth")):
        expected = head(state, f"decoders.{name}", forward(state, inputs, task, TOP_K), (8, 16))
        with torch.no_grad():
            made = model.double().predict(images, task)
        # Batch norm and pixels are folded in float64 and stored in float32; the rest is in float64 on both sides.
        assert made.shape == expected.shape and (made - expected).abs().max() < 1e-5 * expected.abs().max()


def test_heads_run_exactly_on_the_machine(tmp_path: Path) -> None:
    """128 x 256 pixels on the boards' machine, whose residual memory holds a third of the largest map."""
    options = Options(heads=HEADS, top_k=TOP_K, trained_size=(128, 256))
    path, out = saved(tmp_path / "model.pth", state_dict(**WITH_HEADS)), tmp_path / "model.safetensors"
    checkpoint.save(out, to_checkpoint(import_weights("m3vit", path, options=options)))
    result = tessera.run(tessera.Target(model=out, preset="ecp5-85f"), out=tmp_path / "run", progress=False)
    assert result.bit_exact and [frame.task for frame in result.frames] == ["semseg", "depth"]
    # Weights are random, and so are what depends on small differences: experts, and classes.
    assert all(frame.prediction.relative_l2 < 0.1 for frame in result.frames)


def test_a_head_that_is_not_whole_or_not_one_of_these_is_named(tmp_path: Path) -> None:
    state = state_dict(**WITH_HEADS)
    del state["decoders.semseg.syncbn_fc_2.running_var"], state["decoders.depth.conv_4.bias"]
    state["decoders.depth.norm.weight"] = torch.zeros(5)
    state["decoders.semseg.output_level_1.weight"] = torch.zeros(7, 12, 1, 1)  # which only training reads
    for name in ("conv_0", "conv_1"):
        state[f"decoders.edge.{name}.weight"] = torch.zeros(12, DIM, 1, 1)
    options = Options(heads=HEADS, top_k=TOP_K, trained_size=(128, 256), tasks=("semseg", "depth"))
    with pytest.raises(ImportProblems) as error:
        imported(saved(tmp_path / "model.pth", state), options)
    other = "unsupported: a head other than four convolutions with batch norm and one behind them "
    other += "(decoders.edge.conv_0.weight and 1 more); nearest: --backbone-only, whose result is the residual stream "
    assert sorted(error.value.problems) == [
        "missing: decoders.depth.conv_4.bias (1,)",
        "missing: decoders.semseg.syncbn_fc_2.running_var (12,)",
        other + "that the head reads",
        "wrong shape: decoders.depth.norm.weight is (5,), expected (24,)",
    ]


def test_heads_of_patches_of_another_size_are_refused(tmp_path: Path) -> None:
    state = state_dict(heads={"semseg": 7, "depth": 1})
    with pytest.raises(ImportProblems, match=r"heads that make patches of 8 x 8 pixels 16 times as large.*--backbone"):
        imported(saved(tmp_path / "model.pth", state))


# Bad input ------------------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_listed_at_once(tmp_path: Path) -> None:
    state = state_dict()
    del state["blocks.0.mlp.fc1.bias"], state["blocks.3.mlp.experts.h4toh.weight"], state["cls_token"]
    state["blocks.1.attn.proj.weight"] = torch.zeros(DIM, 5)
    state["blocks.2.norm1.weight"] = torch.full((DIM,), float("nan"))
    state["blocks.1.mlp.gate.1.w_gate"] = torch.zeros(DIM, 4)
    state["something.else"] = torch.zeros(3)
    state["decoders.semseg.conv_0.weight"] = torch.zeros(2, DIM, 3, 3)
    state["decoders.semseg.conv_1.weight"] = torch.zeros(2, DIM, 3, 3)
    state["blocks.1.mlp.gate.0.w_noise"] = torch.zeros(DIM, 5)
    with pytest.raises(ImportProblems) as error:
        imported(saved(tmp_path / "model.pth", state))
    text = str(error.value)
    assert (
        len(error.value.problems) == 9 and "(9 problems)" in text and "read as 17 tokens of 24, 4 layers, 5 exp" in text
    )
    other = "unsupported: a head other than four convolutions with batch norm and one behind them "
    for line in (
        other + "(decoders.semseg.conv_0.weight and 1 more); nearest: --backbone-only",
        "unsupported: a noisy gate",
        "missing: blocks.0.mlp.fc1.bias (40,)",
        "missing: blocks.3.mlp.experts.h4toh.weight (5, 24, 16)",
        "missing: cls_token (1, 1, 24)",
        "wrong shape: blocks.1.attn.proj.weight is (24, 5), expected (24, 24)",
        "wrong shape: blocks.1.mlp.gate.1.w_gate is (24, 4), expected (24, 5)",
        "not finite: blocks.2.norm1.weight",
        "unexpected: something.else (3,)",
    ):
        assert line in text


@pytest.mark.parametrize("name", sorted(state_dict("conditioned")))
def test_every_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    state = state_dict("conditioned")
    shape = tuple(state.pop(name).shape)
    with pytest.raises(ImportProblems) as error:
        imported(saved(tmp_path / "model.pth", state))
    assumed = {  # what follows from this tensor alone is taken from published models
        "pos_embed": (1, 1 + 28 * 28, DIM),
        "patch_embed.proj.weight": (DIM, 3, 16, 16),
        "gate_task_represent.fc1.weight": (6, 1),
    }
    shape = assumed.get(name, shape)
    assert any(line.startswith(f"missing: {name} {shape}") for line in error.value.problems), error.value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(top_k=2), "24 channels are of no published model: say how many attention heads it has with --heads"),
        (Options(heads=5), "dim 24 is not a multiple of heads 5"),
        (Options(heads=3, top_k=6), "top_k is 6, expected 1 to the number of experts (5)"),
        (Options(heads=3, tasks=("a",)), "--tasks names 1 tasks, the checkpoint has 2"),
        (Options(heads=3, pixels="zero"), "unknown normalisation of pixels 'zero'; choose one of: raw, imagenet, half"),
        (Options(heads=3, image_size=(30, 32)), "image 30x32 is not a whole number of 8x8 patches"),
        (Options(heads=3, trained_size=(32, 64)), "images of 32x64 have 4 x 8 patches of 8, but pos_embed is of 16"),
    ],
)
def test_options_that_do_not_go_with_the_weights(tmp_path: Path, options: Options, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        imported(saved(tmp_path / "model.pth", state_dict()), options)


def test_images_that_were_not_square_must_be_told(tmp_path: Path) -> None:
    state = state_dict()
    state["pos_embed"] = torch.zeros(1, 1 + 2 * 6, DIM)
    path = saved(tmp_path / "model.pth", state)
    with pytest.raises(
        ImportProblems, match="12 without the class token, which is no square: say the size of the train"
    ):
        imported(path)
    assert imported(path, Options(heads=3, top_k=2, trained_size=(16, 48))).network.tasks[0].grid == (2, 6)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a whole file of torch.save"),
        (b"no checkpoint", "is not a whole file of torch.save"),
        ({"epoch": 3}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"model": {"a": torch.zeros(1)}, "hook": re.compile("x")}, "holds Python objects besides tensors"),
        ({"module.a": torch.zeros(1), "a": torch.zeros(1)}, "names differ by nothing but the prefixes"),
    ],
)
def test_files_without_weights(tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    out = tmp_path / "out.safetensors"
    result = CliRunner().invoke(app, ["import", "--format", "m3vit", str(path), "-o", str(out)])
    assert result.exit_code == 2 and not out.exists() and words in " ".join(result.stderr.split()), result.stderr


def test_the_command_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pth", state_dict())
    for arguments, words in (
        (["--format", "m3vit", "--image-size", "32"], "--image-size is '32'; give height and width"),
        (["--format", "edge-moe", "--heads", "3"], "format 'edge-moe' takes no --heads"),
        (["--format", "timm-deit", "--top-k", "3"], "format 'timm-deit' takes no --top-k"),
        (["--format", "keras"], "unknown format 'keras'"),
    ):
        result = CliRunner().invoke(app, ["import", str(path), *arguments, "-o", str(tmp_path / "out.safetensors")])
        assert result.exit_code == 2 and words in " ".join(result.stderr.split()), result.stderr
    for missing in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(ValueError, match="no checkpoint at|is a folder without 0.pth"):
            import_weights("m3vit", missing)
