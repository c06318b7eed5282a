"""What ``tessera doctor`` checks: whether this environment has everything that the project needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tessera.common import tools
from tessera.common.files import check_writable
from tessera.common.paths import CHECKOUT, VARIABLE, build_folder
from tessera.common.system_errors import in_words

SPACE = 1.0
"""GiB that the caches of a simulator and a few runs take at most."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentCheck:
    """One line of ``tessera doctor``: what was looked for, what was found, and what to do when it is not right."""

    name: str
    ok: bool
    found: str
    expected: str
    action: str


def _requirements() -> dict[str, str]:
    """Return the version bounds of every package that the installed project declares, without those of extras."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("tessera") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    requirements = [found for line in lines if (found := Requirement(line)).marker is None]
    return {requirement.name: str(requirement.specifier) for requirement in requirements}


def _check_package(name: str, bounds: str) -> EnvironmentCheck:
    from packaging.specifiers import SpecifierSet

    found = tools.package_version(name)
    ok = found != "missing" and SpecifierSet(bounds).contains(found, prereleases=True)
    setup = "run `make setup`, or " if CHECKOUT else ""
    action = "" if ok else f'{setup}`{sys.executable} -m pip install "{name}{bounds}"`'
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


def _existing(folder: Path) -> Path:
    """The folder, or what is there of the way to it."""
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def _check_folder() -> EnvironmentCheck:
    """Whether results of long steps can be kept."""
    folder, action = build_folder(), ""
    try:
        check_writable(folder / "cache")
    except OSError as error:
        action = in_words(error)
        action += "" if VARIABLE in action else f": set {VARIABLE} to a folder for caches that can be written"
    found = str(folder)
    return EnvironmentCheck(name="folder for caches", ok=not action, found=found, expected="writable", action=action)


def _check_space() -> EnvironmentCheck:
    free = shutil.disk_usage(_existing(build_folder())).free / 2**30
    advice = "free some space" + (", for example with `make clean`" if CHECKOUT else f", or set {VARIABLE}")
    return EnvironmentCheck(
        name="disk space",
        ok=free >= SPACE,
        found=f"{free:.1f} GiB free",
        expected=f">= {SPACE:g} GiB",
        action="" if free >= SPACE else advice,
    )


def check_environment() -> list[EnvironmentCheck]:
    """Check everything that the project needs and return one entry per requirement."""
    python_ok = sys.version_info >= (3, 11)
    checks = [
        EnvironmentCheck(
            name="python",
            ok=python_ok,
            found=platform.python_version(),
            expected=">=3.11",
            action="" if python_ok else "install Python 3.11 or later, and Tessera into it",
        )
    ]
    bounds = _requirements()
    names = dict.fromkeys((*tools.PYTHON_PACKAGES, *bounds))
    checks += [_check_package(name, bounds.get(name, "")) for name in names]
    checks += [
        _check_program("verilator program", "runs", tools.verilator_version),
        _check_program("C++ compiler", "g++ 10 or later", tools.cxx_version),
        _check_program("Python library", "shared", tools.libpython),
    ]
    checks += [_check_program("make", "GNU make", _make_version)] if CHECKOUT else []
    checks += [_check_folder(), _check_space()]
    return checks
