"""A network: operators in an order of computation, the tensors' shapes, and the tasks' results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Protocol, TypeVar

from tessera.common.digest import content_digest
from tessera.golden.config import HeadKind
from tessera.golden.network.operators import (
    KINDS,
    ActivationFunction,
    MixExperts,
    NormKind,
    Operator,
    Parameter,
    PictureInput,
    Shape,
)

FORMAT = 1
"""Version of a network in files."""

Kind = TypeVar("Kind", bound=Operator)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task and its result.

    Parameters
    ----------
    name:
        Task name as the command line knows it.
    kind:
        ``segmentation`` (class logits a cell), ``depth`` (one value a cell), ``classification`` (class logits of the
        whole picture) or ``features`` (no head: a matrix of tokens is the result).
    channels:
        Outputs a cell: the number of classes, or 1 for depth. 0 for ``features``.
    cells:
        Each row of the result is ``cells`` x ``cells`` cells. 1 for ``classification``, 0 for ``features``.
    result:
        Name of the tensor that is the result.
    grid:
        Rows of the result down and across; (1, 1) for ``classification``.
    prefix:
        Rows of the result before those of the grid, such as a class token among ``features``.

    Output channel ``(channel * cells + cell_row) * cells + cell_column`` predicts that cell.
    """

    name: str
    kind: HeadKind
    channels: int
    cells: int
    result: str
    grid: tuple[int, int]
    prefix: int = 0

    @property
    def outputs(self) -> int:
        """Channels of a row of the result; 0 for ``features``."""
        return self.channels * self.cells * self.cells


class TakesPictures(Protocol):
    """Whatever says which pictures it takes."""

    @property
    def name(self) -> str:
        """Name for messages."""

    @property
    def image_height(self) -> int:
        """Pixels down."""

    @property
    def image_width(self) -> int:
        """Pixels across."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A graph of operators.

    Parameters
    ----------
    name:
        Name used in reports and file names.
    operators:
        In an order of computation: every source comes before its use.
    tasks:
        The tasks, in order; the index is what the accelerator's task register holds.
    weights:
        Shape of every tensor of weights by name.

    Raises
    ------
    ValueError
        If names repeat, a source is missing or comes later, shapes do not fit, or there is not one picture.
    """

    name: str
    operators: tuple[Operator, ...]
    tasks: tuple[Task, ...]
    weights: Mapping[str, Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError(f"network '{self.name}' has no task; give at least one result")
        if len(self.of_kind(PictureInput)) != 1:
            raise ValueError(f"network '{self.name}' reads {len(self.of_kind(PictureInput))} pictures, expected one")
        for task in self.tasks:
            if task.result not in self.shapes:
                raise ValueError(f"task '{task.name}' has the result '{task.result}', which no operator makes")

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor by name."""
        known: dict[str, Shape] = {}
        for operator in self.operators:
            missing = [source for source in operator.sources if source not in known]
            if missing:
                raise ValueError(f"{operator.name} reads {', '.join(missing)}, which no operator before it makes")
            if operator.name in known:
                raise ValueError(f"two operators are called {operator.name}")
            known[operator.name] = operator.shape([known[source] for source in operator.sources], self.weights)
        return known

    @cached_property
    def by_name(self) -> dict[str, Operator]:
        """Operators by name."""
        return {operator.name: operator for operator in self.operators}

    @cached_property
    def readers(self) -> dict[str, tuple[Operator, ...]]:
        """Operators that read each tensor, in order."""
        found: dict[str, list[Operator]] = {operator.name: [] for operator in self.operators}
        for operator in self.operators:
            for source in dict.fromkeys(operator.sources):
                found[source].append(operator)
        return {name: tuple(operators) for name, operators in found.items()}

    def of_kind(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """Operators of one kind, in order."""
        return tuple(operator for operator in self.operators if isinstance(operator, kind))

    @property
    def picture(self) -> PictureInput:
        """Where the picture comes in."""
        return self.of_kind(PictureInput)[0]

    @property
    def image_height(self) -> int:
        """Pixels down."""
        return self.picture.height

    @property
    def image_width(self) -> int:
        """Pixels across."""
        return self.picture.width

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Layers, in order: the places of operators, without the empty one."""
        return tuple(dict.fromkeys(operator.place for operator in self.operators if operator.place))

    def task_index(self, name: str) -> int:
        """Index of the task called ``name``; raises ValueError listing the known tasks."""
        names = [task.name for task in self.tasks]
        if name not in names:
            raise ValueError(f"unknown task '{name}'; this model has: {', '.join(names)}")
        return names.index(name)

    def facts(self) -> dict[str, Any]:
        """What a reader of results wants to know of it, in JSON-compatible form; the digest is of all operators."""
        plain = self.to_dict()
        return {
            "image_height": self.image_height,
            "image_width": self.image_width,
            "layers": list(self.places),
            "operators": len(self.operators),
            "mixtures": [operator.name for operator in self.of_kind(MixExperts)],
            "parameters": sum(prod(shape) for shape in self.weights.values()),
            "digest": content_digest(json.dumps(plain, sort_keys=True).encode()),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-compatible form, the inverse of :meth:`from_dict`."""
        operators = [{"operator": operator.tag, **asdict(operator)} for operator in self.operators]
        tasks = [asdict(task) for task in self.tasks]
        weights = {name: list(shape) for name, shape in self.weights.items()}
        return {"format": FORMAT, "name": self.name, "operators": operators, "tasks": tasks, "weights": weights}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Network:
        """Build from the plain form; ValueError for another version or an unknown operator."""
        if data.get("format") != FORMAT:
            raise ValueError(f"the network has format {data.get('format')}, this version reads {FORMAT}; import again")
        return cls(
            name=data["name"],
            operators=tuple(_operator(entry) for entry in data["operators"]),
            tasks=tuple(Task(**{**task, "grid": tuple(task["grid"])}) for task in data["tasks"]),
            weights={name: tuple(shape) for name, shape in data["weights"].items()},
        )


def _operator(entry: Mapping[str, Any]) -> Operator:
    """An operator from its plain form."""
    values = {name: _plain(name, value) for name, value in entry.items() if name != "operator"}
    if entry["operator"] not in KINDS:
        raise ValueError(f"unknown operator '{entry['operator']}'; this version knows: {', '.join(KINDS)}")
    return KINDS[entry["operator"]](**values)


def _plain(name: str, value: Any) -> Any:
    """The value of an operator's field from its plain form."""
    if isinstance(value, Mapping):
        return Parameter(**value)
    if isinstance(value, (list, tuple)):
        return tuple(_plain(name, item) for item in value)
    if name == "function":
        return ActivationFunction(value)
    if name == "kind":
        return NormKind(value)
    return value
