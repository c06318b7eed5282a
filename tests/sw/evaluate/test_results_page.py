"""The scores in docs/results.md have the form that an evaluation writes."""

import json

import pytest

from tessera.common.documents import generated
from tessera.sw.evaluate import results_page
from tessera.sw.evaluate.results_page import scores_block

NAMES = ("road", "ground", "building", "vegetation", "vehicle", "person", "pole", "sky")
IOUS = (0.8536, 0.439, 0.584, 0.571, 0.418, 0.082, 0.038, 0.778)
TRUTH = {
    "mean_iou": 0.47056,
    "class_iou": dict(zip(NAMES, IOUS, strict=True)),
    "depth_rmse_m": 11.481,
    "depth_abs_rel": 0.31962,
}
REPORT = {
    "model": "m3vit-tiny",
    "data": {"classes": NAMES, "scored": ["segmentation", "depth"]},
    "results": [
        {"arithmetic": "float", **TRUTH},
        {
            "arithmetic": "integer",
            "activation_width": 16,
            "calibration": "max",
            **TRUTH,
            "mean_iou": None,
            "routing_changes": 0.0039,
        },
        {"arithmetic": "rtl"},
    ],
}


def test_rows_are_written_as_the_page_has_them():
    shown = generated(results_page.DOCUMENT.read_text(), "scores-m3vit-tiny", "docs/results.md").splitlines()
    rows = scores_block(REPORT).splitlines()
    assert rows[:2] == shown[:2] and rows[2].startswith("| float | 0.4706 | 0.854 |")
    assert rows[3].startswith("| 16-bit activations, `max` | - |") and rows[3].endswith("| 0.39% |")
    assert len(rows) == 4


def test_whole_pictures_have_a_table_of_their_own():
    right, near = {"top1": 0.975, "top5": None}, {"same_class": 0.995, "relative_l2": 0.0123}
    integer = {"arithmetic": "integer", "activation_width": 8, "calibration": "max", "top1": 0.97, "top5": None}
    report = {
        "data": {"classes": ["cat", "dog"], "scored": ["classification"]},
        "results": [{"arithmetic": "float", **right}, integer | {"outputs": {"animal": near}}],
    }
    assert scores_block(report).splitlines() == [
        "| | top-1 | top-5 | same class as float | outputs against float, rel. L2 |",
        "|---|---|---|---|---|",
        "| float | 97.50% | - |  |  |",
        "| 8-bit activations, `max` | 97.00% | - | 99.50% | 1.23% |",
    ]


@pytest.mark.parametrize(("model", "written"), [("m3vit-tiny", True), ("of-mine", False)])
def test_only_models_of_the_page_are_written(model, written, tmp_path, monkeypatch, capsys):
    page, numbers = tmp_path / "results.md", tmp_path / "evaluation.json"
    page.write_text(before := results_page.DOCUMENT.read_text())
    numbers.write_text(json.dumps(REPORT | {"model": model}))
    monkeypatch.setattr(results_page, "DOCUMENT", page)
    monkeypatch.setattr("sys.argv", ["results_page", str(numbers)])
    results_page.main()
    assert (page.read_text() != before) == written
    assert ("nothing was written" in capsys.readouterr().out) != written


def test_an_empty_table_is_filled_and_one_without_an_end_is_told(tmp_path, monkeypatch, capsys):
    page, numbers = tmp_path / "results.md", tmp_path / "evaluation.json"
    numbers.write_text(json.dumps(REPORT))
    monkeypatch.setattr(results_page, "DOCUMENT", page)
    monkeypatch.setattr("sys.argv", ["results_page", str(numbers)])
    page.write_text("<!-- generated: scores-m3vit-tiny -->\n<!-- end -->\n")
    results_page.main()
    assert generated(page.read_text(), "scores-m3vit-tiny", "the page") == scores_block(REPORT)
    page.write_text(broken := "<!-- generated: scores-m3vit-tiny -->\n")
    refused(capsys, "no generated block 'scores-m3vit-tiny'; restore its marker comments")
    assert page.read_text() == broken
    for content in ("", "[]", "{}", '{"model": "m3vit-tiny", "data": []}'):
        numbers.write_text(content)
        refused(capsys, "evaluation.json is not what tessera evaluate writes")
    numbers.unlink()
    refused(capsys, "evaluation.json: No such file or directory; give the JSON that tessera evaluate wrote")


def refused(capsys, words):
    with pytest.raises(SystemExit) as found:
        results_page.main()
    assert found.value.code == 2 and words in capsys.readouterr().err
