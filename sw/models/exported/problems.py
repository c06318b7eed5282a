"""What of a module the machine does not do: everything at once, each with its place and the nearest that it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One operator that is not supported.

    Parameters
    ----------
    path:
        The module that it is in, as the module's own attributes name it; empty for the outermost.
    operator:
        Its name in PyTorch.
    shape:
        Shape of what it makes.
    why:
        What is not supported about it, and the nearest that is.
    """

    path: str
    operator: str
    shape: tuple[int, ...]
    why: str

    def __str__(self) -> str:
        return f"{self.path or 'the module'}: {self.operator} to {self.shape}: {self.why}"


class UnsupportedNetwork(ValueError):
    """A module that the machine cannot run: all that is not supported, alike ones as one line.

    Parameters
    ----------
    name:
        What to call the module.
    problems:
        What is not supported.
    """

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        alike: dict[tuple[str, str], list[Problem]] = {}
        for problem in problems:
            alike.setdefault((problem.operator, problem.why), []).append(problem)
        lines = []
        for found in alike.values():
            more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
            lines.append(f"  {found[0]}{more}")
        head = f"'{name}' has parts that the machine does not run ({len(problems)} operators):"
        super().__init__("\n".join([head, *lines]))
