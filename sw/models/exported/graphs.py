"""An exported graph made ready for reading: without wraps around parts of it, and without what no result needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch._higher_order_ops.wrap import wrap_with_autocast, wrap_with_set_grad_enabled
from torch.export import ExportedProgram

from tessera.sw.models.exported.layout import MOVES
from tessera.sw.models.exported.nodes import changes_input, module_path, shape_of
from tessera.sw.models.exported.problems import Problem

aten = torch.ops.aten

_DECOMPOSED = frozenset(
    {
        aten.convolution.default,
        aten.native_layer_norm.default,
        aten.native_group_norm.default,
        aten._native_batch_norm_legit_no_training.default,
        aten._softmax.default,
        aten._fused_rms_norm.default,
        aten._to_copy.default,
    }
)
"""torch.export gives none of them; programs have them after run_decompositions."""

_FIRST_OPERANDS = {wrap_with_set_grad_enabled: 2, wrap_with_autocast: 5}
"""Wraps around a part of a graph: how many arguments come before its inputs; the last of them is the part."""


def tidied(program: ExportedProgram) -> list[Problem]:
    """Change a program's graph: parts in wraps become part of it, and what no result needs is left out.

    Returns
    -------
    list[Problem]
        Parts that compute in a narrower type.

    Raises
    ------
    ValueError
        The program was decomposed.
    """
    found = sorted({str(node.target) for node in program.graph.nodes if node.target in _DECOMPOSED})
    if found:
        names = ", ".join(name.removesuffix(".default") for name in found)
        raise ValueError(
            f"the program was decomposed: it has {names}; give what torch.export.export makes, without "
            "run_decompositions()"
        )
    problems = _inline(program.graph_module)
    _leave_out_dead(program.graph)
    return problems


def unused(program: ExportedProgram) -> list[str]:
    """Parameters that no node of a tidied graph takes, under any of their names."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    parameters = program.graph_signature.inputs_to_parameters
    used = {_identity(program, name) for node, name in parameters.items() if nodes[node].users}
    return [name for name in parameters.values() if _identity(program, name) not in used]


def _identity(program: ExportedProgram, name: str) -> tuple[Any, ...]:
    """Equal for the names of one parameter."""
    values: Tensor = program.state_dict[name]
    return values.data_ptr(), values.shape, values.stride()


def _inline(module: fx.GraphModule) -> list[Problem]:
    """Replace each wrap by the nodes in it."""
    problems, graph = [], module.graph
    for node in [one for one in graph.nodes if one.target in _FIRST_OPERANDS]:
        first = _FIRST_OPERANDS[node.target]
        inner: Any = getattr(module, node.args[first - 1].target)
        if node.target is wrap_with_autocast:
            problems += _narrowed(inner, *node.args[:3])
        problems += _inline(inner)
        inputs = [one for one in inner.graph.nodes if one.op == "placeholder"]
        with graph.inserting_before(node):
            made: Any = graph.graph_copy(inner.graph, dict(zip(inputs, node.args[first:], strict=True)))
        for part in list(node.users):  # each takes one of the results
            part.replace_all_uses_with(made[part.args[1]])
            graph.erase_node(part)
        graph.erase_node(node)
    return problems


def _narrowed(inner: fx.GraphModule, device: str, dtype: torch.dtype | None, enabled: bool) -> list[Problem]:
    """The problem that a part under torch.autocast computes in a narrower type, if it does."""
    if device != "cpu" or not enabled or dtype == torch.float32:
        return []
    node = next(one for one in inner.graph.nodes if one.op == "call_function")
    kind = str(dtype).removeprefix("torch.") if dtype is not None else "a narrower type"
    why = f"computes in {kind} from here on; the nearest is float32: leave torch.autocast out"
    return [Problem(module_path(node), "torch.autocast", shape_of(node), why)]


def _leave_out_dead(graph: fx.Graph) -> None:
    """Erase nodes that no result depends on."""
    needed: set[fx.Node] = set()
    _need(needed, next(node for node in graph.nodes if node.op == "output"))
    changes = [node for node in graph.nodes if changes_input(node)]
    while more := [node for node in changes if node not in needed and _base(node) in needed]:
        for node in more:
            _need(needed, node)
    for node in reversed(list(graph.nodes)):
        if node not in needed and node.op != "placeholder":
            graph.erase_node(node)


def _need(needed: set[fx.Node], node: fx.Node) -> None:
    """Add a node, and all that it depends on."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one not in needed:
            needed.add(one)
            waiting += one.all_input_nodes


def _base(node: fx.Node) -> Any:
    """The tensor that a node changes in place, perhaps through views of it."""
    found: Any = node.args[0]
    while isinstance(found, fx.Node) and found.target in MOVES:
        found = found.args[0]
    return found
