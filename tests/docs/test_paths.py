"""Every file, folder and module that the docs name exists."""

import re

import pytest

import tessera
from tessera.common.paths import PROJECT_ROOT
from tessera.sw.export.write import FILES

PAGES = [*sorted(PROJECT_ROOT.glob("*.md")), *sorted((PROJECT_ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"(?<![\w/.])((?:tessera|common|examples|golden|hw|program|sim|sw|tests)[/.][\w./*-]*\w[/*]?)")


def exists(name: str) -> bool:
    """Whether a path, a pattern, a module or a name in a module is there."""
    if "/" in name:
        return any(PROJECT_ROOT.glob(name.rstrip("/")))
    if name in FILES:
        return True  # what `tessera export` writes
    parts = name.split(".")
    if parts[0] not in ("tessera", "tests", "examples"):
        return False  # modules of the floors are imported from the package
    if len(parts) == 2 and parts[0] == "tessera" and parts[1] in tessera.__all__:
        return True
    shortest = min(len(parts), 3)  # a floor, or a room or module of one; behind that come names in a module
    candidates = [
        PROJECT_ROOT.joinpath(*parts[:count]) for count in range(len(parts), max(shortest, len(parts) - 2) - 1, -1)
    ]
    return any(path.with_suffix(".py").is_file() or path.is_dir() for path in candidates)


def test_a_wrong_name_is_noticed():
    for there in (
        "hw/isa.py",
        "tessera.hw",
        "tessera.hw.isa",
        "tessera.hw.isa.REGISTERS",
        "tessera.run",
        "hw/sequencer/",
    ):
        assert exists(there)
    for absent in ("hw/nonlinear/", "sw/flow.py", "tessera.sw.bitstream.flow", "tessera.walk", "hw.isa"):
        assert not exists(absent)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT_ROOT)))
def test_what_a_page_names_is_there(page):
    code = re.findall(r"`([^`\n]+)`", page.read_text()) + re.findall(r"^\$ (.*)$", page.read_text(), re.M)
    named = {name for text in code for name in NAMED.findall(text)}
    assert sorted(name for name in named if not exists(name)) == []
