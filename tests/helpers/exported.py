"""An exported machine, as a user has it: a folder, and a Verilator that its Makefile calls."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from tessera.common import tools
from tessera.sw.cli import app


def export(folder: Path, preset: str = "tiny", *options: str) -> Path:
    """Export a preset as the command line does."""
    result = CliRunner().invoke(app, ["export", "--preset", preset, "-o", str(folder), *options])
    assert result.exit_code == 0, result.output
    return folder


def copied(folder: Path, target: Path) -> Path:
    """The exported files elsewhere: nothing beside them can help."""
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("obj_dir", ".*")))


def environment(programs: Path) -> dict[str, str]:
    """Variables under which ``verilator`` is this environment's, as if it were installed. ``programs`` holds it."""
    programs.mkdir(exist_ok=True)
    verilator = programs / "verilator"
    verilator.write_text(f'#!/bin/sh\nexec "{tools.verilator_binary()}" "$@"\n')
    verilator.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COCOTB_", "GPI_"))}
    return inherited | {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "VERILATOR_ROOT": str(tools.verilator_root()),
        "CXX": shlex.join(tools.cxx_compiler()),
        "CXXFLAGS": "-std=c++20",  # a Verilator that was installed for a compiler finds this out by itself
    }


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in an exported folder."""
    command = ["make", *arguments, "FLAGS=-CFLAGS -O0"]
    variables = environment(folder / ".programs")
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=1800)
