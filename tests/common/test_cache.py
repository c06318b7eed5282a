"""Entries appear whole, once for all processes that want them, and the latest used stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tessera.common import cache as cache_module
from tessera.common import digest
from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.paths import PROJECT_ROOT

FOLDER = Kind(name="made", keep=3)
FILE = Kind(name="value", keep=3, suffix=".json")

MAKER = """
import os, pathlib, signal, sys, time
from tessera.common.cache import Cache, Kind
folder, kind = pathlib.Path(sys.argv[1]), Kind(name="made", keep=3)
def make(into):
    with (folder.parent / "calls").open("a") as calls:
        calls.write("x")
    (into / "first").write_text("1")
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1)
    (into / "second").write_text("2")
print(sorted(path.name for path in Cache(folder).get(kind, "key", make).iterdir()))
"""


def maker(folder: Path, how: str) -> subprocess.Popen:
    command = [sys.executable, "-c", MAKER, str(folder), how]
    return subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def test_an_entry_is_made_once(cache: Cache) -> None:
    calls: list[Path] = []

    def make(into: Path) -> None:
        calls.append(into)
        (into / "file").write_text("content")

    assert cache.find(FOLDER, "key") is None
    path = cache.get(FOLDER, "key", make)
    assert path == cache.get(FOLDER, "key", make) == cache.find(FOLDER, "key") and len(calls) == 1
    assert [entry.name for entry in path.iterdir()] == ["file"] and list(cache.folder.iterdir()) == [path]


def test_values_are_found_by_their_key(cache: Cache) -> None:
    values = iter(([1], [2]))
    assert cache.value(FILE, "a", lambda: next(values)) == cache.value(FILE, "a", lambda: next(values)) == [1]
    assert cache.value(FILE, "b", lambda: next(values)) == [2]


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "a folder", "unreadable"])
def test_a_damaged_file_is_made_again(cache: Cache, damage: str) -> None:
    cache.value(FILE, "other", lambda: 0)
    path = cache.get(FILE, "key", lambda file: file.write_text("[1, 2, 3]"))
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "unreadable":
        path.symlink_to(path)
    else:
        path.write_bytes({"cut": content[:3], "emptied": b"", "changed": b"[1, 2, 4]"}[damage])
    assert cache.find(FILE, "key") is None
    assert cache.value(FILE, "key", lambda: [1, 2, 3]) == [1, 2, 3]
    assert cache.value(FILE, "other", lambda: 1) == 0 and len(list(cache.folder.iterdir())) == 2


def test_a_file_can_be_written_again(cache: Cache) -> None:
    for text in ("one", "two"):
        path = cache.put(FILE, "key", lambda file, text=text: file.write_text(text))
    assert path.read_text() == "two" and list(cache.folder.iterdir()) == [path]


@pytest.mark.parametrize("kind", [FOLDER, FILE], ids=["folder", "file"])
def test_nothing_is_left_of_what_failed(cache: Cache, kind: Kind) -> None:
    def fail(into: Path) -> None:
        (into / "half" if into.is_dir() else into).write_text("half")
        raise FileNotFoundError("no such tool")

    with pytest.raises(FileNotFoundError, match="no such tool"):
        cache.get(kind, "key", fail)
    assert cache.find(kind, "key") is None and not list(cache.folder.iterdir())


def test_two_processes_make_one_entry(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    running = [maker(folder, "live") for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in running] == ["['first', 'second']\n"] * 3
    assert (tmp_path / "calls").read_text() == "x" and [path.name for path in folder.iterdir()] == ["made-key"]


def test_a_killed_process_leaves_no_entry_and_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    killed = maker(folder, "die")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert Cache(folder).find(FOLDER, "key") is None
    process = maker(folder, "live")
    assert process.communicate(timeout=60)[0] == "['first', 'second']\n"
    left = [path for path in folder.iterdir() if path.name.startswith(".")]
    assert len(left) == 1, "the half that the killed process made"
    old = time.time() - cache_module._ABANDONED_SECONDS - 1
    os.utime(left[0], (old, old))
    Cache(folder).put(FILE, "key", lambda file: file.write_text("1"))
    assert not left[0].exists()


def test_the_latest_used_entries_stay(cache: Cache) -> None:
    for number in range(3):
        path = cache.get(FOLDER, str(number), lambda into: (into / "file").write_text(""))
        os.utime(path, (number, number))
    cache.get(FILE, "0", lambda file: file.write_text("another kind"))
    cache.find(FOLDER, "0")
    cache.get(FOLDER, "3", lambda into: (into / "file").write_text(""))
    names = {path.name.partition(".")[0] for path in cache.folder.iterdir()}
    assert names == {"made-0", "made-2", "made-3", "value-0"}


def test_the_key_follows_from_values_sources_and_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "_STARTED", float("inf"))
    keys = [
        cache_key(1, sources=("common/*.py",), tools=("numpy",)),
        cache_key(2, sources=("common/*.py",), tools=("numpy",)),
        cache_key(1, sources=("common/*.py", "hw/*.py"), tools=("numpy",)),
        cache_key(1, sources=("common/*.py",), tools=("numpy", "python")),
    ]
    monkeypatch.setattr(cache_module, "tool_version", lambda name: "another")
    keys.append(cache_key(1, sources=("common/*.py",), tools=("numpy",)))
    assert len(set(keys)) == len(keys)


def test_the_one_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Cache().folder == PROJECT_ROOT / "build" / "cache"
    monkeypatch.setattr(cache_module, "cache_folder", lambda: tmp_path)
    assert Cache().folder == tmp_path
