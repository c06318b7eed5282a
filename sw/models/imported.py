"""What a reader of foreign weights takes and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tessera.common.progress import Progress
from tessera.golden.config import ModelConfig
from tessera.golden.network.network import Network
from tessera.sw.models.options import Options

__all__ = ["ImportFormat", "ImportProblems", "Imported", "Progress"]


class ImportProblems(ValueError):
    """Weights that cannot be imported: everything that is wrong with them, in one message.

    Parameters
    ----------
    summary:
        What was looked at and what it is not.
    problems:
        One line for each.
    way_out:
        What to do about them.
    """

    def __init__(self, summary: str, problems: Sequence[str], way_out: str) -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        super().__init__("\n".join([f"{summary} ({count}):", *(f"  {line}" for line in problems), way_out]))


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the original computed for the picture that came with the weights.

    Members: ``name`` of the file; ``task`` by number; ``layer`` after which ``values`` (tokens, D) are the residual
    stream.
    """

    name: str
    task: int
    layer: int
    values: Tensor


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Weights as our model takes them.

    Parameters
    ----------
    config:
        The geometry that they belong to.
    tensors:
        float32, by state-dict name of :class:`tessera.golden.model.VisionTransformer`, or as ``network`` names them.
    source:
        The format, as a checkpoint and the reports name it.
    picture:
        A picture in the model's own size that came with the weights, or None.
    notices:
        What was assumed or left out, a line each.
    references:
        What the original computed for that picture.
    network:
        The graph, where there is more to it than the geometry says; else None.
    """

    config: ModelConfig
    tensors: Mapping[str, Tensor]
    source: str
    picture: Path | None = None
    notices: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    network: Network | None = None

    @property
    def parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(tensor.numel() for tensor in self.tensors.values())


@dataclass(frozen=True, kw_only=True)
class ImportFormat:
    """One format: its name on the command line, what it is in a line, its reader, and the options it takes."""

    name: str
    what: str
    read: Callable[[Path, Options, Progress], Imported]
    options: frozenset[str] = frozenset()
