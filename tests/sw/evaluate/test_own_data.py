"""``tessera evaluate`` on pictures of the user's own: top-1 and top-5 in float and integers, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.config import TaskConfig
from tessera.golden.model import seeded
from tessera.sw.data.datasets import DatasetRequest, open_dataset, resized
from tessera.sw.evaluate.data import choose_data
from tessera.sw.results.hits import Hits
from tests.helpers.dataset_folders import write_classes, write_described
from tests.helpers.evaluations import evaluated
from tests.helpers.models import two_tasks
from tests.helpers.small_checkpoints import SMALL, save_small

QUICK = ("--rtl-samples", "0", "--activation-widths", "8")
SEVEN = {name: 2 for name in "abcdefg"}


def classifier(path: Path, classes: int, weights: str = "trained") -> Path:
    tasks = (TaskConfig(name="kind", kind="classification", channels=classes, cells=1),)
    model = seeded(replace(SMALL, tasks=tasks), 1)
    checkpoint.save(path, Checkpoint.of(model, weights=weights))
    return path


def test_hits_by_hand() -> None:
    hits = Hits()
    assert hits.top1 is None and hits.top5 is None
    hits.add(np.array([1.0, 9, 8, 7, 6, 5]), 1)
    hits.add(np.array([1.0, 9, 8, 7, 6, 5]), 0)  # the sixth
    hits.add(np.array([3.0, 9, 9, 7, 6, 5]), 2)  # of equals, the lower class is first
    hits.add(np.array([0.0, 0, 0, 0, 0, 0]), 5)
    assert hits.top1 == 0.25 and hits.top5 == 0.5
    both = Hits()
    both.include(hits)
    both.include(hits)
    assert both.top1 == 0.25 and both.pictures == 8 and both.top5 == 0.5
    few = Hits()
    few.add(np.array([1.0, 2, 3, 4, 5]), 4)
    assert few.top1 == 1 and few.top5 is None


def test_top_1_and_top_5_are_those_counted_by_hand(tmp_path: Path) -> None:
    model = classifier(tmp_path / "model.safetensors", 7)
    write_classes(tmp_path / "data" / "val", SEVEN)
    write_classes(tmp_path / "data" / "train", SEVEN, shade=5)
    report = evaluated(model, tmp_path, "--data", f"folder:{tmp_path / 'data'}", *QUICK)
    data = open_dataset(f"folder:{tmp_path / 'data'}", None, DatasetRequest())
    net, first, five = checkpoint.load(model).model, 0, 0
    for number in range(14):
        item = resized(data[number], 16, 32)
        with torch.no_grad():
            logits = net.predict(torch.from_numpy(item.image.transpose(2, 0, 1).copy()[None]), 0).flatten().tolist()
        order = sorted(range(7), key=lambda c: -logits[c])
        first += order[0] == item.label
        five += item.label in order[:5]
    floating, integer = report["results"]
    assert floating["top1"] == pytest.approx(first / 14) and floating["top5"] == pytest.approx(five / 14)
    assert floating["mean_iou"] is None and 0 < five < 14
    same = integer["outputs"]["kind"]["same_class"]
    assert 0.5 < same <= 1 and abs(integer["top1"] - floating["top1"]) <= 1 - same
    assert report["data"]["classes"] == list("abcdefg") and report["data"]["scored"] == ["classification"]
    assert report["data"]["calibration"] == "its training pictures" and report["notices"] == []
    assert (
        report["calibration_pictures"]["found"] == 14 and report["calibration_pictures"]["files"][0] == "train/a/0.png"
    )
    assert "top-1" in report["output"] and "same class as in float" in report["output"]


def test_a_flat_folder_of_few_classes_and_the_machine(tmp_path: Path) -> None:
    model = classifier(tmp_path / "model.safetensors", 3, weights="imported")
    write_classes(tmp_path / "data", {"x": 1, "y": 1, "z": 1})
    arguments = ("--data", f"folder:{tmp_path / 'data'}", "--rtl-samples", "2", "--preset", "tiny")
    report = evaluated(model, tmp_path, *arguments, "--activation-widths", "8")
    assert [result["top5"] for result in report["results"]] == [None] * 3
    machine = report["results"][2]
    assert machine["bit_exact"] and machine["top1"] == machine["same_scenes"]["integer"]["top1"]
    assert machine["outputs"] == machine["same_scenes"]["integer"]["outputs"]
    assert any("no training pictures" in notice for notice in report["data"]["notices"])
    assert "--calibration-images" in report["notices"][0] and report["calibration_pictures"]["sha256"] is None
    own = evaluated(model, tmp_path, *arguments[:2], *QUICK, "--calibration-images", str(tmp_path / "data" / "x"))
    assert own["calibration_pictures"]["files"] == ["0.png"]
    assert not any("street scenes" in notice or "no training" in notice for notice in own["notices"])
    assert own["results"][1]["outputs"] != report["results"][1]["outputs"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "'kind' is not scored: it tells 4 classes, folder:{} has 3 (x, y, z)"),
        (("--root", "."), "leave --root out"),
        (("--raw-depth",), "--raw-depth is for nyud, not for folder:{}"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    model = classifier(tmp_path / "model.safetensors", 4)
    write_classes(tmp_path / "data", {"x": 1, "y": 1, "z": 1})
    found = evaluated(model, tmp_path, "--data", f"folder:{tmp_path / 'data'}", *QUICK, *arguments, code=2)
    assert words.format(tmp_path / "data") in found["message"]


def test_all_pictures_or_some_spread_evenly(tmp_path: Path) -> None:
    model = checkpoint.load(classifier(tmp_path / "model.safetensors", 7))
    write_classes(tmp_path / "data", SEVEN)
    name = f"folder:{tmp_path / 'data'}"
    assert len(choose_data(model, name, scenes=None).dataset) == 14
    some = choose_data(model, name, scenes=7).dataset
    assert [some[number].label for number in range(len(some))] == list(range(7))


def test_a_model_of_pixels_is_not_scored_on_whole_pictures(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", {"x": 1, "y": 1})
    found = evaluated(save_small(tmp_path / "m.safetensors"), tmp_path, "--data", f"folder:{tmp_path / 'data'}", code=2)
    assert "has no segmentation" in found["message"] and "nothing that 'small' predicts" in found["message"]


def test_pixels_of_ones_own(tmp_path: Path) -> None:
    write_described(tmp_path / "data")
    model = save_small(tmp_path / "model.safetensors", tasks=two_tasks(3))
    report = evaluated(model, tmp_path, "--data", str(tmp_path / "data" / "dataset.toml"), *QUICK)
    floating, integer = report["results"]
    assert report["data"]["name"] == "yard" and report["data"]["classes"] == ["ground", "wall", "tree"]
    assert report["data"]["scored"] == ["segmentation", "depth"] and floating["top1"] is None
    assert report["calibration_pictures"]["files"] == ["images/train/0.png", "images/train/1.png"]
    assert floating["depth_rmse_m"] > 0 and set(floating["class_iou"]) == {"ground", "wall", "tree"}
    depth = save_small(tmp_path / "depth.safetensors", tasks=two_tasks(3)[1:])
    (tmp_path / "data" / "labels" / "val" / "a" / "0.png").unlink()  # which this model needs not
    one = evaluated(depth, tmp_path, "--data", f"folder:{tmp_path / 'data'}", *QUICK)
    assert one["data"]["scored"] == ["depth"] and one["results"][0]["mean_iou"] is None
    wrong = save_small(tmp_path / "wrong.safetensors", tasks=two_tasks(4)[:1])
    (tmp_path / "numbers.json").unlink()
    found = evaluated(wrong, tmp_path, "--data", f"folder:{tmp_path / 'data'}", *QUICK, code=2)
    assert "it tells 4 classes, yard has 3 (ground, wall, tree)" in found["message"]


def test_most_depths_beyond_what_is_scored_are_told(tmp_path: Path) -> None:
    model = save_small(tmp_path / "model.safetensors", tasks=two_tasks(3)[1:])
    write_described(tmp_path / "data")
    text = (tmp_path / "data" / "dataset.toml").read_text()
    files = sorted((tmp_path / "data" / "depth").glob("val/*/*.png"))
    raw = np.stack([np.asarray(Image.open(file).resize((32, 16), Image.Resampling.NEAREST)) for file in files])
    known = raw[(raw > 0) & (raw < 65535)] / 100
    near = np.mean(known <= 12)
    assert known.max() > 50 and 0.1 < near < 0.3
    for farthest, share in ((50, None), (12, f"{near:.1%}")):
        (tmp_path / "data" / "dataset.toml").write_text(text.replace("farthest = 50", f"farthest = {farthest}"))
        report = evaluated(model, tmp_path, "--data", f"folder:{tmp_path / 'data'}", *QUICK)
        found = [notice for notice in report["notices"] if "few pixels" in notice]
        words = f"of those that have one in the yard pictures, {share} have it within what is scored"
        assert len(found) == (share is not None) and all(words in notice for notice in found)
