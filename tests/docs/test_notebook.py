"""The tutorial notebook: every cell runs in a process of its own and shows what the file shows, fractions apart."""

from __future__ import annotations

import re

import nbformat
import pytest

from tests.docs.notebook import PATH, executed


def shown(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell puts out: pictures by their kind, text with its fractions and columns blurred.

    Another processor may round the float model otherwise, which moves last digits of errors. Whole numbers, as cycles
    and cells are, stay.
    """
    found = []
    for output in cell.outputs:
        assert output.output_type in ("stream", "execute_result") and output.get("name") != "stderr", output
        text = output.text if output.output_type == "stream" else " ".join(sorted(output.data))
        found.append(re.sub(r"\s+", " ", re.sub(r"\d[\d,]*\.\d+", "0", text)))
    return found


@pytest.mark.soak
def test_every_cell_runs() -> None:
    kept = nbformat.read(PATH, as_version=4)
    nbformat.validate(kept)
    pairs = [pair for pair in zip(kept.cells, executed().cells, strict=True) if pair[0].cell_type == "code"]
    for number, (before, after) in enumerate(pairs):
        assert shown(before) == shown(after), f"code cell {number}: run `make notebook` again"
    assert sum("image/png" in kind for _, cell in pairs for kind in shown(cell)) == 3


def test_it_is_small_and_names_no_machine() -> None:
    text = PATH.read_text()
    assert len(text) < 1 << 20
    assert not re.search(r"/home/|/work/|/root/|/tmp/|\d\d:\d\d:\d\d|\"execution\": ", text)
