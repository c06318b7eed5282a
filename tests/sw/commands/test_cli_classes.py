"""Models with any number of classes: ``run`` and ``evaluate`` show and score what is known of them, and no more."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tessera.golden import checkpoint
from tessera.golden.config import TaskConfig
from tessera.golden.model import seeded
from tessera.sw.cli import app
from tessera.sw.report import figures
from tests.helpers.schemas import document
from tests.helpers.small_checkpoints import SMALL, save_small

TASKS = (
    TaskConfig(name="two", kind="segmentation", channels=2, cells=1),
    TaskConfig(name="five", kind="segmentation", channels=5, cells=2),
    TaskConfig(name="nineteen", kind="segmentation", channels=19, cells=2),
    TaskConfig(name="many", kind="segmentation", channels=300, cells=1),
    TaskConfig(name="one", kind="classification", channels=1, cells=1),
    TaskConfig(name="three", kind="classification", channels=3, cells=1),
)


def run(model: Path, out: Path, *arguments: str) -> dict:
    result = CliRunner().invoke(app, ["run", "--model", str(model), "--preset", "tiny", "--out", str(out), *arguments])
    assert result.exit_code == 0, result.output + result.stderr
    return document(out / "run.json") | {"output": " ".join(result.output.split())}


def test_tasks_that_scenes_have_no_truth_for_are_drawn_and_have_no_scores(tmp_path: Path) -> None:
    model = save_small(tmp_path / "model.safetensors", tasks=TASKS)
    report = run(model, tmp_path / "out")
    assert report["accuracy"] is None and report["bit_exact"]
    for task in TASKS:
        prediction = report["tasks"][task.name]["prediction"]
        assert 0 <= prediction["class_agreement"] <= 1
        if task.kind == "segmentation":
            assert prediction["float_mean_iou"] is None and prediction["machine_mean_iou"] is None
        assert (tmp_path / "out" / f"{task.name}.png").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "mIoU" not in page and "mIoU" not in report["output"]


def test_each_task_has_its_own_score_or_none(tmp_path: Path) -> None:
    model = save_small(tmp_path / "model.safetensors", tasks=(TASKS[1], *SMALL.tasks))
    report = run(model, tmp_path / "out")
    assert report["accuracy"]["scored"] == {"segmentation": "segmentation", "depth": "depth"}
    assert report["tasks"]["five"]["prediction"]["machine_mean_iou"] is None
    assert 0 <= report["tasks"]["segmentation"]["prediction"]["machine_mean_iou"] <= 1
    assert report["output"].count("mIoU") == 2  # float and integer, of one task


def test_imported_classes_are_not_the_scenes_however_many_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    config = replace(SMALL, name="organs")
    checkpoint.save(path, checkpoint.Checkpoint.of(seeded(config, 1), weights="imported", source="own"))
    report = run(path, tmp_path / "out")
    assert report["accuracy"] is None
    assert report["tasks"]["depth"]["prediction"]["machine_depth_rmse_m"] is None
    numbers = tmp_path / "e.json"
    arguments = ["--scenes", "1", "--rtl-samples", "0", "--activation-widths", "8", "--json", str(numbers)]
    result = CliRunner().invoke(app, ["evaluate", "--model", str(path), *arguments])
    assert result.exit_code == 0, result.output + result.stderr
    data = document(numbers)
    assert data["data"]["scored"] == [] and data["data"]["classes"] == []
    assert "an imported model did not learn what scenes show" in data["data"]["notices"][0]


def test_evaluate_compares_any_number_of_classes_with_float(tmp_path: Path) -> None:
    model, numbers = save_small(tmp_path / "model.safetensors", tasks=TASKS[1:3]), tmp_path / "e.json"
    arguments = ["--scenes", "1", "--preset", "tiny", "--rtl-samples", "1", "--activation-widths", "8"]
    result = CliRunner().invoke(app, ["evaluate", "--model", str(model), *arguments, "--json", str(numbers)])
    assert result.exit_code == 0, result.output + result.stderr
    floating, integer, machine = json.loads(numbers.read_text())["results"]
    for scores in (floating, integer, machine):
        assert scores["mean_iou"] is None and scores["class_iou"] is None and scores["depth_rmse_m"] is None
    assert machine["bit_exact"] and 0 < integer["outputs"]["nineteen"]["relative_l2"] < 0.5


def test_a_figure_that_cannot_be_drawn_does_not_cost_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no figure")

    monkeypatch.setattr(figures, "input_figure", broken)
    model, out = save_small(tmp_path / "model.safetensors"), tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("of another run")
    result = CliRunner().invoke(app, ["run", "--model", str(model), "--preset", "tiny", "--out", str(out)])
    assert isinstance(result.exception, RuntimeError)
    assert document(out / "run.json")["bit_exact"] and not (out / "report.html").exists()
