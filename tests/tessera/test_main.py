"""``python -m tessera`` is the command line, and Ctrl-C ends it with a line, also while it imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tessera.common.paths import PROJECT_ROOT
from tessera.sw.cli import app

LINE = "tessera: ended by Ctrl-C"
INTERRUPTED_IMPORT = """
import sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "{name}":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from tessera.__main__ import main
sys.argv[1:] = ["show", "pico"]
main()
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True)


def test_the_package_runs_as_the_program():
    outcome = python("-m", "tessera", "--help")
    assert outcome.returncode == 0 and "Usage: tessera [" in outcome.stdout and "doctor" in outcome.stdout


@pytest.mark.parametrize("name", ["typer", "tessera.sw.cli", "torch"])
def test_ctrl_c_while_it_imports_is_one_line(name: str):
    """Before the command line is there, and in a command, which imports what it needs."""
    outcome = python("-c", INTERRUPTED_IMPORT.format(name=name))
    assert (outcome.returncode, outcome.stderr.strip()) == (130, LINE)


def test_ctrl_c_in_a_command_is_one_line(monkeypatch):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tessera.sw.run.prepare.load_model", interrupted)
    outcome = CliRunner().invoke(app, ["show", "pico"])
    assert (outcome.exit_code, outcome.stderr.strip()) == (130, LINE)
