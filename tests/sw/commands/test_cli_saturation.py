"""What saturates is said: in the terminal, in JSON and on the page, by calibration and by the machine; else nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.model import seeded
from tessera.sw.cli import app
from tests.helpers.small_checkpoints import SMALL, save_small


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose residual stream, GELU inputs, attention scores and gate logits leave their formats."""
    model: Any = seeded(SMALL, 1)
    with torch.no_grad():
        model.blocks[0].mlp.fc2.bias.fill_(100.0)
        model.blocks[0].mlp.fc1.bias[::7] = 30.0
        model.blocks[0].attn.qkv.weight[: 2 * SMALL.dim].mul_(20.0)
        for gate in model.blocks[1].mlp.gate:
            gate.w_gate.mul_(300.0)
    path = tmp_path_factory.mktemp("models") / "large.safetensors"
    checkpoint.save(path, Checkpoint.of(model))
    return path


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output + result.stderr
    return " ".join(result.output.split())


WORDS = {
    "values of the residual stream": ("layer00", 64, ""),
    "GELU inputs": ("layer00", 16, ""),
    "attention scores": ("layer00", 128, "octaves"),
    "gate logits": ("layer01", 128, "octaves"),
}


def check(report: dict[str, Any], said: str) -> None:
    found = {one["tensor"]: one for one in report["saturation"]}
    assert {name: (one["layer"], one["limit"], one["unit"]) for name, one in found.items()} == WORDS
    assert 100 < found["values of the residual stream"]["largest"] < 200
    assert 30 < found["GELU inputs"]["largest"] < 60
    for name, one in found.items():
        assert f"{name} beyond their format saturate: {one['layer']} reaches {one['largest']:.4g}" in said
        assert any(name in notice for notice in report["notices"])


def test_run_says_what_saturates_everywhere(large: Path, tmp_path: Path) -> None:
    said = invoke("run", "--model", str(large), "--preset", "tiny", "--out", str(tmp_path))
    report = json.loads((tmp_path / "run.json").read_text())
    check(report, said)
    machine = "the residual stream saturated on the machine in 2 of 2 frames"
    assert machine in said and any(machine in notice for notice in report["notices"]) and report["bit_exact"]
    assert all(frame["saturated"] for frame in report["frames"]) and report["tasks"]["depth"]["saturated"]
    page = (tmp_path / "report.html").read_text()
    assert machine in page and "gate logits beyond their format" in page


def test_the_machine_and_the_golden_model_agree_on_it(large: Path, tmp_path: Path) -> None:
    from tessera.sw.data.pictures import FIRST_SCENE
    from tessera.sw.run.execute import execute
    from tessera.sw.run.prepare import prepare
    from tessera.sw.run.target import Target

    for model, saturated in ((large, True), (save_small(tmp_path / "small.safetensors"), False)):
        prepared = prepare(Target(model=model, preset="tiny"))
        pictures = FIRST_SCENE.load(prepared.program.model)
        for frame in execute(prepared, pictures, [0, 1]).frames:
            assert frame.saturated == saturated == prepared.integer.run(pictures[0].image, frame.task)["saturated"]


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("quantize --scenes 1 --errors 1 -o {}/q.safetensors", "q.json"),
        ("evaluate --scenes 2 --rtl-samples 0 --activation-widths 8,12 --json {}/e.json", "e.json"),
    ],
)
def test_quantize_and_evaluate_say_it(large: Path, tmp_path: Path, command: str, file: str) -> None:
    said = invoke(*command.format(tmp_path).split(), "--model", str(large))
    check(json.loads((tmp_path / file).read_text()), said)
    if command.startswith("evaluate"):
        assert "the residual stream saturated in 2 of 2 pictures" in said


def test_verify_and_compile_say_it(large: Path, tmp_path: Path) -> None:
    arguments = ("--model", str(large), "--preset", "tiny")
    said = invoke("verify", *arguments, "--task", "depth", "--out", str(tmp_path))
    check(json.loads((tmp_path / "verify.json").read_text())["runs"][0], said)
    assert "the residual stream saturated on the machine in 1 of 1 frames" in said
    assert "GELU inputs beyond" in invoke("compile", *arguments, "-o", str(tmp_path / "p.safetensors"))


def test_a_quantised_file_still_knows(large: Path, tmp_path: Path) -> None:
    quantised = tmp_path / "q.safetensors"
    invoke("quantize", "--model", str(large), "--scenes", "1", "--errors", "1", "-o", str(quantised))
    said = invoke("compile", "--model", str(quantised), "--preset", "tiny", "-o", str(tmp_path / "p.safetensors"))
    assert "attention scores beyond their format saturate: layer00" in said


def test_nothing_is_said_where_nothing_saturates(tmp_path: Path) -> None:
    model = save_small(tmp_path / "small.safetensors")
    said = invoke("run", "--model", str(model), "--preset", "tiny", "--task", "depth", "--out", str(tmp_path / "o"))
    report = json.loads((tmp_path / "o" / "run.json").read_text())
    assert report["saturation"] == [] and report["notices"] == [] and not report["frames"][0]["saturated"]
    assert "saturat" not in said and "notice" not in said
    assert "Notice" not in (tmp_path / "o" / "report.html").read_text()


def test_a_stream_below_its_steps_is_said_too(tmp_path: Path) -> None:
    model: Any = seeded(SMALL, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e-6)
    checkpoint.save(tmp_path / "tiny.safetensors", Checkpoint.of(model))
    said = invoke("compile", "--model", str(tmp_path / "tiny.safetensors"), "-o", str(tmp_path / "p.safetensors"))
    assert "the residual stream is lost in rounding: it reaches" in said and "one step is 0.000488" in said
