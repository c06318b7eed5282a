"""``tessera deploy``: on the simulated board, and on a model of one that is wrong in every way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tessera.hw.presets import preset
from tessera.hw.register_map import REGISTERS
from tessera.sw.cli import app
from tests.helpers.link_model import ModelBoard
from tests.helpers.schemas import document
from tests.helpers.small_checkpoints import save_small


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("models") / "small.safetensors")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> ModelBoard:
    """What is on every port."""
    board = ModelBoard(preset("tiny"))
    monkeypatch.setattr("tessera.sw.driver.deploy.SerialTransport", lambda port, baud: board)
    return board


def deploy(*arguments: object):
    return CliRunner().invoke(app, ["deploy", *map(str, arguments)])


def refused(result, out: Path, *said: str, code: int = 2) -> None:
    """One message, nothing written, no stack trace."""
    assert result.exit_code == code, result.output
    message = result.stderr
    assert message.startswith("tessera: ") and "Traceback" not in result.output
    assert all(words in message for words in said), message
    assert not out.exists()


def test_a_picture_on_the_simulated_board(small: Path, tmp_path: Path) -> None:
    picture, out = tmp_path / "picture.png", tmp_path / "out"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (40, 50)).astype(np.uint8)).save(picture)
    result = deploy("--port", "simulated", "--model", small, "--image", picture, "--verify", "--out", out)
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert "preset tiny, build simulated, 100.0 MHz" in output and "resized from 50x40 to 32x16" in output
    run = document(out / "deploy.json")
    assert run["bit_exact"] is True and run["preset"] == "tiny" and run["device"]["build"] == "simulated"
    assert [(frame["task"], frame["bit_exact"]) for frame in run["frames"]] == [("segmentation", True), ("depth", True)]
    assert all(frame["counters"]["cycles"] > 5000 and frame["elements_compared"] >= 32 for frame in run["frames"])
    assert run["load"]["bytes"] > 40_000 and run["load"]["bytes_per_s"] > 0
    assert {path.name for path in out.iterdir()} == {"deploy.json", "input.png", "segmentation.png", "depth.png"}


def test_the_board_says_what_to_compile_for(small: Path, board: ModelBoard, tmp_path: Path) -> None:
    result = deploy("--port", "COM3", "--model", small, "--task", "depth", "--frames", 2, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    run = document(tmp_path / "out" / "deploy.json")
    assert run["preset"] == "tiny" and [frame["picture"] for frame in run["frames"]] == [0, 1] and board.starts == 2


def test_a_wrong_result_is_a_failed_verdict(small: Path, board: ModelBoard, tmp_path: Path) -> None:
    run = board._run

    def spoilt() -> None:
        run()
        board.memory[board.registers[REGISTERS["output_address"].offset]] ^= 1

    board._run = spoilt
    result = deploy("--port", "COM3", "--model", small, "--task", "depth", "--out", tmp_path / "out")
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert "1 of 32 elements differ, first in row 0, channel 0: expected" in output
    frame = document(tmp_path / "out" / "deploy.json")["frames"][0]
    assert not frame["bit_exact"] and abs(frame["first_mismatch"]["expected"] - frame["first_mismatch"]["got"]) == 1


def test_a_machine_that_halts(small: Path, board: ModelBoard, tmp_path: Path) -> None:
    run = board._run

    def halt() -> None:
        board.memory[board.registers[REGISTERS["program_address"].offset]] = 0xEE
        run()

    board._run = halt
    out = tmp_path / "out"
    refused(deploy("--port", "COM3", "--model", small, "--out", out), out, "halted with BAD_OPCODE", code=1)


def test_another_configuration(small: Path, board: ModelBoard, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = deploy("--port", "COM3", "--model", small, "--preset", "ecp5-wide", "--out", out)
    refused(result, out, "of configuration 'tiny'", "the program of 'ecp5-wide'", "--preset tiny")


def test_no_such_port(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(deploy("--port", "/dev/tessera-none", "--out", out), out, "no serial port /dev/tessera-none", "has: ")


def test_nothing_answers(tmp_path: Path) -> None:
    near, far = os.openpty()
    out = tmp_path / "out"
    try:
        name = os.ttyname(far)
        refused(deploy("--port", name, "--out", out), out, f"no answer from {name}: nothing came", "--baud")
    finally:
        os.close(near)
        os.close(far)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "simulated", "--preset", "huge"), "unknown preset 'huge'; choose one of: tiny"),
        (("--port", "COM3", "--model", "none"), "unknown model 'none'"),
        (("--port", "COM3", "--task", "sleep"), "sleep"),
    ],
)
def test_other_mistakes(arguments, said, board: ModelBoard, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(deploy(*arguments, "--out", out), out, said)
