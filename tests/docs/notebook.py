"""Runs the tutorial notebook; as a program (`make notebook`) it keeps what the cells show in the file."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tessera.common.files import file_aside

PATH = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"


def executed() -> nbformat.NotebookNode:
    """The notebook with every cell run in a fresh process, without times; the first cell that fails raises."""
    notebook = nbformat.read(PATH, as_version=4)
    where = {"metadata": {"path": str(PATH.parent)}}
    NotebookClient(notebook, timeout=1800, record_timing=False, coalesce_streams=True, resources=where).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    return notebook


if __name__ == "__main__":
    result = executed()
    with file_aside(PATH) as aside:
        nbformat.write(result, aside)
