"""The exported folder runs a frame with nothing but what lies in it, and notices what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.exported import copied, export, make


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an exported folder whose bench has run."""
    folder = tmp_path_factory.mktemp("bench")
    core = copied(export(folder / "core"), folder / "copy")
    shutil.rmtree(folder / "core")
    result = make(core)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (core / "log.txt").write_text(result.stdout)
    return core


@pytest.mark.slow
def test_the_bench_passes_with_what_lies_in_the_folder(built: Path):
    log = (built / "log.txt").read_text()
    described = json.loads((built / "tessera.json").read_text())
    tasks = described["frame"]["tasks"]
    assert len(tasks) == 2 and "PASS: tessera_tiny, model pico, 2 tasks" in log
    for task in tasks:
        found = re.search(rf"task {task['name']}: (\d+) cycles, 0 of (\d+) bytes differ", log)
        assert found and int(found[2]) == task["output"]["rows"] * task["output"]["row_bytes"] > 4000
        assert int(found[1]) == pytest.approx(task["predicted_cycles"], rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "place", "words"),
    [
        ("expected.hex", 1000, "FAIL: 1 bytes differ"),
        ("memory.hex", 4096 * 9 // 4 + 4, "FAIL: .* bytes differ"),  # within the first weights
    ],
)
def test_the_bench_notices_a_wrong_byte(built: Path, name: str, place: int, words: str):
    path = built / name
    kept = path.read_text()
    digit = place // 3 * 3
    try:
        path.write_text(kept[:digit] + ("0" if kept[digit] != "0" else "1") + kept[digit + 1 :])
        result = make(built)
    finally:
        path.write_text(kept)
    assert result.returncode != 0
    assert re.search(words, result.stdout + result.stderr), result.stdout[-2000:] + result.stderr[-2000:]
    assert "PASS" not in result.stdout


@pytest.mark.slow
def test_the_bench_notices_a_command_that_is_none(built: Path):
    path = built / "memory.hex"
    kept = path.read_text()
    try:
        path.write_text("ffff00ff\n" + kept[9:])  # for every task
        result = make(built)
    finally:
        path.write_text(kept)
    assert result.returncode != 0 and re.search(r"FAIL: task \w+: status 4, error 1 at command 0", result.stdout)
