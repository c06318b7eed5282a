"""Result of a comparison: counts of every tensor, and the first difference placed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One difference, placed.

    ``reason`` says what is wrong; ``index`` is the logical index in the golden tensor by the names in ``axes``;
    ``expected`` or ``got`` is None where there is none; ``cycle`` is None for what was never written and for results in
    memory.
    """

    reason: str
    command: int
    command_name: str
    op: str
    place: str
    task: str
    space: str
    tensor: str | None = None
    axes: tuple[str, ...] = ()
    index: tuple[int, ...] | None = None
    token: int | None = None
    expected: int | None = None
    got: int | None = None
    cycle: int | None = None
    address: int | None = None

    def __str__(self) -> str:
        parts = [f"command {self.command} {self.command_name} ({self.op}, task {self.task}): {self.reason}"]
        if self.tensor is not None:
            place = ", ".join(f"{axis} {value}" for axis, value in zip(self.axes, self.index or (), strict=False))
            token = "" if self.token is None or "token" in self.axes else f" (token {self.token})"
            parts.append(f"tensor {self.tensor}" + (f" at {place}{token}" if place else ""))
        if self.expected is not None or self.got is not None:
            got = "nothing" if self.got is None else self.got
            parts.append(f"expected {self.expected}, got {got}")
        where = self.space if self.address is None else f"{self.space} word {self.address}"
        parts.append(where + ("" if self.cycle is None else f", cycle {self.cycle}"))
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class TensorVerdict:
    """Count of one tensor of one command."""

    command: int
    name: str
    space: str
    elements: int
    wrong: int
    missing: int


@dataclass(kw_only=True)
class Verdict:
    """Result of a comparison; ``first`` is the earliest difference of the earliest command that has one."""

    task: str
    tensors: list[TensorVerdict] = field(default_factory=list)
    first: Mismatch | None = None

    @property
    def passed(self) -> bool:
        """Whether everything is equal, complete and nothing else was written."""
        return self.first is None

    @property
    def tensors_compared(self) -> int:
        """Number of tensors."""
        return len(self.tensors)

    @property
    def elements_compared(self) -> int:
        """Number of elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def mismatches(self) -> int:
        """Elements that are wrong or missing."""
        return sum(tensor.wrong + tensor.missing for tensor in self.tensors)

    def __str__(self) -> str:
        if self.first is None:
            return f"bit-exact: {self.tensors_compared} tensors, {self.elements_compared:,} elements"
        return (
            f"NOT bit-exact: {self.mismatches:,} of {self.elements_compared:,} elements in {self.tensors_compared} "
            f"tensors differ; first: {self.first}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "task": self.task,
            "passed": self.passed,
            "tensors_compared": self.tensors_compared,
            "elements_compared": self.elements_compared,
            "mismatches": self.mismatches,
            "first": None if self.first is None else {**asdict(self.first), "text": str(self.first)},
            "tensors": [asdict(tensor) for tensor in self.tensors],
        }
