"""What a node of an exported graph says of itself."""

from __future__ import annotations

from torch import fx
from torch._ops import OpOverload


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Shape of what a node makes, or of the first of it; empty for what is no tensor."""
    found = node.meta.get("val")
    first = found[0] if isinstance(found, (list, tuple)) and found else found
    return tuple(getattr(first, "shape", ()))


def operator_of(node: fx.Node) -> str:
    """Name of a node's operator in PyTorch."""
    return str(node.target).partition(".default")[0]


def module_path(node: fx.Node) -> str:
    """Path of the module that a node is in, as attributes name it."""
    stack = node.meta.get("nn_module_stack") or {}
    return list(stack.values())[-1][0] if stack else ""


def place_of(node: fx.Node, part: str = "") -> tuple[str, str]:
    """A node's place in the network, which ends with a number, and what it is there."""
    words = [word for word in module_path(node).split(".") if word]
    last = max((index for index, word in enumerate(words) if word.isdigit()), default=-1)
    rest = [*words[last + 1 :], *([part] if part else [])]
    return ".".join(words[: last + 1]), ".".join(rest) or part or node.name


def changes_input(node: fx.Node) -> bool:
    """Whether a node's operator changes its first argument in place."""
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable
