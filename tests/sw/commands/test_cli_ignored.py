"""Options that would do nothing, and numbers that cannot be: refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tessera.sw.cli import app

IGNORED = {
    "evaluate --root .": "--root is for a published dataset: say which with --data",
    "evaluate --split train": "--split is for a dataset: say which with --data",
    "evaluate --split val": "--split is for a dataset",  # what it would be without it
    "evaluate --partial": "--partial is for a dataset: say which with --data",
    "evaluate --raw-depth": "--raw-depth is for a published dataset: say which with --data",
    "evaluate --data cityscapes --root . --raw-depth": "--raw-depth is for nyud, not for cityscapes",
    "evaluate --rtl-samples 0 --preset tiny": "--preset is the machine that simulates",
    "quantize --errors 3 --image PICTURE": "--errors counts scenes, and --image gives pictures",
    "run --scene 0 --image PICTURE": "--scene chooses a generated scene, and --image a picture",
    "verify --scene 1 --image PICTURE": "--scene chooses a generated scene",
    "export --scene 1 --image PICTURE": "--scene chooses a generated scene",
    "waves --unit softmax --scene 1 --image PICTURE": "--scene chooses a generated scene",
    "waves --unit softmax --command layer00.q --window 0:9": "both a command and a window are given",
    "deploy --port simulated --scene 1 --image PICTURE": "--scene chooses a generated scene",
    "deploy --port simulated --baud 9600": "--baud is for a board",
    "run --seed 1": "--seed chooses the pattern of pauses: say how many with --stalls",
    "verify --seed 7 --stalls 0": "--seed chooses the pattern of pauses",
    "run --memory-clock 100": "--memory-clock is the clock of an SDRAM: choose one with --memory sdram",
    "run --memory sdram --memory-latency 60": "--memory-latency cannot be chosen for an SDRAM",
    "run --memory sdram --seed 1": "--seed cannot be chosen for an SDRAM",
    "bench --preset tiny": "--preset chooses how one model is measured",
    "import --format timm-vit none.pth -o i.safetensors --mean 0.5": "--mean and --std belong together",
}
IMPOSSIBLE = {
    "run --frames 0": "'--frames'",
    "run --frames 1000000000": "'--frames'",
    "run --scene -1": "'--scene'",
    "run --scene 99999999999999999999": "'--scene'",
    "run --memory-latency 1": "'--memory-latency'",
    "run --memory-latency 1001": "'--memory-latency'",
    "run --stalls 40 --seed -1": "'--seed'",
    "run --stalls 40 --seed 4294967296": "'--seed'",
    "run --memory sdram --memory-clock nan": "--memory-clock is nan",
    "run --flip 0x4000:8": "the bit to flip is 8; a byte has bits 0 to 7",
    "run --flip 0x4000:-1": "the bit to flip is -1; a byte has bits 0 to 7",
    "run --image none.png": "no picture at none.png",
    "run --image .": ". is a folder; give the file of a picture",
    "run --image BROKEN": "not a readable picture",
    "verify --images 0": "'--images'",
    "verify --image none.png": "no picture at none.png",
    "verify --activation-width 9": "9",
    "quantize --image none.png": "no picture at none.png",
    "quantize --errors 0": "'--errors'",
    "quantize --scenes 99999999999999999999": "'--scenes'",
    "evaluate --scenes 99999999999999999999": "'--scenes'",
    "evaluate --jobs 0": "'--jobs'",
    "evaluate --jobs 1000000": "'--jobs'",
    "evaluate --activation-widths 9": "9",
    "evaluate --activation-widths ,": "give numbers with commas",
    "evaluate --preset huge": "unknown preset 'huge'",
    "evaluate --data imagenet": "unknown dataset 'imagenet'",
    "evaluate --data nyud": "say which with --root",
    "evaluate --data nyud --root none": "none holds neither form of NYU Depth v2",
    "export --image none.png": "no picture at none.png",
    "waves --unit softmax --image none.png": "no picture at none.png",
    "waves --unit softmax --window 9:3": "the window is 9:3",
    "deploy --port simulated --frames 0": "'--frames'",
    "deploy --port none --baud 0": "'--baud'",
    "deploy --port none --baud 99999999999999999999": "'--baud'",
    "train --rate nan": "--rate is nan",
    "train --rate 0": "--rate is 0",
    "train --rate inf": "--rate is inf",
    "train --seed -1": "'--seed'",
    "train --seed 99999999999999999999": "'--seed'",
    "train --pool 99999999999999999999": "'--pool'",
    "train --steps 99999999999999999999": "'--steps'",
    "bitstream --frequency nan": "--frequency is nan",
    "bitstream --frequency 1e9": "--frequency is 1e+09",
    "bitstream --seeds 99999999999999999999": "'--seeds'",
    "bitstream --jobs 0": "'--jobs'",
}


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing may be loaded, and nothing written."""
    for long in (
        "tessera.sw.run.prepare.load_model",
        "tessera.golden.training.training.train",
        "tessera.sw.fpga.bitstream.build.run_bitstream",
    ):
        monkeypatch.setattr(long, lambda *_, **__: pytest.fail("the work began"))
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(folder)
    yield
    assert not [path for path in folder.iterdir() if path.suffix != ".png"]


def said(line: str, tmp_path: Path) -> str:
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "picture.png").read_bytes()[:40])
    line = line.replace("PICTURE", str(tmp_path / "picture.png")).replace("BROKEN", str(tmp_path / "broken.png"))
    result = CliRunner().invoke(app, line.split(), env={"COLUMNS": "200"})
    assert result.exit_code == 2 and "Traceback" not in result.stderr, result.output
    return result.stderr


@pytest.mark.parametrize("line", IGNORED)
def test_an_option_that_would_do_nothing_is_refused(line: str, tmp_path: Path) -> None:
    assert f"tessera: {IGNORED[line]}" in said(line, tmp_path)


@pytest.mark.parametrize("line", IMPOSSIBLE)
def test_a_value_that_cannot_be_is_refused(line: str, tmp_path: Path) -> None:
    assert IMPOSSIBLE[line] in said(line, tmp_path)
