"""Tensors that commands write: their names, the memories that they lie in and their layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from tessera.hw.config import AcceleratorConfig
from tessera.program.layouts.base import Layout
from tessera.program.layouts.routed import Accumulated, QueueEntries, QueuePositions
from tessera.program.layouts.rows import ApartRows, LastRows, ListedRows, Rows, RowsOf, TiledRows, Transposed, WideRows
from tessera.program.layouts.tiles import ExponentialTiles, GateLogits, QueryScaleTiles, ScoreTiles

Space = Literal["scratchpad", "residual", "score", "exponential", "query", "queue", "memory"]
AnyLayout = TypeVar("AnyLayout", bound=Layout, covariant=True)

LAYOUTS: tuple[type[Layout], ...] = (
    Rows,
    LastRows,
    ListedRows,
    ApartRows,
    TiledRows,
    WideRows,
    Transposed,
    ScoreTiles,
    ExponentialTiles,
    QueryScaleTiles,
    GateLogits,
    QueuePositions,
    Accumulated,
    QueueEntries,
)
"""Every layout that a tensor may have."""


def raw_width(space: Space, config: AcceleratorConfig) -> int:
    """Bits of a lane of a space."""
    numerics = config.numerics
    return {
        "scratchpad": numerics.activation_width,
        "exponential": numerics.activation_width,
        "residual": numerics.residual_width,
        "score": numerics.score.width,
        "query": numerics.multiplier_width,
        "memory": 32,
    }[space]


def layout_from_dict(entry: dict[str, Any]) -> Layout:
    """The layout that :meth:`Layout.to_dict` wrote."""
    kind = next(layout for layout in LAYOUTS if layout.tag == entry["layout"])
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    del fields["layout"]
    if "of" in fields:
        fields["of"] = RowsOf(fields["of"])
    return kind(**fields)


@dataclass(frozen=True, kw_only=True)
class Tensor(Generic[AnyLayout]):
    """A tensor, or some rows or heads of one, that a command writes.

    Parameters
    ----------
    name:
        Name of the golden tensor.
    space:
        Memory that is written.
    layout:
        Where its elements lie there.
    routing:
        Name of the mixture of experts whose queues decide the places; empty where none does.
    """

    name: str
    space: Space
    layout: AnyLayout
    routing: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {"name": self.name, "space": self.space, "layout": self.layout.to_dict(), "routing": self.routing}

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Tensor:
        """The tensor that :meth:`to_dict` wrote."""
        return Tensor(**{**entry, "layout": layout_from_dict(entry["layout"])})
