"""``--calibration-images``: taken by every command that calibrates, part of the cache key, named in the results."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tessera.common.cache import Cache
from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.model import seeded
from tessera.sw.cli import app
from tessera.sw.run import prepare
from tessera.sw.run.calibrated import calibrated_on
from tessera.sw.run.target import Target
from tests.helpers.dataset_folders import write_classes
from tests.helpers.schemas import document
from tests.helpers.small_checkpoints import SMALL

QUICK = ("--scenes", "1", "--errors", "1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(prepare, "Cache", lambda: Cache(folder))


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, Checkpoint.of(seeded(SMALL, 1), weights="imported", source="timm-vit"))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write_classes(tmp_path / "pictures", {"a": 20, "b": 20})
    return tmp_path / "pictures"


def called(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output + result.stderr
    return " ".join((result.stderr if code == 2 else result.output).split())


def quantised(model: Path, out: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    said = called("quantize", "--model", model, "-o", out, *QUICK, *arguments)
    return document(out.with_suffix(".json")), said


@pytest.mark.parametrize("command", "bench compile deploy evaluate export quantize run verify waves".split())
def test_every_command_that_calibrates_takes_it(command: str) -> None:
    named = next(one for one in app.registered_commands if (one.name or one.callback.__name__) == command)  # type: ignore[union-attr]
    assert "calibration_images" in inspect.signature(named.callback).parameters  # type: ignore[arg-type]


def test_it_is_named_in_the_numbers_and_takes_the_notice_away(imported: Path, pictures: Path, tmp_path: Path) -> None:
    usual, said = quantised(imported, tmp_path / "usual.safetensors")
    (notice,) = usual["notices"]
    assert "which an imported model was not trained on" in notice and notice in said
    assert usual["calibration_pictures"]["source"] == "procedural training scenes"
    (pictures / "labels.csv").touch()
    (pictures / "a" / "up").symlink_to("..")
    own, said = quantised(imported, tmp_path / "own.safetensors", "--calibration-images", pictures)
    assert own["quantised_sha256"] != usual["quantised_sha256"]
    found, left, links = own["notices"]
    assert links.startswith("links not followed") and links.endswith("lies above: a/up") and links in said
    assert found.startswith(f"calibrated on 32 of 40 pictures in {pictures}: resized from 8x6 to 32x16 pixels")
    assert left.endswith("no pictures: labels.csv") and "which an imported model" not in said and left in said
    seen = own["calibration_pictures"]
    assert (seen["source"], seen["found"], seen["used"]) == (str(pictures), 40, 32)
    assert seen["files"][0] == "a/0.png" and len(seen["files"]) == 32 and seen["files"][-1].startswith("b/")


def test_what_is_remembered_follows_the_pixels_not_the_path(imported: Path, pictures: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(pictures, tmp_path / "copy")

    def made(folder: Path) -> tuple[list[str], bytes]:
        told: list[str] = []
        target = Target(model=imported, preset="tiny", calibration_images=folder)
        found = prepare.prepare(target, on_progress=lambda stage, _, detail: told.append(f"{stage} {detail}"))
        return told, found.program.content.tobytes()

    told, first = made(pictures)
    assert "quantise as before" not in told
    told, again = made(copy)
    assert "quantise as before" in told and again == first
    shutil.copy(pictures / "b" / "19.png", copy / "a" / "0.png")
    told, other = made(copy)
    assert "quantise as before" not in told and other != first


def test_an_array_does_what_its_pictures_do(imported: Path, pictures: Path) -> None:
    model = checkpoint.load(imported)
    images = calibrated_on(pictures, model).images
    assert images is not None and images.shape == (32, 3, 16, 32)
    given = calibrated_on(images, model)
    assert given.to_dict()["sha256"] == calibrated_on(pictures, model).to_dict()["sha256"]
    with pytest.raises(ValueError, match="takes \\(B, 3, 16, 32\\)"):
        calibrated_on(images[..., :16], model)
    with pytest.raises(ValueError, match="array of float64 of the shape"):
        Target(calibration_images=images.astype(np.float64))
    with pytest.raises(ValueError, match="expected bytes"):
        Target(calibration_images=images[0])


def test_run_and_verify_say_it(imported: Path, pictures: Path, tmp_path: Path) -> None:
    options = ("--model", imported, "--preset", "tiny", "--task", "depth")
    said = called("run", *options, "--calibration-images", pictures, "--out", tmp_path / "run")
    report = document(tmp_path / "run" / "run.json")
    assert report["calibration_pictures"]["source"] == str(pictures) and report["bit_exact"]
    notice = next(notice for notice in report["notices"] if notice.startswith("calibrated on 32 of 40"))
    assert notice in said and str(pictures) in (tmp_path / "run" / "report.html").read_text()
    said = called("verify", *options, "--out", tmp_path / "verify")
    (run,) = document(tmp_path / "verify" / "verify.json")["runs"]
    assert "street scenes" in run["notices"][0] and run["notices"][0] in said
    assert run["calibration_pictures"]["files"] == []


def test_what_has_its_ranges_takes_no_pictures(imported: Path, pictures: Path, tmp_path: Path) -> None:
    quantised(imported, tmp_path / "q.safetensors")
    arguments = ("--model", tmp_path / "q.safetensors", "--calibration-images", pictures, "-o", tmp_path / "p")
    assert "has its ranges already; leave --calibration-images out" in called("compile", *arguments, code=2)
    assert not (tmp_path / "p").exists()
    assert "name it with --model" in called("bench", "--calibration-images", pictures, code=2)


@pytest.mark.parametrize("command", ["run", "deploy --port simulated", "quantize", "evaluate", "verify", "compile"])
def test_damaged_pictures_are_named_first(imported: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG")
    options = ("--model", imported, "--calibration-images", tmp_path / "pictures")
    said = called(*command.split(), *options, code=2)
    assert "1 of the 1 calibration pictures cannot be used" in said and "broken.png is not a readable picture" in said
