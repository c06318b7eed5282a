"""An exported machine, as a user has it: a folder, and a Verilator that its Makefile calls."""

from __future__ import annotations

import os
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
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("obj_dir")))


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in an exported folder, with the Verilator of this environment."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VERILATOR_ROOT": str(tools.verilator_root()),
        "CXX": str(tools.cxx_compiler()),
        "CXXFLAGS": "-std=c++20",  # a Verilator that was installed for a compiler finds this out by itself
    }
    command = ["make", *arguments, f"VERILATOR={tools.verilator_binary()}", "FLAGS=-CFLAGS -O0"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
