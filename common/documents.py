"""Parts of a Markdown page that a program writes: they stand between marker comments."""

from __future__ import annotations

import re


def generated(document: str, name: str, page: str) -> str:
    """The part of ``document`` between the markers of generated block ``name``; ``page`` is for the message."""
    found = re.search(f"<!-- generated: {name} -->\n(.*?)\n<!-- end -->", document, re.DOTALL)
    if not found:
        raise ValueError(f"{page} has no generated block '{name}'; restore its marker comments")
    return found[1]


def replace_generated(document: str, name: str, text: str, page: str) -> str:
    """``document`` with ``text`` between the markers of generated block ``name``."""
    generated(document, name, page)
    pattern = f"(<!-- generated: {name} -->\n).*?(\n<!-- end -->)"
    return re.sub(pattern, lambda match: match[1] + text + match[2], document, flags=re.DOTALL)
