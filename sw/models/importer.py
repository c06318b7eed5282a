"""Import of weights that other projects wrote: one reader for each format, by the name that the command line takes.

A reader turns a file or folder into an :class:`~tessera.sw.models.imported.Imported`: a geometry and tensors under the
names of :class:`tessera.golden.model.VisionTransformer`. It checks everything before it gives anything back, and raises
one :class:`~tessera.sw.models.imported.ImportProblems` that lists all there is to mend. A new format is a module with
such a function and a line in ``FORMATS``.
"""

from __future__ import annotations

from pathlib import Path

from tessera.common.progress import Progress, silent
from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.network.compute import FloatNetwork
from tessera.sw.models import edge_moe, m3vit, timm_vit
from tessera.sw.models.imported import Imported, ImportProblems
from tessera.sw.models.options import Options

__all__ = ["FORMATS", "ImportProblems", "Imported", "Options", "check_name", "import_weights", "to_checkpoint"]

FORMATS = {entry.name: entry for entry in (edge_moe.FORMAT, m3vit.FORMAT, *timm_vit.formats())}


def import_weights(
    format: str,
    path: Path,
    on_progress: Progress = silent,
    options: Options | None = None,
) -> Imported:
    """Read the weights at ``path``; ``options`` say what they do not, ``on_progress`` is told of the stage ``read``.

    Raises
    ------
    ValueError
        For an unknown format, the message lists the known ones; for options that the format does not take, or that do
        not go with the weights; for a file that cannot be read.
    ImportProblems
        If anything there is missing, surplus, of the wrong size or not finite.
    """
    if format not in FORMATS:
        known = "\n".join(f"  {entry.name}: {entry.what}" for entry in FORMATS.values())
        raise ValueError(f"unknown format '{format}'; this version reads:\n{known}")
    options = options or Options()
    options.check()
    surplus = sorted(options.given - FORMATS[format].options)
    if surplus:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in surplus)
        raise ValueError(f"format '{format}' takes no {names}: its weights leave nothing to say there; leave it out")
    return FORMATS[format].read(path, options, on_progress)


def check_name(out: Path) -> None:
    """ValueError if a checkpoint cannot be called ``out``: readers of weights know safetensors by that ending."""
    if out.suffix != ".safetensors" or out.is_dir():
        raise ValueError(f"the checkpoint is to be called {out}; give the name of a file that ends in .safetensors")


def to_checkpoint(imported: Imported) -> Checkpoint:
    """The imported weights as a model of ours, labelled with where they come from."""
    if imported.network is not None:
        network = FloatNetwork(imported.network, imported.tensors)
        return Checkpoint(model=network, weights="imported", source=imported.source, assumed=imported.notices)
    model = checkpoint.build(imported.config, imported.tensors, source=imported.source)
    return Checkpoint.of(model, weights="imported", source=imported.source, assumed=imported.notices)
