"""Every file, folder and module that the docs name exists."""

import re

import pytest

from common.paths import PROJECT_ROOT

PAGES = [PROJECT_ROOT / "README.md", *sorted((PROJECT_ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"(?<![\w/.])((?:common|golden|hw|program|sim|sw|tests)[/.][\w./*-]*\w[/*]?)")


def exists(name: str) -> bool:
    """Whether a path, a pattern, a module or a name in a module is there."""
    if "/" in name:
        return any(PROJECT_ROOT.glob(name.rstrip("/")))
    parts = name.split(".")
    candidates = [PROJECT_ROOT.joinpath(*parts[:count]) for count in range(len(parts), len(parts) - 3, -1) if count > 1]
    return any(path.with_suffix(".py").is_file() or path.is_dir() for path in candidates)


def test_a_wrong_name_is_noticed():
    assert exists("hw/isa.py") and exists("hw.isa") and exists("hw.isa.REGISTERS") and exists("hw/sequencer/")
    assert not exists("hw/nonlinear/") and not exists("sw/flow.py") and not exists("sw.bitstream.flow")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    code = re.findall(r"`([^`\n]+)`", page.read_text()) + re.findall(r"^\$ (.*)$", page.read_text(), re.M)
    named = {name for text in code for name in NAMED.findall(text)}
    assert sorted(name for name in named if not exists(name)) == []
