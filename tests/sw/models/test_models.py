"""Models by name: what is found, what is made and kept, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tessera.common import cache
from tessera.golden import checkpoint
from tessera.golden.checkpoint import CheckpointError
from tessera.golden.config import M3VIT_BACKBONE
from tessera.golden.integer.model import IntegerModel
from tessera.sw.cli import app
from tessera.sw.models import find
from tessera.sw.models.find import find_model
from tessera.sw.run import prepare
from tessera.sw.run.target import Target

SKEWED = Target(model="m3vit-backbone", preset="tiny", routing="skewed")
SMALL = replace(
    M3VIT_BACKBONE, image_height=32, image_width=64, patch=8, dim=32, heads=2, layers=2, mlp_hidden=48,
    expert_layers=(1,), experts=8, expert_hidden=16,
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of trained and one of made models, with a small geometry of the seeded model's name."""
    monkeypatch.setattr(find, "TRAINED_MODELS", tmp_path / "trained")
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setitem(find.MODELS, "m3vit-backbone", SMALL)
    return tmp_path


def test_a_seeded_model_is_made_once_for_each_routing_and_says_what_it_is(here: Path) -> None:
    seen: list[tuple[str, float, str]] = []
    path = find_model("m3vit-backbone", on_progress=lambda *step: seen.append(step))
    assert path.parent == here / "cache" and "balanced" in path.name
    assert seen == [("load", done, "making m3vit-backbone, seeded") for done in (0.5, 1.0)]
    found = checkpoint.load(path)
    assert (found.weights, found.routing, found.seed) == ("seeded", "balanced", find.SEED)
    written = path.stat().st_ino  # another writing would make another file
    assert find_model("m3vit-backbone", "balanced") == path and path.stat().st_ino == written
    other = find_model("m3vit-backbone", "skewed")
    assert other != path and checkpoint.load(other).routing == "skewed"


def test_only_the_newest_made_models_are_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_MADE", replace(find._MADE, keep=2))
    for routing in ("balanced", "skewed", "captured"):
        last = find_model("m3vit-backbone", routing)
    assert len(list((here / "cache").iterdir())) == 2 and last.is_file()


def test_a_trained_model_of_the_name_comes_first(here: Path) -> None:
    made = find_model("m3vit-backbone")
    trained = here / "trained" / "m3vit-backbone.safetensors"
    trained.parent.mkdir()
    trained.write_bytes(made.read_bytes())
    assert find_model("m3vit-backbone") == trained


def test_paths_are_taken_as_they_are() -> None:
    assert find_model("some/where") == Path("some/where")
    assert find_model(Path("model.safetensors")) == Path("model.safetensors")


def test_unknown_names_and_routings_are_refused() -> None:
    with pytest.raises(
        CheckpointError, match="unknown model 'nono'; trained models: m3vit-tiny, nano; seeded models: m3vit-backbone"
    ):
        find_model("nono")
    with pytest.raises(ValueError, match="unknown routing 'even'; choose one of: balanced, skewed, captured"):
        find_model("m3vit-backbone", "even")


@pytest.mark.parametrize("command", ["run", "verify", "compile", "quantize", "bench"])
def test_a_trained_model_keeps_its_own_gates(command: str, tmp_path: Path) -> None:
    out = tmp_path / ("out.safetensors" if command in ("compile", "quantize") else "out")
    result = CliRunner().invoke(app, [command, "--model", "nano", "--routing", "skewed", "--out", str(out)])
    assert result.exit_code == 2 and not out.exists()
    assert (
        "routing 'skewed' is for seeded models (m3vit-backbone, deit-small, pico); model 'nano' is trained"
        in result.stderr
    )


def test_bench_of_no_one_model_takes_no_routing(tmp_path: Path) -> None:
    for option in (["--routing", "skewed"], ["--preset", "tiny"]):
        result = CliRunner().invoke(app, ["bench", *option, "--out", str(tmp_path / "out")])
        assert result.exit_code == 2 and "name it with --model" in result.stderr
        assert not (tmp_path / "out").exists()


def test_a_model_without_heads_is_not_trained() -> None:
    result = CliRunner().invoke(app, ["train", "--model", "m3vit-backbone"])
    assert result.exit_code == 2 and "tasks without a head (task0, task1)" in result.stderr


def test_a_quantised_model_is_remembered_bit_for_bit(here: Path) -> None:
    first = prepare.prepare(SKEWED)
    assert first.label == "m3vit-backbone (seeded, not trained; skewed routing)" and first.routing == "skewed"
    stages: list[tuple[str, str]] = []
    again = prepare.prepare(SKEWED, on_progress=lambda s, f, d: stages.append((s, d)))
    assert ("quantise", "as before") in stages
    assert np.array_equal(first.program.content, again.program.content)
    image = np.random.default_rng(1).integers(0, 256, (3, 32, 64), dtype=np.uint8)
    numerics = first.config.numerics
    expected, got = (IntegerModel(made.quantised, numerics).run(image, 1) for made in (first, again))
    assert np.array_equal(expected["layer01.residual"], got["layer01.residual"])
    assert first.quantised.scales.keys() == again.quantised.scales.keys()
    wider = prepare.prepare(replace(SKEWED, activation_width=12))
    assert wider.quantised.activation_width == 12 and len(list((here / "cache").glob("quantised-*"))) == 2
    other = prepare.prepare(replace(SKEWED, routing=None))
    assert other.routing == "balanced" and not np.array_equal(other.program.content, first.program.content)
