"""Files appear whole or not at all; remembered results depend on their key."""

from __future__ import annotations

from pathlib import Path

import pytest

from common import files


def test_file_is_replaced_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with files.file_aside(target) as aside:
        aside.write_text("old")
        assert not target.exists()
    with pytest.raises(KeyError), files.file_aside(target) as aside:
        aside.write_text("half")
        raise KeyError
    assert target.read_text() == "old" and [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_folder_keeps_what_it_does_not_replace(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    with files.folder_aside(folder) as aside:
        (aside / "new.txt").write_text("new")
    with pytest.raises(KeyError), files.folder_aside(folder) as aside:
        (aside / "new.txt").write_text("half")
        raise KeyError
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"mine.txt": "keep", "new.txt": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_remembered_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CACHE", tmp_path)
    calls = []

    def compute() -> list[int]:
        calls.append(1)
        return [len(calls)]

    assert files.remembered("kind", ["a", 1], compute) == files.remembered("kind", ["a", 1], compute) == [1]
    assert files.remembered("kind", ["a", 2], compute) == [2]
