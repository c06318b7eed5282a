"""Files appear whole or not at all, on whatever file system."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tessera.common import files
from tessera.common.system_errors import in_words

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


def test_links_are_followed_and_stay(tmp_path: Path, elsewhere: Path) -> None:
    for name in ("there", "to come"):
        (tmp_path / name).symlink_to(elsewhere / name)
    (elsewhere / "there").mkdir()
    for name in ("there", "to come"):
        with files.folder_aside(tmp_path / name) as aside:
            (aside / "new.txt").write_text("new")
        assert (tmp_path / name).is_symlink() and content(elsewhere / name) == {"new.txt": "new"}
    (tmp_path / "value.json").symlink_to(elsewhere / "value.json")
    files.write_text(tmp_path / "value.json", "1")
    assert (tmp_path / "value.json").is_symlink() and (elsewhere / "value.json").read_text() == "1"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_what_is_written_has_the_mode_that_the_user_asks_for(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "file", "1")
        with files.folder_aside(tmp_path / "folder") as aside:
            (aside / "inside").write_text("1")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "folder" / "inside").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("writer", [files.file_aside, files.folder_aside])
def test_a_full_disk_is_told_with_the_place_and_nothing_stays(tmp_path: Path, writer) -> None:
    for told in ({}, {"filename": True}):
        with pytest.raises(OSError) as failure, writer(tmp_path / "out") as aside:
            (aside / "half" if aside.is_dir() else aside).write_text("half")
            where = [str(aside)] if told else []
            raise OSError(errno.ENOSPC, "No space left on device", *where)
        assert in_words(failure.value) == f"{tmp_path / 'out'}: the disk is full: free some space"
        assert not list(tmp_path.iterdir())


def test_an_error_of_an_input_keeps_its_own_place(tmp_path: Path) -> None:
    with pytest.raises(OSError) as failure, files.file_aside(tmp_path / "out"):
        (tmp_path / "in").read_text()
    assert in_words(failure.value) == f"{tmp_path / 'in'}: there is no such file or folder"


def test_a_name_as_long_as_can_be_is_written(tmp_path: Path) -> None:
    for name in ("x" * 250 + ".json", "\N{SNOWMAN}" * 80 + ".json"):
        files.check_file(tmp_path / name)
        files.write_text(tmp_path / name, "1")
    with pytest.raises(ValueError, match="256 bytes; at most 255"):
        files.check_file(tmp_path / ("x" * 256))


@pytest.mark.parametrize(
    ("path", "folder_says", "file_says"),
    [
        ("file", "is a file; give a folder", None),
        ("folder", None, "is a folder; give the name of a file"),
        ("file/inside", "a part of this path is a file", "a part of this path is a file"),
        ("file/inside/deep", "a part of this path is a file", "a part of this path is a file"),
        ("new/deep", None, None),
        ("pipe", "is a file; give a folder", "is a device or a pipe"),
        ("dangling", None, None),
        ("round", "in a circle", None),
    ],
)
def test_places_for_results_are_looked_at_first(
    tmp_path: Path, path: str, folder_says: str | None, file_says: str | None
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "folder" / "absent")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    before = sorted(tmp_path.iterdir())
    for check, says in ((files.check_folder, folder_says), (files.check_file, file_says)):
        if says is None:
            check(tmp_path / path)
        else:
            with pytest.raises(ValueError, match=says):
                check(tmp_path / path)
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "file").read_text() == "mine"


def test_a_folder_where_a_file_is_to_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(ValueError, match=r"run\.json is a folder, where the file run\.json is to be"):
        files.check_folder(tmp_path, "report.html", "run.json")


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "no permission"),
        (errno.EROFS, "the disk is read-only"),
        (errno.ENOSPC, "the disk is full: free some space"),
        (errno.EDQUOT, "your share of the disk is used up: free some space"),
    ],
)
def test_what_the_disk_refuses_is_found_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for check in (files.check_folder, files.check_file):
        with pytest.raises(ValueError, match=f"cannot be written to {tmp_path}/a/b: {tmp_path}: {says}$"):
            check(tmp_path / "a" / "b")


def test_caches_and_temporary_files_can_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "caches"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for place, variables in (
        ("caches/cache/x", {"TESSERA_CACHE"}),
        ("temporary/tessera-x/memory.bin", {"TMPDIR"}),
        ("temporary/mine", set()),
        ("mine", set()),
    ):
        words = in_words(OSError(errno.ENOSPC, "", str(tmp_path / place)))
        assert {name for name in ("TESSERA_CACHE", "TMPDIR") if name in words} == variables, words
    assert "TESSERA_CACHE" in in_words(OSError(errno.ENOSPC, "")) and in_words(OSError("odd")) == "odd"
