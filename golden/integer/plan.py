"""The steps of a network: what the machine does of it, in order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from tessera.golden.integer.planner import Planner, UnsupportedOperators
from tessera.golden.integer.steps import ExpertsStep, ProductStep, RowSelection, Step
from tessera.golden.network.network import Network

Found = TypeVar("Found", bound=Step)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps of a network.

    Parameters
    ----------
    steps:
        In the order of computation.
    results:
        What each task's result is.
    """

    steps: tuple[Step, ...]
    results: tuple[RowSelection, ...]

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """Steps by name."""
        return {step.name: step for step in self.steps}

    @cached_property
    def readers(self) -> dict[str, tuple[Step, ...]]:
        """Steps that read each tensor, in order."""
        found: dict[str, list[Step]] = {step.name: [] for step in self.steps}
        for step in self.steps:
            for name in dict.fromkeys(rows.tensor for rows in step.reads):
                found[name].append(step)
        return {name: tuple(steps) for name, steps in found.items()}

    @cached_property
    def last_streams(self) -> dict[str, Step]:
        """The last step of every layer that adds to the residual stream, by the layer's name."""
        found: dict[str, Step] = {}
        for step in self.steps:
            if step.place and isinstance(step, (ProductStep, ExpertsStep)) and step.onto is not None:
                if isinstance(step, ExpertsStep) or step.span == slice(0, step.channels):
                    found[step.place] = step
        return found

    def of_kind(self, kind: type[Found]) -> tuple[Found, ...]:
        """Steps of one kind, in order."""
        return tuple(step for step in self.steps if isinstance(step, kind))


__all__ = ["Plan", "UnsupportedOperators", "plan"]


def plan(network: Network) -> Plan:
    """The steps of a network; UnsupportedOperators names all that the machine cannot do."""
    planner = Planner(network)
    if planner.problems:
        raise UnsupportedOperators(planner.problems)
    return Plan(steps=tuple(planner.steps), results=planner.results)
