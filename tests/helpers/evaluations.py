"""``tessera evaluate`` in this process, and what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tessera.sw.cli import app
from tests.helpers.schemas import document


def evaluated(model: Path, folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The JSON document with the terminal's ``output``; for a mistake the ``message``, with nothing written."""
    out = folder / "numbers.json"
    options = ["--model", str(model), "--json", str(out), "--jobs", "1", *arguments]
    result = CliRunner().invoke(app, ["evaluate", *options])
    assert result.exit_code == code, result.output + result.stderr
    if code == 2:
        assert not out.exists() and "Traceback" not in result.stderr
        return {"message": " ".join(result.stderr.split())}
    return document(out) | {"output": " ".join(result.output.split())}
