"""Figures of the README and of a how-to page are those of docs/results.md, and the README stays short."""

import re

from tessera.common.paths import PROJECT_ROOT

README = (PROJECT_ROOT / "README.md").read_text()
RESULTS = (PROJECT_ROOT / "docs" / "results.md").read_text()
FIGURE = re.compile(r"(?<![\w.,])\d[\d,]*\.?\d+%?")


def figures(text: str) -> set[str]:
    """Numbers of at least two digits."""
    return set(FIGURE.findall(text))


def test_the_readme_shows_what_was_measured():
    rows = [line for line in README.splitlines() if line.startswith("|")]
    shown = figures("\n".join(rows))
    assert len(shown) > 15
    assert sorted(shown - figures(RESULTS)) == []


def test_the_page_on_real_data_shows_what_was_measured():
    page = (PROJECT_ROOT / "docs" / "howto" / "real-data.md").read_text()
    shown = set(re.findall(r"[\d.]+%", page))
    assert len(shown) == 3 and sorted(shown - figures(RESULTS)) == []


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 90
