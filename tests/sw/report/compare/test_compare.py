"""``tessera compare``: what changed is told and written; files that do not match, or are damaged, are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tessera.sw.cli import app
from tests.helpers.measured import task, write_bench, write_evaluation, write_run
from tests.helpers.schemas import check, document


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def compared(before: Path, after: Path, out: Path, *options: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["compare", str(before), str(after), "-o", str(out), *options])
    said = " ".join((result.output + result.stderr).split())
    assert result.exit_code == code, said
    assert "Traceback" not in said and (code == 2) == (not out.exists())
    return said


def changes(out: Path, section: str) -> dict[tuple[str, str], float | None]:
    lines = document(out / "comparison.json")["sections"][section]
    return {(line["place"], line["name"]): line["percent"] for line in lines if line["changed"]}


def test_two_runs(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a" / "run.json", {"segmentation": task(1000), "depth": task(400)})
    other = {"segmentation": task(1100, error=0.03), "depth": task(400)}
    second = write_run(tmp_path / "b" / "run.json", other, program_digest="1" * 64, calibration="percentile")
    check(json.loads(first.read_text()))
    said = compared(tmp_path / "a", second, tmp_path / "out")
    for words in (
        "1,000",
        "1,100",
        "+10.00 %",
        "percentile",
        "QK, AV",
        "relative_l2",
        "+50.00 %",
        "Unchanged: ",
        "scores",
    ):
        assert words in said
    assert changes(tmp_path / "out", "cycles") == {("segmentation", "cycles"): 10.0}
    assert changes(tmp_path / "out", "cycles by kind of command")["segmentation", "QK, AV"] == pytest.approx(10)
    assert set(changes(tmp_path / "out", "configuration")) == {("", "program_digest"), ("", "calibration")}
    assert document(tmp_path / "out" / "comparison.json")["cycles_rise_percent"] == 10.0
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "Cycles rose by up to 10.00 %" in page and 'style="width: 100.00%"' in page and "1,100" in page
    assert not re.search(r"https?://|@import|url\(|src=", page)


def test_a_limit_decides_about_the_exit_code(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a.json", {"depth": task(1000), "more": task(1000)})
    second = write_run(tmp_path / "b.json", {"depth": task(1020), "more": task(900)})
    assert "rose by 2.00 %, more than 1 %" in compared(first, second, tmp_path / "o", "--fail-above", "1", code=1)
    compared(first, second, tmp_path / "o", "--fail-above", "2")
    compared(second, first, tmp_path / "o", "--fail-above", "12")
    compared(first, first, tmp_path / "o", "--fail-above", "0")
    fewer = write_run(tmp_path / "c.json", {"depth": task(1000)})
    said = compared(first, fewer, tmp_path / "o", "--fail-above", "1", code=1)
    assert "only the first file has more" in said and "no cycles to compare for more" in said
    compared(fewer, first, tmp_path / "o", "--fail-above", "1")
    compared(first, fewer, tmp_path / "o")


@pytest.mark.parametrize("limit", ["-1", "nan", "inf"])
def test_a_limit_is_per_cent(tmp_path: Path, limit: str) -> None:
    first = write_run(tmp_path / "a.json", {"depth": task(1000)})
    said = compared(first, first, tmp_path / "o", f"--fail-above={limit}", code=2)
    assert f"--fail-above is {limit}; give per cent from 0 on" in said


def test_two_benches_and_two_evaluations(tmp_path: Path) -> None:
    first, second = (
        write_bench(tmp_path / "a.json", {"tiny": 100}),
        write_bench(tmp_path / "b.json", {"tiny": 90, "edge": 5}),
    )
    said = compared(first, second, tmp_path / "bench")
    assert "-10.00 %" in said and "only the second file has nano, skewed on edge, depth" in said
    assert "No task takes more cycles" in (tmp_path / "bench" / "comparison.html").read_text()
    scores = [write_evaluation(tmp_path / f"{number}.json", iou) for number, iou in enumerate((0.5, 0.45))]
    assert "integer, 8, max mean_iou 0.5 0.45 -10.00 %" in re.sub(
        " *[│┃] *", " ", compared(*scores, tmp_path / "scores")
    )
    assert "No cycles in common" in (tmp_path / "scores" / "comparison.html").read_text()
    said = compared(*scores, tmp_path / "o", "--fail-above", "1", code=2)
    assert "--fail-above needs cycles that both files have" in said


def test_other_models_are_compared_with_a_notice(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a.json", {"depth": task(1000)})
    second = write_run(tmp_path / "b.json", {"depth": task(900)}, model="m3vit[b]", preset="edge")
    said = compared(first, second, tmp_path / "o")
    assert "notice the files are of different things; they differ in model, preset" in said and "m3vit[b]" in said


def test_kinds_that_do_not_match_are_refused(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a.json", {}), write_bench(tmp_path / "b.json", {})
    said = compared(first, second, tmp_path / "o", code=2)
    assert "a.json is tessera-run" in said and "b.json is tessera-bench; give two runs, two benches" in said


@pytest.mark.parametrize(
    "change",
    [{"tasks": None}, {"tasks": {"depth": {}}}, {"tasks": {"depth": 3}}, {"pictures": [3]}, {"accuracy": 7}],
    ids=str,
)
def test_damaged_content_is_refused(tmp_path: Path, change: dict) -> None:
    first = write_run(tmp_path / "a.json", {"depth": task(1000)})
    second = write_run(tmp_path / "b.json", **({"tasks": {"depth": task(1000)}} | change))
    if change == {"accuracy": 7}:
        compared(first, second, tmp_path / "o")  # a value of another kind is a change like any other
        return
    said = compared(first, second, tmp_path / "o", code=2)
    assert "b.json calls itself tessera-run, version 2, but its content is not as that schema says" in said
    assert "`tessera run`" in said


@pytest.mark.parametrize("key", ["date", "command", "tool_versions", "program_digest"])
def test_a_file_without_a_part_of_its_stamp_is_refused(tmp_path: Path, key: str) -> None:
    first = write_run(tmp_path / "a.json", {"depth": task(1000)})
    rest = {name: value for name, value in json.loads(first.read_text()).items() if name != key}
    (tmp_path / "b.json").write_text(json.dumps(rest))
    assert "its content is not as that schema says" in compared(first, tmp_path / "b.json", tmp_path / "o", code=2)


def test_folders_hold_one_file(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a" / "run.json", {"depth": task(1000)})
    (tmp_path / "empty").mkdir()
    said = compared(first, tmp_path / "empty", tmp_path / "o", code=2)
    assert "should hold one of run.json, bench.json, evaluation.json, but holds none; name the file itself" in said
    write_bench(tmp_path / "a" / "bench.json", {"tiny": 3})
    assert "holds several files: run.json, bench.json" in compared(tmp_path / "a", first, tmp_path / "o", code=2)
    assert "there is no file" in compared(first, tmp_path / "absent.json", tmp_path / "o", code=2)


def test_numbers_that_none_can_be_compared_with(tmp_path: Path) -> None:
    """A text where cycles should be, none before, and more than fits a float."""
    first = write_run(tmp_path / "a.json", {"depth": task(0), "large": task(1000), "text": task(10)})
    rest = {"depth": task(10), "large": task(1000) | {"cycles": 10**400}, "text": task(10) | {"cycles": "ten"}}
    second = write_run(tmp_path / "b.json", rest)
    assert "have none in common" in compared(first, second, tmp_path / "o", "--fail-above", "1", code=2)
    compared(first, second, tmp_path / "o")
