"""``tessera show``: the network as text, drawing, numbers and steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tessera
from tessera.sw.cli import app
from tests.helpers.schemas import document
from tests.helpers.small_checkpoints import save_small


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("show") / "small.safetensors")


def shown(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["show", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_operators_with_shapes_weights_and_tasks(small: Path):
    found = lines(shown(small))
    qkv = [line for line in found if line[:2] == ["qkv", "linear"]]
    assert len(qkv) == 2 and all(line[-1].replace(",", "").isdigit() and "x" in line for line in qkv)
    assert any(line and line[-2:-1] == ["="] or "=" in line for line in found)
    assert any("<" in line and "residual_attention," in line for line in found)


def test_steps_and_their_cycles_add_up(small: Path, tmp_path: Path):
    text = shown(small, "--steps", "--preset", "tiny", "--json", tmp_path / "n.json")
    assert "cycles" in text and "embed.init" in text and "qkv" not in text
    written = document(tmp_path / "n.json")
    program = tessera.compile(tessera.Target(model=small, preset="tiny"), progress=False)
    total = sum(one.ideal_cycles for one in program.commands)
    assert sum(written["cycles"].values()) == total > 0


def test_the_drawing_and_the_numbers_are_written(small: Path, tmp_path: Path):
    shown(small, "--svg", tmp_path / "n.svg", "--json", tmp_path / "n.json")
    assert (tmp_path / "n.svg").read_text().startswith("<svg")
    written = document(tmp_path / "n.json")
    items = [item for series in written["outline"] for layer in series["layers"] for item in layer["items"]]
    assert written["operators"] >= len(items) > 10 and written["steps"] == [] and written["cycles"] == {}


def test_mistakes_are_one_message(small: Path, tmp_path: Path):
    assert "unknown model 'napo'" in shown("napo", code=2)
    assert "add --steps" in " ".join(shown(small, "--preset", "tiny", code=2).split())
    assert "unknown preset" in shown(small, "--steps", "--preset", "tinny", code=2)
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == "[]"
