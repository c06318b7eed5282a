"""Commands of a program: what each does, in which part of a frame, and what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from tessera.program.tensors import Tensor


class Phase(StrEnum):
    """Parts of a frame, in their order; those of a layer come once per layer."""

    EMBED = "embed"
    ATTENTION = "attention"
    MLP = "MLP"
    CONVOLUTION = "convolution"
    EXPERTS = "experts"
    OUTPUT = "output"
    CONTROL = "control"


class CommandKind(StrEnum):
    """Kinds of work, in the order of a frame; the value is what people read."""

    EMBED = "embed"
    NORM = "norm"
    QKV = "Q, K, V"
    ATTENTION = "QK, AV"
    PROJECTION = "projection"
    MLP = "MLP"
    GATE = "gate"
    EXPERTS = "experts"
    PRODUCT = "product"
    CONVOLUTION = "convolution"
    HEAD = "head"
    LOAD = "load"
    STORE = "store"
    CONTROL = "control"


@dataclass(frozen=True)
class Span:
    """Heads, tokens or channels from ``first`` to ``last``, both included, where a command does not do all of them."""

    of: Literal["head", "token", "channel"]
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.of}{self.first}" if self.first == self.last else f"{self.of}s{self.first}-{self.last}"


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is known about one command beyond its bytes.

    Parameters
    ----------
    index:
        Position in the program.
    whole, span:
        Name without the heads or tokens that it does, and these; None for all of them. Commands for other heads or
        tokens have the same ``whole``.
    kind, phase, place:
        Kind of work, the part of the frame that it belongs to, and the layer; empty outside of all layers.
    op:
        Name of the opcode.
    task_mask:
        Tasks that run it.
    macs:
        Useful multiply-accumulates, without padding.
    ideal_cycles:
        Beats of the array for this mapping, with padding; for EXPERTS the sum over all routed tokens.
    stream_bytes:
        Bytes of weight stream (EXPERTS: of all experts).
    tensors:
        Tensors it writes.
    mixture:
        Name of the mixture of experts that it routes to or runs; empty for none.
    """

    index: int
    whole: str
    span: Span | None
    kind: CommandKind
    phase: Phase
    place: str
    op: str
    task_mask: int
    macs: int
    ideal_cycles: int
    stream_bytes: int
    tensors: tuple[Tensor, ...]
    mixture: str = ""

    @property
    def name(self) -> str:
        """Name for people, such as ``layer03.attention`` or ``layer00.hidden.tokens0-24``."""
        return self.whole if self.span is None else f"{self.whole}.{self.span}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        span = None if self.span is None else asdict(self.span)
        return {**vars(self), "span": span, "tensors": [tensor.to_dict() for tensor in self.tensors]}

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Command:
        """The command that :meth:`to_dict` wrote."""
        typed = {
            "span": Span(**entry["span"]) if entry["span"] else None,
            "kind": CommandKind(entry["kind"]),
            "phase": Phase(entry["phase"]),
            "tensors": tuple(Tensor.from_dict(tensor) for tensor in entry["tensors"]),
        }
        return cls(**{**entry, **typed})

    def runs(self, task: int) -> bool:
        """Whether the command runs when ``task`` is selected."""
        return bool(self.task_mask >> task & 1)
