"""Commands of a program: what each does, in which part of a frame, and what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from tessera.golden.config import layer_name
from tessera.program.tensors import Tensor


class Phase(StrEnum):
    """Parts of a frame, in their order; those of a layer come once per layer."""

    EMBED = "embed"
    ATTENTION = "attention"
    MLP = "MLP"
    EXPERTS = "experts"
    OUTPUT = "output"
    CONTROL = "control"


class CommandKind(StrEnum):
    """What a command does; the value is its part of the command's name."""

    IMAGE = "image"
    INITIAL_RESIDUAL = "residual.init"
    EMBED = "embed"
    NORM1 = "norm1"
    QUERY = "query"
    KEY = "key"
    VALUE_WEIGHTS = "v_weights"
    VALUE = "value"
    ATTENTION = "attention"
    PROJECTION = "projection"
    NORM2 = "norm2"
    FC1 = "fc1"
    FC2 = "fc2"
    GATE = "gate"
    ROUTE = "route"
    EXPERTS = "experts"
    NORM = "norm"
    HEAD = "head"
    STORE = "store"
    END = "end"


@dataclass(frozen=True)
class Span:
    """Heads or tokens from ``first`` to ``last``, both included, where a command does not do all of them."""

    of: Literal["head", "token"]
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.of}{self.first}" if self.first == self.last else f"{self.of}s{self.first}-{self.last}"


@dataclass(frozen=True)
class Label:
    """What tells a command from the others of its layer.

    Parameters
    ----------
    kind:
        What it does.
    span:
        Heads or tokens that it does; None for all.
    task:
        Name of the only task that runs it; None if its kind is for all tasks.
    """

    kind: CommandKind
    span: Span | None = None
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is known about one command beyond its bytes.

    Parameters
    ----------
    index:
        Position in the program.
    label, phase, layer:
        What it does, the part of the frame that it belongs to, the number of its layer or None.
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
    """

    index: int
    label: Label
    phase: Phase
    layer: int | None
    op: str
    task_mask: int
    macs: int
    ideal_cycles: int
    stream_bytes: int
    tensors: tuple[Tensor, ...]

    @property
    def kind(self) -> CommandKind:
        """What it does."""
        return self.label.kind

    @property
    def expert_layer(self) -> int:
        """Number of the layer of a GATE or EXPERTS command: no others route."""
        assert self.layer is not None, f"{self.name} belongs to no layer"
        return self.layer

    @property
    def name(self) -> str:
        """Name for people, such as ``layer03.attention`` or ``layer00.fc1.tokens0-24``."""
        return self.whole if self.label.span is None else f"{self.whole}.{self.label.span}"

    @property
    def whole(self) -> str:
        """Name without the span: what the commands for other heads or tokens have in common with it."""
        layer = None if self.layer is None else layer_name(self.layer)
        return ".".join(part for part in (layer, self.kind, self.label.task) if part is not None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {**vars(self), "label": asdict(self.label), "tensors": [tensor.to_dict() for tensor in self.tensors]}

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Command:
        """The command that :meth:`to_dict` wrote."""
        label, span = entry["label"], entry["label"]["span"]
        typed = {
            "label": Label(CommandKind(label["kind"]), span=Span(**span) if span else None, task=label["task"]),
            "phase": Phase(entry["phase"]),
            "tensors": tuple(Tensor.from_dict(tensor) for tensor in entry["tensors"]),
        }
        return cls(**{**entry, **typed})

    def runs(self, task: int) -> bool:
        """Whether the command runs when ``task`` is selected."""
        return bool(self.task_mask >> task & 1)
