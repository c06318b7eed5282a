"""Documents: the stamp says what, when and with what; what is not a document of the asked schema is refused."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import pytest

from tessera.common import stamped
from tessera.common.stamped import Schema

THINGS, OTHERS = Schema(name="tessera-things", version=2), Schema(name="tessera-others", version=1)


def test_a_document_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tessera", "run", "--image", "a b.png"])
    written = stamped.write_document(
        tmp_path / "things.json", THINGS, {"count": 3, "rate": math.nan, "all": [1.5, math.inf]}
    )
    assert json.loads((tmp_path / "things.json").read_text()) == written
    assert written["schema"] == {"name": "tessera-things", "version": 2}
    assert written["command"] == "tessera run --image 'a b.png'"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", written["date"])
    assert written["processor"]["name"] and written["processor"]["cores"] >= 1
    assert (
        written["tessera"] == sys.modules["tessera"].__version__
        and written["git"]
        and written["tool_versions"]["numpy"]
    )
    assert (written["count"], written["rate"], written["all"]) == (3, None, [1.5, None])
    assert stamped.read_document(tmp_path / "things.json", [OTHERS, THINGS]) == (THINGS, written)


def test_a_session_without_a_command_has_none(monkeypatch):
    monkeypatch.setattr(sys, "argv", [""])
    assert stamped.command_line() is None


def test_content_does_not_hide_the_stamp():
    with pytest.raises(ValueError, match="date, git of a tessera-things would hide its stamp"):
        stamped.stamped(THINGS, {"git": 1, "date": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b'{"schema": ',
            "is not JSON from line 1, column 12 on; expected is the JSON file of tessera-things or",
        ),
        (b"\xff\xfe", "is not JSON; expected"),
        (b"[" * 100_000, "is not JSON; expected"),
        (b"9" * 10_000, "is not JSON; expected"),
        (b"", "is not JSON from line 1"),
        (b"[1]", "does not say what it is .*make it again"),
        (b'{"schema": "tessera-things-1"}', "does not say what it is"),
        (b'{"schema": {"name": "tessera-things"}}', "does not say what it is"),
        (
            b'{"schema": {"name": "tessera-run", "version": 1}}',
            "is of schema 'tessera-run'; expected is the JSON",
        ),
        (b'{"schema": {"name": "tessera-things", "version": 3}}', "version 3; expected is version 2: install a newer"),
        (
            b'{"schema": {"name": "tessera-things", "version": 1}}',
            "version 1; expected is version 2: make the file",
        ),
        (b'{"schema": {"name": "tessera-things", "version": null}}', "version None; expected is version 2"),
        (b'{"schema": {"name": ["a"], "version": 1}}', "is of schema"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: bytes, message: str):
    (tmp_path / "file.json").write_bytes(text)
    with pytest.raises(ValueError, match=message):
        stamped.read_document(tmp_path / "file.json", [THINGS, OTHERS])


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ValueError, match="there is no file .*; expected is the JSON file of tessera-things"):
            stamped.read_document(path, [THINGS])
