"""Products and drivers in the statements of an elaborated component.

Statements and expressions are trees of Amaranth's own classes. They are told apart by their public properties, because
the classes themselves are not public.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from amaranth.hdl import Const, Signal, Value

Node = tuple[Any, bool]
"""A statement or an expression, and whether it is assigned to."""


def products(statements: Mapping[str, Iterable[Any]]) -> Iterator[tuple[int, int]]:
    """Yield the operands' bits of every product in a component's statements of all domains.

    A position in an array is a product, too: index times element size. Products with a power of two are left out
    because they are shifts. Assertions are left out because synthesis removes them.
    """
    seen: set[Node] = set()
    waiting: list[Node] = [(statement, False) for of_domain in statements.values() for statement in of_domain]
    while waiting:
        node, assigned = waiting.pop()
        # What is read here and assigned to there is two things.
        if (id(node), assigned) in seen:
            continue
        seen.add((id(node), assigned))
        waiting += _parts(node, assigned)
        operands = node.operands if getattr(node, "operator", "") == "*" else ()
        if hasattr(node, "stride") and not assigned:
            operands = node.offset, Const(node.stride)
        if operands and not any(map(_is_power_of_two, operands)):
            yield _bits(*operands)


def drivers(statements: Mapping[str, Iterable[Any]]) -> dict[int, Value]:
    """Return what drives each signal that one unconditional statement drives, by the signal's ``id``."""
    return {id(node.lhs): node.rhs for node in statements.get("comb", ()) if hasattr(node, "lhs")}


def _parts(node: Any, assigned: bool) -> Iterator[Node]:
    """Yield what a statement or an expression is made of."""
    if isinstance(node, Const | Signal) or hasattr(node, "message"):
        return
    if hasattr(node, "lhs"):
        yield node.lhs, True
    for name in ("rhs", "test", "offset"):
        if hasattr(node, name):
            yield getattr(node, name), False
    if hasattr(node, "value"):
        yield node.value, assigned
    for name in ("operands", "parts"):
        for part in getattr(node, name, ()):
            yield part, assigned
    for _, inside, *_ in getattr(node, "cases", ()):
        if isinstance(inside, Value):
            yield inside, assigned
        else:
            yield from ((statement, False) for statement in inside)


def _is_power_of_two(operand: Value) -> bool:
    return isinstance(operand, Const) and operand.value.bit_count() == 1


def _bits(left: Value, right: Value) -> tuple[int, int]:
    """Bits of the operands of a product; beside a signed operand, an unsigned one needs a sign bit, too."""
    signed = left.shape().signed, right.shape().signed
    extra = [int(any(signed) and not own) for own in signed]
    return len(left) + extra[0], len(right) + extra[1]
