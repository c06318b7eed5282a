"""Digests of sources change with every file that a pattern finds, and a pattern must find one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tessera.common import digest
from tessera.common.digest import source_digest


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(digest, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(digest, "_STARTED", float("inf"))
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.py").write_text("a = 1")
    return tmp_path


def test_every_file_counts_by_name_and_content(project: Path) -> None:
    seen = [source_digest("**/*.py")]
    assert source_digest("**/*.py") == source_digest("**/*.py", "part/*") == seen[0]
    (project / "part" / "new.py").write_text("")
    seen.append(source_digest("**/*.py"))
    (project / "part" / "a.py").write_text("a = 2")
    seen.append(source_digest("**/*.py"))
    (project / "part" / "new.py").rename(project / "new.py")
    seen.append(source_digest("**/*.py"))
    assert len(set(seen)) == len(seen)


def test_only_files_are_sources(project: Path) -> None:
    before = source_digest("part/*")
    (project / "part" / "__pycache__").mkdir()
    assert source_digest("part/*") == before


def test_a_pattern_that_finds_nothing_is_an_error(project: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"matches 'other/\*\*/\*.py', on which a cached result depends"):
        source_digest("**/*.py", "other/**/*.py")


def test_what_is_edited_while_a_process_runs_is_its_own(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unedited = source_digest("**/*.py")
    monkeypatch.setattr(digest, "_STARTED", 0.0)
    mine = source_digest("**/*.py")
    monkeypatch.setattr(digest.os, "getpid", lambda: -1)
    assert len({unedited, mine, source_digest("**/*.py")}) == 3
