"""Import of weights that other projects wrote: one reader for each format, by the name that the command line takes.

A reader turns a file or folder into an :class:`~sw.importer.imported.Imported`: a geometry and tensors under the names
of :class:`golden.model.VisionTransformer`. It checks everything before it gives anything back and raises one
:class:`~sw.importer.imported.ImportProblems` that lists all there is to mend. A new format is a module with such a
function and a line in ``FORMATS``.
"""

from __future__ import annotations

from pathlib import Path

from golden import checkpoint
from golden.checkpoint import Checkpoint
from sw.importer import edge_moe
from sw.importer.imported import Format, Imported, ImportProblems, Progress

__all__ = ["FORMATS", "ImportProblems", "Imported", "import_weights", "to_checkpoint"]

FORMATS = {entry.name: entry for entry in (Format(name="edge-moe", what=edge_moe.WHAT, read=edge_moe.read),)}


def import_weights(format: str, path: Path, on_progress: Progress = lambda fraction, detail: None) -> Imported:
    """Read the weights at ``path``.

    Raises
    ------
    ValueError
        For an unknown format; the message lists the known ones.
    ImportProblems
        If anything there is missing, surplus, of the wrong size or not finite.
    """
    if format not in FORMATS:
        known = "\n".join(f"  {entry.name}: {entry.what}" for entry in FORMATS.values())
        raise ValueError(f"unknown format '{format}'; this version reads:\n{known}")
    return FORMATS[format].read(path, on_progress)


def to_checkpoint(imported: Imported) -> Checkpoint:
    """The imported weights as a model of ours, labelled with where they come from."""
    model = checkpoint.build(imported.config, imported.tensors, source=imported.source)
    return Checkpoint(model=model, weights="imported", source=imported.source)
