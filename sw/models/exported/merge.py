"""One graph for several tasks: what differs in nothing but its gate is one operator for all of them.

A module that computes several tasks repeats what comes behind the first gate for each of them. The machine runs one
task at a time, so that equal operators of different tasks are one, with a gate for each task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from tessera.common.digest import content_digest
from tessera.golden.network.network import Task
from tessera.golden.network.operators import MixExperts, Operator, Parameter


@dataclass
class _Merged:
    """Operators that became one: the one, and the tasks that need it."""

    operator: Operator
    tasks: set[int]
    gates: dict[int, tuple[Parameter, Parameter | None]]


def merged(
    operators: Sequence[Operator], tasks: Sequence[Task], weights: Mapping[str, Tensor]
) -> tuple[list[Operator], list[Task]]:
    """Operators and tasks with equal operators of different tasks made one."""
    needed = _needed(operators, tasks)
    digests = {
        name: content_digest(value.numpy().tobytes()) + str(tuple(value.shape)) for name, value in weights.items()
    }
    known: dict[Any, list[_Merged]] = {}
    order: list[_Merged] = []
    names: dict[str, str] = {}
    for operator in operators:
        mine = needed[operator.name]
        key = _key(operator, names, digests)
        other = next((one for one in known.get(key, ()) if not one.tasks & mine), None)
        if other is None:
            other = _Merged(_renamed(operator, names), set(), {})
            known.setdefault(key, []).append(other)
            order.append(other)
        other.tasks |= mine
        if isinstance(operator, MixExperts):
            embedding = operator.embeddings[0] if operator.embeddings else None
            other.gates |= dict.fromkeys(mine, (operator.gates[0], embedding))
        names[operator.name] = other.operator.name
    made = [_with_gates(one, len(tasks)) for one in order]
    return made, [replace(task, result=names[task.result]) for task in tasks]


def _needed(operators: Sequence[Operator], tasks: Sequence[Task]) -> dict[str, set[int]]:
    """Tasks that need each operator."""
    needed: dict[str, set[int]] = {operator.name: set() for operator in operators}
    for index, task in enumerate(tasks):
        needed[task.result].add(index)
    for operator in reversed(operators):
        for source in operator.sources:
            needed[source] |= needed[operator.name]
    return needed


def _key(operator: Operator, names: Mapping[str, str], digests: Mapping[str, str]) -> tuple[Any, ...]:
    """Equal for operators that compute the same of the same, but for a gate."""
    found: list[Any] = [operator.tag]
    for field in fields(operator):
        value = getattr(operator, field.name)
        if field.name in ("place", "part", "gates", "embeddings"):
            continue
        if isinstance(value, Parameter):
            value = (digests[value.tensor], value.item, value.transposed)
        elif isinstance(value, str) and value in names:
            value = names[value]
        elif isinstance(value, tuple) and value and isinstance(value[0], str):
            value = tuple(names.get(one, one) for one in value)
        found.append((field.name, value))
    return tuple(found)


def _renamed(operator: Operator, names: Mapping[str, str]) -> Operator:
    """The operator with its sources under the names that they have now."""
    changed: dict[str, Any] = {}
    for field in fields(operator):
        value = getattr(operator, field.name)
        if field.name in ("place", "part"):
            continue
        if isinstance(value, str) and value in names:
            changed[field.name] = names[value]
        elif isinstance(value, tuple) and value and isinstance(value[0], str):
            changed[field.name] = tuple(names.get(one, one) for one in value)
    return replace(operator, **changed)


def _with_gates(one: _Merged, tasks: int) -> Operator:
    """The operator with a gate for each task; tasks that do not need it have any."""
    if not isinstance(one.operator, MixExperts):
        return one.operator
    some = next(iter(one.gates.values()))
    found = [one.gates.get(task, some) for task in range(tasks)]
    embeddings = tuple(embedding for _, embedding in found if embedding is not None)
    return replace(one.operator, gates=tuple(gate for gate, _ in found), embeddings=embeddings)
