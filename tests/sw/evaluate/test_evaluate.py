"""``tessera evaluate``: scores, routing changes and outputs of every arithmetic, on any dataset."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tessera.common.cache import Cache
from tessera.golden import checkpoint, metrics
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.config import TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.golden.model import seeded
from tessera.sw.data.datasets import DatasetRequest, ProceduralScenes, open_dataset, resized
from tessera.sw.evaluate.data import choose_data
from tessera.sw.results.scoring import FLOAT, Scorer, Tally, score
from tessera.sw.run import prepare
from tests.helpers.dataset_folders import save_png, write_cityscapes, write_nyud_folder, write_pascal_mt
from tests.helpers.evaluations import evaluated
from tests.helpers.models import NUMERICS
from tests.helpers.quantised_models import float_network, quantised_model
from tests.helpers.small_checkpoints import SMALL, save_small

FEATURES = TaskConfig(name="features", kind="features", channels=0, cells=0)
CLASSES = TaskConfig(name="classes", kind="classification", channels=6, cells=1)
STREETS = (
    TaskConfig(name="classes", kind="segmentation", channels=19, cells=2),
    TaskConfig(name="depth", kind="depth", channels=1, cells=2),
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(prepare, "Cache", lambda: Cache(folder))


def net(*tasks: TaskConfig) -> Checkpoint:
    return Checkpoint.of(seeded(replace(SMALL, tasks=tasks), 1))


# Tallies --------------------------------------------------------------------------------------------------------------


def test_choices_that_differ_are_counted_whatever_their_order() -> None:
    tally = Tally(scores=metrics.Scores())
    float_choices = {"layer01": np.array([[0, 1], [2, 3], [4, 5]])}
    tally.add_choices("t", {"layer01": np.array([[1, 0], [2, 7], [8, 9]])}, float_choices)
    assert tally.choices["t"]["layer01"].tolist() == [3, 6] and tally.routing_changes == 0.5
    other = Tally(scores=metrics.Scores())
    other.add_choices("t", float_choices, float_choices)
    other.add(tally)
    assert other.routing_changes == 0.25 and other.to_dict([])["routing_changes_by_layer"] == {"t": {"layer01": 0.25}}
    assert Tally(scores=metrics.Scores()).routing_changes is None


def test_outputs_are_compared_with_the_float_model() -> None:
    tally = Tally(scores=metrics.Scores())
    tally.add_outputs(FEATURES, np.array([3.0, 0.0]), np.array([4.0, 0.0]))
    tally.add_outputs(FEATURES, np.array([0.0]), np.array([3.0]))
    found = tally.to_dict([])["outputs"]["features"]
    assert found["relative_l2"] == pytest.approx(np.sqrt(1 + 9) / 5) and found["cosine"] == pytest.approx(12 / 15)
    assert found and tally.to_dict([])["mean_iou"] is None


def test_both_models_are_scored_and_progress_is_reported() -> None:
    model, seen = float_network("mixed"), []
    integer = IntegerModel(quantised_model("mixed", 12), NUMERICS[12])
    data = ProceduralScenes(6, model.network.image_height, model.network.image_width)
    scorer = Scorer(model, {"integer": integer}, data.classes.names, (0, 1))  # type: ignore[union-attr]
    found = score(scorer, data, range(6), on_progress=lambda *step: seen.append(step))
    assert [fraction for _, fraction, _ in seen] == [pytest.approx(4 / 6), 1.0] and found["integer"].pictures == 6
    ours, reference = found["integer"].scores, found[FLOAT].scores
    assert abs(reference.mean_iou - ours.mean_iou) < 0.05 and abs(reference.depth_rmse - ours.depth_rmse) < 2.0
    assert 0 < found["integer"].routing_changes < 0.1  # type: ignore[operator]
    again = score(scorer, data, range(6), jobs=2)
    assert again["integer"].to_dict(["segmentation"]) == found["integer"].to_dict(["segmentation"])
    assert np.array_equal(again[FLOAT].scores.confusion, reference.confusion)


# The command ----------------------------------------------------------------------------------------------------------


def test_cityscapes_in_float_and_integers(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_cityscapes(root)
    write_cityscapes(root, "train")
    fewer = replace(STREETS[0], name="fewer", channels=8)  # not scored
    model = save_small(tmp_path / "model.safetensors", tasks=(*STREETS, fewer))
    arguments = ["--data", "cityscapes", "--root", str(root), "--partial", "--activation-widths", "8,16"]
    report = evaluated(model, tmp_path, *arguments, "--rtl-samples", "0")
    assert report["schema"] == {"name": "tessera-evaluation", "version": 2} and report["data"]["name"] == "cityscapes"
    assert report["data"]["calibration"] == "its training pictures" and len(report["data"]["classes"]) == 19
    assert "leftImg8bit/val: 3 of 500 pictures" in report["data"]["notices"]
    floating, eight, sixteen = report["results"]
    assert [r["arithmetic"] for r in report["results"]] == ["float", "integer", "integer"]
    assert (eight["activation_width"], sixteen["activation_width"]) == (8, 16) and eight["scenes"] == 3
    assert sixteen["outputs"]["depth"]["relative_l2"] < eight["outputs"]["depth"]["relative_l2"] < 0.2
    assert sixteen["routing_changes"] <= eight["routing_changes"] < 0.3
    assert "routing_changes" not in floating

    # By hand, pixel by pixel.
    floats, data = checkpoint.load(model).model, open_dataset("cityscapes", root, DatasetRequest(partial=True))
    errors, relative, hits, union = [], [], np.zeros(19), np.zeros(19)
    for number in range(3):
        item = resized(data[number], 16, 32)
        image = torch.from_numpy(item.image.transpose(2, 0, 1).copy()[None])
        with torch.no_grad():
            classes, depth = (floats.predict(image, task)[0].numpy().repeat(4, 1).repeat(4, 2) for task in range(2))
        guess, truth, known = classes.argmax(axis=0), item.segmentation, item.depth
        assert truth is not None and known is not None
        for c in range(19):
            a, b = (guess == c) & (truth != 255), truth == c
            hits[c] += (a & b).sum()
            union[c] += (a | b).sum()
        metres = metrics.output_to_depth(depth[0])[np.isfinite(known)].astype(float)
        known = known[np.isfinite(known)]
        errors += list((metres - known) ** 2)
        relative += list(np.abs(metres - known) / known)
    assert floating["depth_rmse_m"] == pytest.approx(np.sqrt(np.mean(errors)))
    assert floating["depth_abs_rel"] == pytest.approx(np.mean(relative))
    assert floating["mean_iou"] == pytest.approx(np.mean(hits[union > 0] / union[union > 0]))
    assert "IoU of each class" in report["output"] and "cityscapes, val" in report["output"]


def test_the_machine_runs_a_sample_and_is_scored_on_what_it_left(tmp_path: Path) -> None:
    model = save_small(tmp_path / "model.safetensors", tasks=(*SMALL.tasks, CLASSES))
    arguments = ["--scenes", "3", "--rtl-samples", "2", "--activation-widths", "8", "--preset", "tiny"]
    report = evaluated(model, tmp_path, *arguments, "--calibration", "max,least-error")
    kinds = [(result["arithmetic"], result.get("calibration")) for result in report["results"]]
    assert kinds == [("float", None), *itertools.product(("integer", "rtl"), ("max", "least-error"))]
    assert report["results"][1]["outputs"] != report["results"][2]["outputs"]
    assert "rtl, 8 bits, least-error" in report["output"].split("Outputs against float")[1]
    for machine in report["results"][3:]:
        assert machine["bit_exact"] and machine["scenes"] == 2
        same = machine.pop("same_scenes")
        for key in ("mean_iou", "class_iou", "depth_rmse_m", "depth_abs_rel", "routing_changes", "outputs"):
            assert machine[key] == same["integer"][key], key
        assert same["float"]["scenes"] == 2 and report["results"][1]["scenes"] == 3
        assert machine["routing_changes_by_layer"].keys() == {"segmentation", "depth", "classes"}
        assert machine["outputs"]["classes"]["cosine"] > 0.98
    assert "task 'classes' classifies whole pictures" in report["data"]["notices"][0]


def test_a_model_too_large_for_the_machine_can_leave_it_out(tmp_path: Path) -> None:
    model = save_small(tmp_path / "model.safetensors", dim=600, heads=4)
    found = evaluated(model, tmp_path, "--scenes", "1", "--preset", "tiny", "--activation-widths", "8", code=2)
    assert "--rtl-samples 0 leaves the simulated machine out" in found["message"]


def test_tasks_that_the_dataset_has_no_truth_for_are_left_out(tmp_path: Path) -> None:
    write_nyud_folder(tmp_path / "nyud")
    write_cityscapes(tmp_path / "streets")
    kinds = [replace(SMALL.tasks[0], channels=41), SMALL.tasks[1], FEATURES]
    data = choose_data(net(*kinds), "nyud", tmp_path / "nyud", partial=True)
    assert data.scored == ("segmentation", "depth") and data.dataset.classes is not None
    assert len(data.dataset.classes) == 41 and "task 'features' has no head" in data.notices[0]
    assert any("calibrated with procedural scenes" in notice for notice in data.notices)
    twice = [*STREETS, replace(STREETS[0], name="again"), replace(STREETS[0], name="fewer", channels=8)]
    data = choose_data(net(*twice), "cityscapes", tmp_path / "streets", partial=True)
    assert data.tasks == {"segmentation": 0, "depth": 1}
    assert "task 'again' is not scored: 'classes' is of its kind too" in data.notices
    assert "task 'fewer' is not scored: it tells 8 classes, cityscapes has 19" in data.notices
    data = choose_data(net(*SMALL.tasks), "cityscapes", tmp_path / "streets", partial=True)
    assert data.scored == ("depth",) and data.dataset.classes is None
    assert data.notices[0] == "task 'segmentation' is not scored: it tells 8 classes, cityscapes has 19"


def test_what_has_no_truth_is_not_scored_and_a_notice_says_so(tmp_path: Path) -> None:
    rooms, streets = tmp_path / "rooms", tmp_path / "streets"
    for name in write_nyud_folder(rooms):
        np.save(rooms / f"depth/{name}.npy", np.full((6, 8), 2500, np.uint16))  # millimetres
        save_png(rooms / f"segmentation/{name}.png", np.zeros((6, 8), np.uint8))  # of no class
    for stem in write_cityscapes(streets):
        file = streets / f"disparity/val/{stem.split('_')[0]}/{stem}_disparity.png"
        save_png(file, np.full((6, 8), 100, np.uint8))  # the upper byte is lost
    tasks = (replace(SMALL.tasks[0], channels=40), SMALL.tasks[1])
    model = save_small(tmp_path / "model.safetensors", tasks=tasks)
    often = ["--partial", "--activation-widths", "8", "--rtl-samples", "0"]
    report = evaluated(model, tmp_path, "--data", "nyud", "--root", str(rooms), *often)
    said = [
        "segmentation is not scored: no pixel of the nyud pictures has a label that counts",
        "depth is not scored: no pixel of the nyud pictures has a depth within 10 m: is it in millimetres?",
    ]
    assert report["notices"][:2] == said and all(f"notice {line}" in report["output"] for line in said)
    keys = ("mean_iou", "depth_rmse_m", "depth_abs_rel")
    assert [result[key] for result in report["results"] for key in keys] == [None] * 6
    model = save_small(tmp_path / "streets.safetensors", tasks=STREETS)
    report = evaluated(model, tmp_path, "--data", "cityscapes", "--root", str(streets), *often)
    assert "within 80 m: are the disparities 16-bit pictures" in report["notices"][0]
    assert report["results"][0]["mean_iou"] is not None and report["results"][0]["depth_rmse_m"] is None


def test_a_model_without_heads_has_its_routing_and_features_compared(tmp_path: Path) -> None:
    model = save_small(tmp_path / "model.safetensors", tasks=(FEATURES,), final_norm=False)
    write_pascal_mt(tmp_path / "pascal")
    for arguments in (["--scenes", "2"], ["--data", "pascal-context", "--root", str(tmp_path / "pascal"), "--partial"]):
        report = evaluated(model, tmp_path, *arguments, "--rtl-samples", "0", "--activation-widths", "8")
        integer = report["results"][1]
        assert integer["mean_iou"] is None and integer["scenes"] == 2 and integer["routing_changes"] is not None
        assert 0 < integer["outputs"]["features"]["relative_l2"] < 0.3


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--data", "kitti"],
            "unknown dataset 'kitti'; choose one of: procedural, cityscapes, nyud, pascal-context, or folder:PATH",
        ),
        (["--data", "cityscapes"], "say which with --root"),
        (["--data", "cityscapes", "--root", "none"], "none lacks parts of Cityscapes"),
        (
            ["--data", "pascal-context", "--root", "."],
            "nothing that 'small' predicts can be scored on pascal-context",
        ),
        (["--activation-widths", "8;12"], "--activation-widths is '8;12'"),
        (["--activation-widths", "9"], "9"),
        (["--preset", "huge"], "huge"),
        (["--json", "."], ". is a folder"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, arguments: list[str], words: str) -> None:
    model = save_small(tmp_path / "model.safetensors")
    assert words in evaluated(model, tmp_path, *arguments, code=2)["message"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_broken_picture_is_named_and_nothing_is_written(tmp_path: Path, jobs: str) -> None:
    write_cityscapes(tmp_path / "data")
    next((tmp_path / "data").glob("leftImg8bit/val/ulm/*")).write_bytes(b"")
    model = save_small(tmp_path / "model.safetensors", tasks=STREETS)
    arguments = ["--data", "cityscapes", "--root", str(tmp_path / "data"), "--partial", "--jobs", jobs]
    found = evaluated(model, tmp_path, *arguments, "--rtl-samples", "0", "--activation-widths", "8", code=2)
    assert "ulm_000002_000019_leftImg8bit.png is not a readable picture" in found["message"]


def test_a_seeded_model_of_cityscapes_is_no_accident() -> None:
    """The reference of the test above must not be trivial: classes differ from pixel to pixel."""
    streets = seeded(replace(SMALL, tasks=STREETS), 1)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 16, 32), dtype=np.uint8))
    with torch.no_grad():
        assert len(np.unique(streets(image, 0)[0].numpy().argmax(axis=0))) > 3
