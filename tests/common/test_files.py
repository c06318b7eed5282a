"""Files appear whole or not at all, on whatever file system."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.common import files

KILLED = """
import os, signal, sys
from tessera.common.files import file_aside, folder_aside
with {writer}(sys.argv[1]) as aside:
    (aside / "new.txt" if aside.is_dir() else aside).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as another file system: nothing can be renamed into it or out of it."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in ("rename", "replace"):
        real = getattr(os, name)

        def guarded(source, target, *arguments, real=real, **options):
            if len({other in Path(path).absolute().parents for path in (source, target)}) > 1:
                raise OSError(errno.EXDEV, "Invalid cross-device link", str(source), None, str(target))
            return real(source, target, *arguments, **options)

        monkeypatch.setattr(os, name, guarded)
    return other


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_file_is_replaced_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with files.file_aside(target) as aside:
        aside.write_text("old")
        assert not target.exists() and aside.parent == target.parent and aside.suffix == ".txt"
    with pytest.raises(KeyError), files.file_aside(target) as aside:
        aside.write_text("half")
        raise KeyError
    assert content(target.parent) == {"file.txt": "old"}


def test_folder_keeps_what_it_does_not_replace(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    with files.folder_aside(folder) as aside:
        (aside / "new.txt").write_text("new")
    with pytest.raises(KeyError), files.folder_aside(folder) as aside:
        (aside / "new.txt").write_text("half")
        raise KeyError
    assert content(folder) == {"mine.txt": "keep", "new.txt": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_new_folder_appears_as_a_whole_with_usual_permissions(tmp_path: Path) -> None:
    folder, usual = tmp_path / "deep" / "out", tmp_path / "usual"
    usual.mkdir()
    with files.folder_aside(folder) as aside:
        (aside / "new.txt").write_text("new")
        assert not folder.exists()
    assert content(folder) == {"new.txt": "new"} and folder.stat().st_mode == usual.stat().st_mode


def test_two_writers_of_one_new_folder_both_succeed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with files.folder_aside(folder) as first:
        (first / "one.txt").write_text("1")
        with files.folder_aside(folder) as second:
            (second / "two.txt").write_text("2")
    assert content(folder) == {"one.txt": "1", "two.txt": "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_finished_file_moves_to_another_file_system(tmp_path: Path, elsewhere: Path) -> None:
    source, target = tmp_path / "made.txt", elsewhere / "deep" / "file.txt"
    source.write_text("made")
    with pytest.raises(OSError, match="cross-device"):
        os.replace(source, elsewhere / "file.txt")
    files.move_file(source, target)
    assert content(target.parent) == {"file.txt": "made"} and not source.exists()


def test_results_go_into_a_folder_on_another_file_system(tmp_path: Path, elsewhere: Path) -> None:
    (elsewhere / "mine.txt").write_text("keep")
    with files.folder_aside(elsewhere) as aside:
        (aside / "new.txt").write_text("new")
    files.write_json(elsewhere / "value.json", [1])
    assert content(elsewhere) == {"mine.txt": "keep", "new.txt": "new", "value.json": "[\n 1\n]\n"}


@pytest.mark.parametrize("writer", ["file_aside", "folder_aside"])
@pytest.mark.parametrize("before", [True, False], ids=["old", "nothing"])
def test_a_killed_writer_leaves_the_target_as_it_was(tmp_path: Path, writer: str, before: bool) -> None:
    target = tmp_path / "target"
    if before and writer == "folder_aside":
        files.write_text(target / "new.txt", "old")
    elif before:
        files.write_text(target, "old")
    done = subprocess.run([sys.executable, "-c", KILLED.format(writer=writer), str(target)])
    assert done.returncode == -signal.SIGKILL
    if before:
        assert (target / "new.txt" if target.is_dir() else target).read_text() == "old"
    else:
        assert not target.exists()
