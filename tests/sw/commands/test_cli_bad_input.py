"""Mistakes of the user: one message that says what to do, exit code 2, nothing written, no stack trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from tessera.sw.cli import app
from tests.helpers.small_checkpoints import save_small


def refused(arguments: list[str], out: Path, *words: str) -> str:
    """Invoke, require a refusal that names ``words``, and nothing at ``out``."""
    before = sorted(out.parent.iterdir())
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    message = result.output + result.stderr
    assert result.exit_code == 2, message
    assert "Traceback" not in message
    assert not out.exists() and sorted(out.parent.iterdir()) == before
    flat = " ".join(message.split())
    for word in words:
        assert word in flat, message
    return flat


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("models") / "small.safetensors")


def run(model: Path | str, *arguments: str) -> list[str]:
    return ["run", "--model", str(model), "--preset", "tiny", *arguments]


def test_missing_checkpoint(tmp_path: Path) -> None:
    refused(run(tmp_path / "none.safetensors"), tmp_path / "out", "no checkpoint at", "none.safetensors")


def test_unknown_model_name(tmp_path: Path) -> None:
    refused(run("napo"), tmp_path / "out", "unknown model 'napo'", "nano")


def test_truncated_checkpoint(tmp_path: Path, small: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(small.read_bytes()[:-100])
    refused(run(broken), tmp_path / "out", "not a whole safetensors file", "broken.safetensors")


def _rewritten(source: Path, target: Path, change) -> Path:
    with safe_open(source, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    change(tensors)
    save_file(tensors, target, metadata=metadata)
    return target


def test_wrong_shape(tmp_path: Path, small: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["blocks.0.attn.qkv.weight"] = torch.zeros(70, 24)

    model = _rewritten(small, tmp_path / "shape.safetensors", change)
    refused(run(model), tmp_path / "out", "blocks.0.attn.qkv.weight is (70, 24), expected (72, 24)")


def test_unknown_layer(tmp_path: Path, small: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["blocks.7.norm1.weight"] = torch.zeros(24)

    model = _rewritten(small, tmp_path / "layer.safetensors", change)
    refused(run(model), tmp_path / "out", "unexpected: blocks.7.norm1.weight")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory", "sram"], "--memory is 'sram'; choose dram or sdram"),
        (["--memory", "sdram", "--stalls", "4"], "--stalls cannot be chosen for an SDRAM"),
        (["--memory", "sdram", "--flip", "1:2"], "--flip cannot be chosen for an SDRAM"),
        (["--memory", "sdram", "--memory-clock", "200"], "the chip allows 100 MHz at CAS latency 2, 133 MHz at 3"),
        (["--memory", "sdram", "--memory-clock", "nan"], "--memory-clock is nan; give MHz, such as 100"),
    ],
)
def test_memories_that_cannot_be(tmp_path: Path, small: Path, arguments: list[str], said: str) -> None:
    refused(run(small, *arguments), tmp_path / "out", said)


def test_too_large_for_the_preset(tmp_path: Path) -> None:
    model = save_small(tmp_path / "large.safetensors", image_height=128, image_width=256, dim=96)
    message = refused(run(model), tmp_path / "out", "does not fit configuration 'tiny'", "needs", "has")
    assert "preset" in message


def test_unreadable_picture(tmp_path: Path, small: Path) -> None:
    (tmp_path / "text.png").write_text("this is no picture")
    refused(run(small, "--image", str(tmp_path / "text.png")), tmp_path / "out", "not a readable picture", "text.png")


def test_truncated_picture(tmp_path: Path, small: Path) -> None:
    picture = tmp_path / "half.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)).save(picture)
    picture.write_bytes(picture.read_bytes()[:2000])
    refused(run(small, "--image", str(picture)), tmp_path / "out", "not a readable picture")


def test_raw_pixels_of_another_size(tmp_path: Path, small: Path) -> None:
    (tmp_path / "image.float32.bin").write_bytes(b"\0" * 100)
    for command in ("run", "verify"):
        arguments = [command, *run(small, "--image", str(tmp_path / "image.float32.bin"))[1:]]
        refused(arguments, tmp_path / "out", "image.float32.bin has 100 bytes, expected 6,144", "truncated")
    arguments = ["quantize", "--model", str(small), "--image", str(tmp_path / "image.float32.bin")]
    refused(arguments, tmp_path / "out.safetensors", "image.float32.bin has 100 bytes")


def test_missing_picture(tmp_path: Path, small: Path) -> None:
    refused(run(small, "--image", str(tmp_path / "none.png")), tmp_path / "out", "no picture at", "--scene")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "huge"], ("unknown preset 'huge'", "tiny, ecp5-85f, ecp5-wide, edge")),
        (["--task", "flow"], ("unknown task 'flow'", "segmentation, depth")),
        (["--activation-width", "9"], ("9", "8")),
        (["--scene", "-1"], ("--scene", "0")),
        (["--frames", "0"], ("--frames", "1")),
        (["--flip", "-1:0"], ("-0x1", "the memory of this program has", "choose an address from 0 to 0x")),
        (["--flip", "0xffffffffff:0"], ("0xffffffffff", "the memory of this program has")),
        (["--dump", "tensors.txt"], ("tensors.txt", "ends in .npz")),
        (["--flip", "here"], ("--flip is 'here'", "0x2100:6")),
        (["--stalls", "256"], ("--stalls", "255")),
        (["--nonsense"], ("--nonsense",)),
    ],
)
def test_bad_values(tmp_path: Path, small: Path, arguments: list[str], words: tuple[str, ...]) -> None:
    refused(run(small, *arguments), tmp_path / "out", *words)


def test_no_compiler(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    from tessera.common import tools

    tools.cxx_version.cache_clear()
    try:
        refused(run(small), tmp_path / "out", "no C++ compiler", "no-such-compiler", "install g++")
    finally:
        tools.cxx_version.cache_clear()


def test_other_commands_refuse_alike(tmp_path: Path) -> None:
    none = str(tmp_path / "none.safetensors")
    for command in ("quantize", "compile"):
        refused([command, "--model", none], tmp_path / "out.safetensors", "no checkpoint at")
    refused(["verify", "--preset", "huge"], tmp_path / "out", "unknown preset 'huge'")
    refused(["train", "--model", "giant"], tmp_path / "out.safetensors", "unknown geometry 'giant'", "nano")
    refused(["train"], tmp_path / "checkpoint.txt", "ends in .safetensors")
    refused(["train", "--router", "top2"], tmp_path / "out.safetensors", "unknown router 'top2'", "task_conditioned")
    refused(["train", "--device", "tpu"], tmp_path / "out.safetensors", "unknown device 'tpu'")
    refused(["train", "--resume"], tmp_path / "out.safetensors", "no state to resume from")


def test_results_into_a_file(tmp_path: Path, small: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = CliRunner().invoke(app, [*run(small), "--out", str(tmp_path / "file")])
    assert result.exit_code == 2 and "is a file" in result.output + result.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_a_defect_of_the_program_keeps_its_stack_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr("tessera.sw.run.prepare.prepare", broken)
    result = CliRunner().invoke(app, ["run"])
    assert isinstance(result.exception, KeyError)
