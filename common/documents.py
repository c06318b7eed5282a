"""Parts of a Markdown page that a program writes: they stand between marker comments."""

from __future__ import annotations

import re

_END = "<!-- end -->"


def generated(document: str, name: str, page: str) -> str:
    """The part of ``document`` between the markers of generated block ``name``; ``page`` is for the message."""
    return _block(document, name, page)["text"]


def replace_generated(document: str, name: str, text: str, page: str) -> str:
    """``document`` with ``text`` between the markers of generated block ``name``."""
    block = _block(document, name, page)
    return f"{document[: block.start()]}{_begin(name)}\n{text}\n{_END}{document[block.end() :]}"


def _begin(name: str) -> str:
    return f"<!-- generated: {name} -->"


def _block(document: str, name: str, page: str) -> re.Match[str]:
    """The block with its markers, which may hold nothing; it never reaches into the next one."""
    text = r"(?P<text>(?:(?!<!-- generated: ).)*?)"
    found = re.search(rf"{re.escape(_begin(name))}\n?{text}\n?{_END}", document, re.DOTALL)
    if not found:
        raise ValueError(f"{page} has no generated block '{name}'; restore its marker comments")
    return found
