"""Geometries that fit no tile or word: padded and bit-exact, or refused by the name of the limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.golden.model import seeded
from tessera.sw.cli import app
from tessera.sw.compiler.compile import compile_model
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.run.target import machine
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.schemas import document
from tests.helpers.small_checkpoints import save_small

EVEN = ModelConfig(
    name="even",
    image_height=16,
    image_width=32,
    patch=8,
    dim=32,
    heads=2,
    layers=2,
    mlp_hidden=48,
    expert_layers=(1,),
    experts=16,
    expert_hidden=32,
    top_k=2,
    tasks=(
        TaskConfig(name="task0", kind="features", channels=0, cells=0),
        TaskConfig(name="task1", kind="features", channels=0, cells=0),
    ),
    final_norm=False,
)
"""Every dimension but the tokens is a multiple of 16, the largest P and T of a preset."""

UNEVEN: dict[str, dict[str, int]] = {
    "D, multiple of T per head alone": {"dim": 48, "heads": 1},
    "D and head_dim": {"dim": 42, "heads": 3},
    "one channel beyond a word": {"dim": 34, "heads": 2},
    "head_dim 1": {"dim": 5, "heads": 5},
    "dense hidden": {"mlp_hidden": 33},
    "expert hidden": {"expert_hidden": 7},
    "experts": {"experts": 5},
    "experts beyond tiles of 4 and 8": {"experts": 13},
    "one expert": {"experts": 1, "top_k": 1},
    "patch inputs": {"patch": 2, "image_height": 6},
    "patches of one pixel": {"patch": 1, "image_height": 2},
    "patches of no power of two": {"patch": 12, "image_height": 24, "image_width": 96},
    "all": {"dim": 21, "heads": 3, "mlp_hidden": 35, "expert_hidden": 11, "experts": 7, "patch": 2},
}


@pytest.mark.parametrize("preset", ["tiny", "ecp5-wide", "edge"])
@pytest.mark.parametrize("kind", UNEVEN)
def test_every_uneven_dimension_is_padded(kind: str, preset: str) -> None:
    config, model = machine(preset), seeded(replace(EVEN, **UNEVEN[kind]), 3)  # type: ignore[arg-type]
    shape = (2, 3, model.config.image_height, model.config.image_width)
    images = np.random.default_rng(8).integers(0, 256, shape, np.uint8)
    quantised = quantise(model.as_network(), images, config.numerics)
    program, integer = compile_model(quantised, config), IntegerModel(quantised, config.numerics)
    for task, image in enumerate(images):
        golden, result = integer.run(image, task), emulator.run(program, image, task)
        verdict = verify(program, golden, result.traces, task)
        assert verdict.passed, str(verdict)
        assert np.array_equal(program.output(result.memory, task), golden["layer01.residual"])


def test_the_machine_itself_pads(tmp_path: Path) -> None:
    uneven = {"name": "uneven", "tasks": EVEN.tasks, "final_norm": False, **UNEVEN["all"]}
    model = save_small(tmp_path / "uneven.safetensors", **uneven)
    arguments = ["--model", str(model), "--preset", "tiny", "--stalls", "30", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["verify", *arguments])
    assert result.exit_code == 0, result.output
    verdicts = document(tmp_path / "out" / "verify.json")
    assert verdicts["bit_exact"] and [frame["task"] for frame in verdicts["runs"][0]["frames"]] == ["task0", "task1"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"image_width": 40}, "an image row has 40 bytes; it must be a multiple of the bus width (32 bytes)"),
        ({"experts": 17}, "experts: needs 17, has 16 (max_experts)"),
        ({"experts": 5, "top_k": 5}, "experts a token: needs 5, has 4 (max_top_k)"),
        ({"dim": 1040, "heads": 1}, "held query in words: needs 65"),
    ],
)
def test_what_cannot_be_padded_is_refused_by_name(changes: dict, line: str, tmp_path: Path) -> None:
    model = save_small(tmp_path / "odd.safetensors", **changes)
    out = tmp_path / "program.safetensors"
    result = CliRunner().invoke(app, ["compile", "--model", str(model), "--preset", "edge", "-o", str(out)])
    message = result.output + result.stderr
    assert result.exit_code == 2 and line in message and "does not fit configuration 'edge'" in message, message
    assert not out.exists()
