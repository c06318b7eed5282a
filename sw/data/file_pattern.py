"""File names by a pattern, and the names of what belongs to each: ``images/*.jpg`` and ``labels/*_ids.png``.

``*`` stands for any text without a slash, ``**/`` for any folders, and ``{word}`` for the same text wherever it stands.
What they stand for in the name of a picture takes their places in the patterns of its counterparts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tessera.sw.data.picture_folder import visible_files

_TOKEN = re.compile(r"\*\*/|\*|\{(\w+)\}")
_FOLDERS, _TEXT, _WORD = r"((?:[^/]+/)*)", r"([^/]*)", r"[^/]+"

Parts = dict[str, str]
"""What the tokens of a pattern stand for in one name: words by their names, the others by their numbers."""


@dataclass(frozen=True, kw_only=True)
class FilePattern:
    """A pattern, and the folder that it begins in."""

    root: Path
    text: str

    @property
    def names(self) -> list[str]:
        """What its tokens are called, in order: words, and numbers for the others."""
        found = [token[1] for token in _TOKEN.finditer(self.text)]
        numbers = iter(range(len(found)))
        return [word or str(next(numbers)) for word in found]

    def found(self) -> dict[Path, Parts]:
        """All files with such a name, sorted by path."""
        begin = self.text[: token.start()] if (token := _TOKEN.search(self.text)) else self.text
        folder = begin.rpartition("/")[0]
        base, form = self.root / folder, self._expression(self.text[len(folder) :].lstrip("/"))
        files = sorted(visible_files(base)[0]) if base.is_dir() else []
        matches = ((path, form.fullmatch(path.relative_to(base).as_posix())) for path in files)
        return {path: self._parts(match) for path, match in matches if match}

    def path(self, parts: Parts) -> Path:
        """The file with this name where the tokens stand for ``parts``."""
        names = iter(self.names)
        return self.root / _TOKEN.sub(lambda _: parts[next(names)], self.text)

    def check_counterpart(self, pictures: FilePattern) -> None:
        """ValueError unless what ``pictures`` finds tells the names of this pattern's files."""
        ours, theirs = set(self.names), set(pictures.names)
        if ours != theirs:
            raise ValueError(
                f"the pattern '{self.text}' does not follow from '{pictures.text}': each needs the same words in "
                "braces and as many * as the other"
            )

    def _expression(self, text: str) -> re.Pattern[str]:
        form, at, seen = "", 0, set[str]()
        for token in _TOKEN.finditer(text):
            form += re.escape(text[at : token.start()])
            at, word = token.end(), token[1]
            if word is None:
                form += _FOLDERS if token[0] == "**/" else _TEXT
            else:
                form += f"(?P={word})" if word in seen else f"(?P<{word}>{_WORD})"
                seen.add(word)
        return re.compile(form + re.escape(text[at:]))

    def _parts(self, match: re.Match[str]) -> Parts:
        words = match.groupdict()
        named = set(match.re.groupindex.values())
        others = [text for group, text in enumerate(match.groups(), 1) if group not in named]
        return words | {str(number): text for number, text in enumerate(others)}
