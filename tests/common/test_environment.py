"""What the doctor says of a complete environment, and of one that is not."""

from __future__ import annotations

import importlib.metadata

from tessera.common import environment


def failing(checks):
    return {check.name: check for check in checks if not check.ok}


def test_complete_environment_has_no_complaint():
    checks = environment.check_environment()
    assert not failing(checks)
    assert {"python", "torch", "verilator program", "C++ compiler"} <= {check.name for check in checks}


def test_doctor_reports_missing_and_outdated_packages(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "cocotb":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.12.0" if name == "torch" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    wrong = failing(environment.check_environment())
    assert wrong["cocotb"].found == "missing" and "make setup" in wrong["cocotb"].action
    assert wrong["torch"].found == "2.12.0" and wrong["torch"].expected == "==2.13.0"
