"""Every example runs, is short, says what it does, and is shown on a page."""

from __future__ import annotations

import ast
import runpy

import pytest

from tessera.common.paths import PROJECT_ROOT
from tessera.hw.boards.board import BOARDS

FOLDER = PROJECT_ROOT / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_it_runs(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BOARDS, "mine", None)  # what an example adds to the boards goes with it
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_it_is_short_and_documented(example):
    text = example.read_text()
    assert len(text.splitlines()) <= 60 and ast.get_docstring(ast.parse(text))


def test_each_is_shown_on_a_page():
    pages = "".join(page.read_text() for page in (PROJECT_ROOT / "docs").rglob("*.md"))
    assert [example.name for example in EXAMPLES if f"examples/{example.name}" not in pages] == []
