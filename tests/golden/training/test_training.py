"""Training: it learns, it repeats, it reports; and the shipped model is as good as its metrics say."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tessera.common.paths import PROJECT_ROOT
from tessera.golden import checkpoint
from tessera.golden.config import M3VIT_BACKBONE, M3VIT_TINY, NANO, ModelConfig, Router
from tessera.golden.scenes import scenes
from tessera.golden.training.evaluation import score_held_out
from tessera.golden.training.recipes import RECIPES, Recipe
from tessera.golden.training.training import segmentation_loss, train
from tests.helpers.schemas import content

MODELS = PROJECT_ROOT / "models"
SMALL = replace(
    NANO,
    name="small",
    image_height=16,
    image_width=32,
    dim=24,
    layers=2,
    mlp_hidden=32,
    expert_layers=(1,),
    experts=3,
    expert_hidden=16,
)
QUICK = Recipe(steps=80, batch=8, pool=40, rate=5e-3, warmup=5, held_out=10, save_every=50, threads=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[tuple[str, float, str]]]:
    out, seen = tmp_path_factory.mktemp("training") / "small.safetensors", []
    return out, train(SMALL, out=out, seed=2, recipe=QUICK, on_progress=lambda *step: seen.append(step)), seen


def curve(out: Path) -> list[dict[str, float]]:
    with out.with_suffix(".csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_losses_fall(run: tuple[Path, dict[str, Any], list[tuple[str, float, str]]]) -> None:
    rows = curve(run[0])
    assert rows[-1]["segmentation"] < 0.8 * rows[0]["segmentation"]
    assert rows[-1]["depth"] < 0.5 * rows[0]["depth"]


def test_writes_checkpoint_and_metrics(run: tuple[Path, dict[str, Any], list[tuple[str, float, str]]]) -> None:
    out, result, _ = run
    loaded = checkpoint.load(out)
    assert loaded.geometry == SMALL and loaded.seed == 2 and loaded.data_version == scenes.DATA_VERSION
    assert loaded.metrics == result == content(out.with_suffix(".json"))
    assert score_held_out(loaded.model, scenes=10)["held_out"] == result["held_out"]
    for by_task in result["routing"].values():
        for shares in by_task.values():
            assert len(shares) == SMALL.experts and sum(shares) == pytest.approx(1, abs=1e-4)


def test_reports_progress(run: tuple[Path, dict[str, Any], list[tuple[str, float, str]]]) -> None:
    seen = run[2]
    last = {stage: (fraction, detail) for stage, fraction, detail in seen}
    assert list(last) == ["scenes", "training", "evaluation"]
    assert all(fraction == 1 for fraction, _ in last.values())
    assert re.fullmatch(r"loss \d+\.\d{4}", last["training"][1])


class _CutOff(Exception):
    pass


def test_training_repeats_exactly_even_resumed(
    run: tuple[Path, dict[str, Any], list[tuple[str, float, str]]], tmp_path: Path
) -> None:
    out = tmp_path / "cut.safetensors"

    def cut(stage: str, fraction: float, detail: str) -> None:
        if stage == "training" and fraction > 0.7:  # past the state after 50 of 80 steps
            raise _CutOff

    with pytest.raises(_CutOff):
        train(SMALL, out=out, seed=2, recipe=QUICK, on_progress=cut)
    assert checkpoint.load(out).metrics["unfinished"] and out.with_suffix(".resume").is_file()
    for changed in ({"recipe": replace(QUICK, rate=1e-3)}, {"seed": 3}):
        with pytest.raises(ValueError, match=r"left by another training \((rate|seed) .* there, .* here\)"):
            train(SMALL, out=out, resume=True, **{"seed": 2, "recipe": QUICK, **changed})
    train(SMALL, out=out, seed=2, recipe=QUICK, resume=True)
    assert curve(out) == curve(run[0]) and not out.with_suffix(".resume").exists()
    resumed = checkpoint.load(out).model.weights
    for name, value in checkpoint.load(run[0]).model.weights.items():
        assert torch.equal(value, resumed[name]), name


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    out = tmp_path / "none.safetensors"
    with pytest.raises(ValueError, match="no state to resume from"):
        train(SMALL, out=out, recipe=QUICK, resume=True)
    out.with_suffix(".resume").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="is no whole training state"):
        train(SMALL, out=out, recipe=QUICK, resume=True)


@pytest.mark.parametrize("router", [pytest.param("multi_gate", marks=pytest.mark.soak), "task_conditioned"])
def test_half_precision_is_scored_as_it_is_stored(router: Router, tmp_path: Path) -> None:
    out, embedding = tmp_path / "half.safetensors", 4 if router == "task_conditioned" else 0
    config = replace(SMALL, router=router, task_embedding=embedding)
    result = train(config, out=out, recipe=replace(QUICK, steps=12, half=True))
    with safe_open(out, framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}
    assert score_held_out(checkpoint.load(out).model, scenes=10)["held_out"] == result["held_out"]


def test_refuses_models_without_the_tasks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'m3vit-backbone' has tasks.*needs a segmentation of 8 classes"):
        train(M3VIT_BACKBONE, out=tmp_path / "x.safetensors")


def test_segmentation_loss_counts_every_pixel_of_a_cell() -> None:
    logits = torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1)
    labels = torch.tensor([[[0, 0], [0, 1]]])
    log = torch.log_softmax(logits[0, :, 0, 0], 0)
    expected = -(3 * 2.0 * log[0] + 5.0 * log[1]) / 4
    torch.testing.assert_close(segmentation_loss(logits, labels, torch.tensor([2.0, 5.0])), expected)


@pytest.mark.parametrize("model", [NANO, M3VIT_TINY], ids=lambda model: model.name)
def test_shipped_model_meets_its_requirement(model: ModelConfig) -> None:
    shipped = MODELS / f"{model.name}.safetensors"
    loaded, claimed = checkpoint.load(shipped), json.loads(shipped.with_suffix(".json").read_text())
    assert loaded.geometry == model and loaded.metrics == claimed
    assert loaded.data_version == scenes.DATA_VERSION, "the scenes changed: train the shipped model again"
    assert Recipe(**claimed["recipe"]) == RECIPES[model.name], "the recipe is not what the model was trained with"
    assert shipped.stat().st_size < 40_000_000
    ours, constant = claimed["held_out"], claimed["constant"]
    assert ours["scenes"] == 500
    assert ours["mean_iou"] >= 2 * constant["mean_iou"]
    assert max(ours["class_iou"].values()) < 0.98, "the scenes are too easy"
    assert ours["depth_rmse_m"] <= 0.7 * constant["depth_rmse_m"]
    for layer, by_task in claimed["routing"].items():
        for expert, shares in enumerate(zip(*by_task.values(), strict=True)):
            assert max(shares) > 0, f"{layer} never uses expert {expert}"


@pytest.mark.parametrize("name", ["nano", pytest.param("m3vit-tiny", marks=pytest.mark.soak)])
def test_shipped_metrics_reproduce(name: str) -> None:
    loaded = checkpoint.load(MODELS / f"{name}.safetensors")
    ours = score_held_out(loaded.model, scenes=60)["held_out"]
    # 60 of the 500 scenes: the same figures up to the sample.
    assert ours["mean_iou"] == pytest.approx(loaded.metrics["held_out"]["mean_iou"], abs=0.05)
    assert ours["depth_rmse_m"] == pytest.approx(loaded.metrics["held_out"]["depth_rmse_m"], rel=0.2)
