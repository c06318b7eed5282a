"""A page as a browser without a window sees it, after its scripts ran."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Elements(HTMLParser):
    """Attributes of all elements of a page, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def by_id(self, name: str) -> dict[str, str]:
        """Attributes of the element with this id."""
        return next(attributes for _, attributes in self.found if attributes.get("id") == name)


def seen(page: Path, fragment: str = "", *, width: int = 1400, script: str = "") -> Elements:
    """The page at an address with a fragment, in a window of a width, with a script added; skips without a browser."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("no chromium, so nobody looked at the page (Debian: apt-get install chromium)")
    shown = page
    if script:
        shown = page.with_name(f"{page.stem}-script.html")
        shown.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000"]
    options += [f"--user-data-dir={page.parent / 'browser'}", f"--window-size={width},900", "--dump-dom"]
    address = f"{shown.as_uri()}{f'#{fragment}' if fragment else ''}"
    result = subprocess.run([browser, *options, address], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return Elements(result.stdout)
