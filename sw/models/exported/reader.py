"""Reads an exported program node by node."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram

from tessera.sw.models.exported.builder import Builder
from tessera.sw.models.exported.layout import KEPT, LIKE, MOVES, SAME, SHAPES
from tessera.sw.models.exported.nodes import module_path, operator_of, shape_of
from tessera.sw.models.exported.problems import Problem
from tessera.sw.models.exported.values import AttentionScores, Fixed, NoArrangement, ScaledView, Unknown, View

Handler = Callable[["Reader", fx.Node, Sequence[Any]], Any]
Check = Callable[[Sequence[Any]], None]


class UnsupportedNode(ValueError):
    """A node that no operator does; the message says why, and what is nearest."""


class Reader:
    """Walks the nodes of an exported program.

    Parameters
    ----------
    builder:
        Takes the operators.
    handlers:
        What makes operators, by the operator of PyTorch.
    checks:
        What refuses operators by their arguments alone, by the operator of PyTorch.

    Attributes
    ----------
    problems:
        What is not supported.
    """

    def __init__(self, builder: Builder, handlers: Mapping[Any, Handler], checks: Mapping[Any, Check]) -> None:
        self.builder, self._handlers, self._checks = builder, handlers, checks
        self.problems: list[Problem] = []
        self._values: dict[fx.Node, Any] = {}

    def read(self, program: ExportedProgram, inputs: Sequence[Any]) -> list[Any]:
        """Values of the program's outputs, flat; ``inputs`` are the values of its own inputs, in order."""
        signature = program.graph_signature
        given = iter(inputs)
        for node in program.graph.nodes:
            if node.op == "placeholder":
                name = signature.inputs_to_parameters.get(node.name) or signature.inputs_to_buffers.get(node.name)
                constant = signature.inputs_to_lifted_tensor_constants.get(node.name)
                if name is not None:
                    self._values[node] = Fixed(_tensor_of(program, name), name)
                elif constant is not None:
                    self._values[node] = Fixed(program.constants[constant])
                else:
                    self._values[node] = next(given)
            elif node.op == "get_attr":
                self._values[node] = None  # the graph of a branch, for an operator that nothing of ours does
            elif node.op == "call_function":
                self._values[node] = self._call(node)
            elif node.op == "output":
                return [self._value(one) for one in node.args[0]]
        raise AssertionError("an exported graph ends with its output")

    def _value(self, argument: Any) -> Any:
        """The value of an argument, or of several in lists."""
        if isinstance(argument, fx.Node):
            return self._values[argument]
        if isinstance(argument, (list, tuple)):
            return type(argument)(self._value(one) for one in argument)
        return argument

    def _call(self, node: fx.Node) -> Any:
        arguments = [self._value(one) for one in node.args]
        keywords = {name: self._value(one) for name, one in node.kwargs.items()}
        if node.target is operator.getitem:
            return self._unknown(node) if isinstance(arguments[0], Unknown) else arguments[0][arguments[1]]
        tensors = [one for one in _flat((arguments, list(keywords.values()))) if isinstance(one, _VALUES)]
        if all(isinstance(one, Fixed) for one in tensors) and not isinstance(node.target, HigherOrderOperator):
            return self._fold(node, arguments, keywords)
        try:
            if check := self._checks.get(node.target):
                check(_positional(node, arguments, keywords))
            handler = self._handlers.get(node.target)
            follows = any(isinstance(one, Unknown) for one in tensors)
            if handler is None and node.target not in KEPT and not (follows and not _of_torch(node)):
                raise UnsupportedNode("no operator of ours does this")
            if follows:
                return self._unknown(node)
            return self._made(node, handler, arguments, keywords)
        except (UnsupportedNode, NoArrangement) as error:
            self.problems.append(Problem(module_path(node), operator_of(node), shape_of(node), str(error)))
            return self._unknown(node)

    def _made(self, node: fx.Node, handler: Handler | None, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """What an operator makes of known values."""
        if node.target in SAME:
            return arguments[0]
        if node.target in SHAPES and isinstance(arguments[0], AttentionScores):
            return arguments[0].reshaped(arguments[1])
        if node.target in MOVES and not isinstance(arguments[0], AttentionScores):
            return self._move(node, arguments, keywords)
        if handler is None:
            raise UnsupportedNode("scores of attention in another arrangement; the nearest keeps them as they are")
        made = handler(self, node, _positional(node, arguments, keywords))
        if isinstance(made, (View, ScaledView)) and len(_readers(node)) > 1:
            self.builder.keep(made.places if isinstance(made, View) else made.view.places)
        return made

    def _fold(self, node: fx.Node, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Carry out what depends on weights alone."""
        target: Any = node.target
        made = target(*map(_plain, arguments), **{name: _plain(one) for name, one in keywords.items()})
        first = next((one for one in arguments if isinstance(one, Fixed)), None)
        name = first.name if first is not None else ""
        if made is None:  # a check
            return None
        if isinstance(made, Tensor):
            return Fixed(made, name)
        if isinstance(made, (list, tuple)):
            return [Fixed(one, name) if isinstance(one, Tensor) else one for one in made]
        return made  # a number, or nothing: an assertion

    def _move(self, node: fx.Node, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Carry out what only moves values on their places."""
        source = arguments[0]
        factor = source.factor if isinstance(source, ScaledView) else None
        view = source.view if isinstance(source, ScaledView) else source
        rest = [_plain(one) for one in arguments[1:]]
        target: Any = node.target
        made = target(view.places, *rest, **{name: _plain(one) for name, one in keywords.items()})
        views = [View(one) for one in made] if isinstance(made, (list, tuple)) else [View(made)]
        scaled = views if factor is None else [ScaledView(one, factor) for one in views]
        return scaled if isinstance(made, (list, tuple)) else scaled[0]

    def _unknown(self, node: fx.Node) -> Any:
        found = node.meta.get("val")
        if isinstance(found, (list, tuple)):
            return [Unknown(tuple(one.shape)) for one in found]
        return Unknown(tuple(found.shape) if isinstance(found, Tensor) else ())


def _readers(node: fx.Node) -> set[fx.Node]:
    """Nodes that compute with what a node makes, or with a part of it."""
    found: set[fx.Node] = set()
    for user in node.users:
        if user.target in LIKE and user.args[0] is not node:
            continue  # it takes the shape alone
        moves = user.target in KEPT or user.target is operator.getitem
        found |= _readers(user) if moves else {user}
    return found


def _of_torch(node: fx.Node) -> bool:
    """Whether a node's operator is one of PyTorch's, not Python's own on numbers."""
    return isinstance(node.target, (OpOverload, HigherOrderOperator))


_VALUES = (View, Fixed, ScaledView, AttentionScores, Unknown)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [one for part in value for one in _flat(part)]
    return [value]


def _plain(value: Any) -> Any:
    """An argument for PyTorch itself."""
    if isinstance(value, Fixed):
        return value.tensor
    if isinstance(value, View):  # only its shape counts
        return value.places
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(one) for one in value)
    return value


def _positional(node: fx.Node, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Any]:
    """All arguments in the order of the operator's schema, with its defaults."""
    schema = node.target._schema  # type: ignore[union-attr]
    found = list(arguments)
    for argument in schema.arguments[len(found) :]:
        found.append(keywords.get(argument.name, argument.default_value))
    return found


def _tensor_of(program: ExportedProgram, name: str) -> Tensor:
    found = program.state_dict.get(name)
    return program.constants[name] if found is None else found
