"""Imported weights: the network is the original's, every problem is listed at once, and the machine's way is exact."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.golden.config import M3VIT_BACKBONE
from tessera.golden.integer.model import IntegerModel
from tessera.sw.cli import app
from tessera.sw.compiler.compile import compile_model
from tessera.sw.data.pictures import load_picture
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.run.target import machine
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.edge_moe import SHAPES, forward, path_of, write_directory


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_directory(tmp_path_factory.mktemp("edge-moe") / "weights")


@pytest.fixture(scope="module")
def imported(weights: Path) -> tuple[Path, str]:
    """The checkpoint, and what the command said."""
    out = weights.parent / "model.safetensors"
    result = CliRunner().invoke(app, ["import", "--format", "edge-moe", str(weights), "-o", str(out)])
    assert result.exit_code == 0, result.output
    return out, result.output


def test_says_what_was_imported(imported: tuple[Path, str], weights: Path) -> None:
    output = " ".join(imported[1].split())
    total = sum(int(np.prod(shape)) for shape in SHAPES.values()) + 192  # and our class token
    assert f"{len(SHAPES) + 1}" in output and f"{total:,}" in output and "m3vit-backbone: 129 tokens of 192" in output
    assert f"tessera run --model {imported[0]} --image {path_of(weights, 'image')}" in output
    loaded = checkpoint.load(imported[0])
    assert loaded.geometry == M3VIT_BACKBONE and (loaded.weights, loaded.source) == ("imported", "edge-moe")


def test_the_original_s_own_output_is_compared(weights: Path, tmp_path: Path) -> None:
    """The folder as it is published: with the stream after the last layer, of the picture and the first task."""
    folder, out = tmp_path / "weights", tmp_path / "model.safetensors"
    folder.mkdir()
    for path in weights.iterdir():
        (folder / path.name).symlink_to(path)
    image = np.fromfile(path_of(weights, "image"), "<f4").reshape(3, 128, 256).astype(np.float64)
    streams, _ = forward(weights, image, 0)
    reference = path_of(folder, "l11_x_post_moe")
    said = []
    for values in (streams[11], streams[10]):
        values.astype("<f4").tofile(reference)
        streams[4].astype("<f4").tofile(path_of(folder, "l4_x_post_mlp"))
        result = CliRunner().invoke(app, ["import", "--format", "edge-moe", str(folder), "-o", str(out)])
        assert result.exit_code == 0, result.output + result.stderr
        said.append([line for line in result.output.splitlines() if "_x_post_" in line])
    line = "notice l11_x_post_moe: the float model's task task0 differs from the original's output by "
    errors = [float(re.search(r"by ([\d.e-]+) \(relative L2\)", lines[1])[1]) for lines in said]
    assert said[0][1].startswith(line) and errors[0] < 2e-5 and errors[1] > 0.01
    assert "not of these weights and this picture" in said[1][1] and "not of these" not in "".join(said[0])
    assert said[0][0].startswith("notice l4_x_post_mlp: ") and said[0][0] == said[1][0]
    path_of(folder, "image").unlink()
    result = CliRunner().invoke(app, ["import", "--format", "edge-moe", str(folder), "-o", str(out)])
    assert "l4_x_post_mlp, l11_x_post_moe: not compared, because the picture" in result.output
    reference.write_bytes(b"1234")
    path_of(folder, "l12_x_post_moe").write_bytes(b"")
    path_of(folder, "l0_fc1_bias").unlink()
    path_of(folder, "l0_fc1_bias").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n")
    message = refused("--format", "edge-moe", folder, out=tmp_path / "other.safetensors")
    for words in (
        "wrong size: l11_x_post_moe.float32.bin has 4 bytes, expected 99,072 for (129, 192) float32: truncated",
        "unexpected: l12_x_post_moe.float32.bin is no tensor",
        "not fetched: l0_fc1_bias.float32.bin is a pointer of Git LFS: run `git lfs pull`",
        "(3 problems)",
    ):
        assert words in message


@pytest.mark.parametrize("task", [0, 1])
def test_float_model_computes_what_the_original_does(imported: tuple[Path, str], weights: Path, task: int) -> None:
    model = checkpoint.load(imported[0]).model
    image = np.fromfile(path_of(weights, "image"), "<f4").reshape(3, 128, 256).astype(np.float64)
    pixels = torch.from_numpy(load_picture(path_of(weights, "image"), M3VIT_BACKBONE).image[None])
    streams, choices = forward(weights, image, task)
    for precise, tolerance in ((model, 2e-5), (model.double(), 1e-12)):
        capture: dict = {}
        with torch.no_grad():
            result = precise.predict(pixels, task, capture=capture)[0].double().numpy()
        for layer, expected in enumerate(streams):
            got = capture[f"layer{layer:02d}.residual"][0].double().numpy()
            assert np.linalg.norm(got - expected) <= tolerance * np.linalg.norm(expected), f"layer {layer}, {tolerance}"
        for layer, chosen in zip(M3VIT_BACKBONE.expert_layers, choices, strict=True):
            assert np.array_equal(capture[f"layer{layer:02d}.experts.expert_indices"][0].numpy(), chosen), (
                f"layer {layer}"
            )
        assert np.array_equal(result, got)


def test_quantised_and_compiled_it_is_bit_exact(imported: tuple[Path, str], weights: Path) -> None:
    config = machine("edge")
    model = checkpoint.load(imported[0]).model
    image = load_picture(path_of(weights, "image"), M3VIT_BACKBONE).image
    quantised = quantise(model, image[None], config.numerics)
    program, integer = compile_model(quantised, config), IntegerModel(quantised, config.numerics)
    for task in range(2):
        golden = integer.run(image, task)
        result = emulator.run(program, image, task)
        verdict = verify(program, golden, result.traces, task)
        assert verdict.passed, str(verdict)
        assert np.array_equal(program.output(result.memory, task), golden["layer11.residual"])
        expected, _ = forward(weights, image / 256, task)
        got = integer.dequantise("layer11.residual", golden["layer11.residual"])
        assert np.linalg.norm(got - expected[-1]) < 0.05 * np.linalg.norm(expected[-1])


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(weights: Path, tmp_path: Path) -> Path:
    """The directory again, as links that a test may replace."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for path in weights.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def refused(*arguments: object, out: Path) -> str:
    """Invoke ``import``, require a refusal without a trace on disk, and give back its lines."""
    before = sorted(out.parent.iterdir())
    result = CliRunner().invoke(app, ["import", *map(str, arguments), "-o", str(out)])
    message = result.output + result.stderr
    assert result.exit_code == 2 and "Traceback" not in message, message
    assert sorted(out.parent.iterdir()) == before
    return message


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(change(content))


def poke(index: int, value: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: 4 * index] + np.float32(value).tobytes() + content[4 * index + 4 :]


BREAKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (
        lambda folder: path_of(folder, "l4_fc1_weight").unlink(),
        "missing: l4_fc1_weight.float32.bin, (768, 192) float32, 589,824 bytes",
    ),
    "unexpected": (
        lambda folder: (folder / "l2_w_gate_T_task0.float32.bin").write_bytes(b""),
        "unexpected: l2_w_gate_T_task0.float32.bin is no tensor of 'm3vit-backbone'",
    ),
    "truncated": (
        lambda folder: rewrite(path_of(folder, "pos_embed"), lambda content: content[:-4]),
        "wrong size: pos_embed.float32.bin has 99,068 bytes, expected 99,072 for (129, 192) float32: truncated",
    ),
    "empty": (
        lambda folder: rewrite(path_of(folder, "l0_norm2_bias"), lambda content: b""),
        "wrong size: l0_norm2_bias.float32.bin has 0 bytes, expected 768 for (192,) float32: truncated",
    ),
    "too long": (
        lambda folder: rewrite(path_of(folder, "l9_htoh4_bias"), lambda content: content + b"\0"),
        "wrong size: l9_htoh4_bias.float32.bin has 24,577 bytes, expected 24,576 for (16, 384) float32: too long",
    ),
    "NaN": (
        lambda folder: rewrite(path_of(folder, "l1_h4toh_weight"), poke(5 * 192 * 384 + 7 * 384 + 3, np.nan)),
        "not finite: l1_h4toh_weight.float32.bin has 1 NaN and 0 infinite values of 1,179,648, the first at [5, 7, 3]",
    ),
    "infinite": (
        lambda folder: rewrite(path_of(folder, "l11_w_gate_T_task1"), poke(200, -np.inf)),
        "not finite: l11_w_gate_T_task1.float32.bin has 0 NaN and 1 infinite values of 3,072, the first at [1, 8]",
    ),
    "a folder": (
        lambda folder: (path_of(folder, "l3_qkv_bias").unlink(), path_of(folder, "l3_qkv_bias").mkdir())[0],
        "not a file: l3_qkv_bias.float32.bin",
    ),
    "dangling": (
        lambda folder: (
            path_of(folder, "l5_qkv_bias").unlink(),
            path_of(folder, "l5_qkv_bias").symlink_to("nowhere"),
        )[0],
        "not a file: l5_qkv_bias.float32.bin",
    ),
    "picture": (
        lambda folder: rewrite(path_of(folder, "image"), poke(9, 1.5)),
        "out of range: pixels of image.float32.bin lie in [0, 1.5], expected [0, 1)",
    ),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_each_problem_is_named(kind: str, copy: Path, tmp_path: Path) -> None:
    breaks, line = BREAKS[kind]
    breaks(copy)
    message = refused("--format", "edge-moe", copy, out=tmp_path / "model.safetensors")
    assert line in message and "(1 problem)" in message


def test_all_problems_are_listed_at_once(copy: Path, tmp_path: Path) -> None:
    for breaks, _ in BREAKS.values():
        breaks(copy)
    message = refused("--format", "edge-moe", copy, out=tmp_path / "model.safetensors")
    assert all(line in message for _, line in BREAKS.values()) and f"({len(BREAKS)} problems)" in message
    assert "Nothing was written" in message and "docs/formats.md" in message


def test_the_picture_and_other_files_are_optional(copy: Path, tmp_path: Path) -> None:
    path_of(copy, "image").unlink()
    (copy / "README.md").write_text("notes")
    out = tmp_path / "model.safetensors"
    result = CliRunner().invoke(app, ["import", "--format", "edge-moe", str(copy), "-o", str(out)])
    assert result.exit_code == 0 and out.is_file() and "--image" not in result.output


def test_mistakes_of_the_call(weights: Path, tmp_path: Path) -> None:
    out, moe = tmp_path / "model.safetensors", ("--format", "edge-moe")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "does not exist; give the folder" in refused(*moe, tmp_path / "none", out=out)
    assert "is a file; give the folder" in refused(*moe, path_of(weights, "pos_embed"), out=out)
    assert f"expected {len(SHAPES)} of them" in refused(*moe, empty, out=out)
    assert re.search(r"unknown format 'onnx'.*edge-moe: folder of", refused("--format", "onnx", weights, out=out), re.S)
    assert "ends in .safetensors" in refused(*moe, weights, out=tmp_path / "model.bin")
    assert "--format" in refused(weights, out=out)


def test_a_failed_import_keeps_the_old_checkpoint(imported: tuple[Path, str], copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    out.write_bytes(b"mine")
    path_of(copy, "pos_embed").unlink()
    refused("--format", "edge-moe", copy, out=out)
    assert out.read_bytes() == b"mine"
