"""Every command and program of docs/tutorial.md and the README's Python do what the text says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = re.findall(r"^\$ (tessera .*)$", TUTORIAL, re.MULTILINE)


def _shell(command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_tutorial_shows_the_commands() -> None:
    shown = {command.split()[1] for command in COMMANDS}
    assert shown == {"doctor", "run", "quantize", "compile", "verify", "train"}


@pytest.mark.slow
def test_commands_of_the_tutorial() -> None:
    for line in COMMANDS:
        command, _, comment = line.partition("#")
        expected = int(re.search(r"exit code (\d)", comment)[1]) if comment else 0
        result = _shell(command)
        assert result.returncode == expected, f"{line}\n{result.stdout}\n{result.stderr}"


@pytest.mark.slow
def test_programs_of_the_readme() -> None:
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert programs
    for program in programs:
        result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0 and result.stdout.startswith("True"), result.stdout + result.stderr
