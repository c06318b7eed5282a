"""Commands on pages: every line is one that the program takes, and the quick ones do what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from docs.site.pages import filled
from tessera.common.paths import PROJECT_ROOT
from tessera.sw.cli import app

PAGES = [*sorted(PROJECT_ROOT.glob("*.md")), *sorted((PROJECT_ROOT / "docs").rglob("*.md"))]
LINE = re.compile(r"^ *\$ (?:\.venv/bin/)?tessera (.*?)(?: +#.*| && .*)?$", re.MULTILINE)
TARGET = re.compile(r"^ *\$ make (\w[\w-]*)", re.MULTILINE)
PROGRAM = typer.main.get_command(app)

LINES = sorted(
    {(str(page.relative_to(PROJECT_ROOT)), line) for page in PAGES for line in LINE.findall(filled(page.read_text()))}
)
QUICK = re.compile(r"estimate |doctor|(run|compile) --model pico --preset tiny")


def test_every_line_is_taken():
    assert len(LINES) > 60
    wrong = []
    for page, line in LINES:
        name, *arguments = shlex.split(line)
        try:
            if not name.startswith("-"):
                PROGRAM.commands[name].make_context(name, arguments)
        except Exception as error:  # of the parser, whatever it is
            wrong.append(f"{page}: {line}: {error!r}")
    assert wrong == []


def test_every_target_is_in_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (PROJECT_ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {(page.name, target) for page in PAGES for target in TARGET.findall(page.read_text())}
    assert sorted(target for target in named if target[1] not in targets) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", sorted({line for page, line in LINES if QUICK.match(line) and "reference" not in page})
)
def test_quick_lines_do_what_the_page_says(line):
    command = f"{shlex.quote(sys.executable)} -m tessera {line}"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    outcome = subprocess.run(command, shell=True, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_the_page_of_own_networks_works_as_it_stands(tmp_path):
    """Its lines in their order, where nothing is but the repository's examples; what is run is only compiled."""
    text = (PROJECT_ROOT / "docs" / "howto" / "own-network.md").read_text()
    lines = re.findall(r"^\$ (.*)$", text.replace("tessera run", "tessera compile"), re.MULTILINE)
    assert [line.split()[1] for line in lines if line.startswith("tessera")] == ["import"] * 3 + ["compile"]
    (tmp_path / "examples").symlink_to(PROJECT_ROOT / "examples")
    for line in lines:
        program, _, rest = line.partition(" ")
        command = [sys.executable, *(["-m", "tessera"] if program == "tessera" else []), *shlex.split(rest)]
        outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert outcome.returncode == 0, line + outcome.stdout + outcome.stderr
    assert (tmp_path / "build" / "small.safetensors").is_file()
