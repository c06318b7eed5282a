"""Which tensors of a network are maps (rows, columns, channels), although the operators write them as rows of channels.

Functions and sums take a map's positions one after another, between two reshapes that only name them.
"""

from __future__ import annotations

from math import prod

from tessera.golden.network.network import Network
from tessera.golden.network.operators import Operator, Reshape, Shape

_POINTWISE = frozenset({"activate", "add", "multiply", "scale"})
_ROWWISE = _POINTWISE | {"linear", "normalise"}


def map_shapes(network: Network) -> dict[str, Shape]:
    """Shapes as maps by name of the tensor: what lies between maps, and what functions and sums make of maps."""
    before, after = _from_maps(network), _to_maps(network)
    found: dict[str, Shape] = {}
    for operator in network.operators:
        name, shape = operator.name, network.shapes[operator.name]
        if len(shape) == 3:
            found[name] = shape
        elif name in before and (before[name] == after.get(name) or _of_maps(operator, found)):
            found[name] = (*before[name], shape[-1])
    return found


def _of_maps(operator: Operator, found: dict[str, Shape]) -> bool:
    pointwise = operator.tag in _POINTWISE and all(source in found for source in operator.sources)
    return pointwise or isinstance(operator, Reshape)


def _from_maps(network: Network) -> dict[str, Shape]:
    """Rows and columns of tensors that are made of maps, position by position."""
    known: dict[str, Shape] = {}
    for operator in network.operators:
        shape = network.shapes[operator.name]
        sizes = {known.get(source) for source in operator.sources}
        if len(shape) == 3:
            known[operator.name] = shape[:2]
        elif isinstance(operator, Reshape) or operator.tag in _ROWWISE:
            size = sizes.pop() if len(sizes) == 1 else None
            if size is not None and prod(size) == shape[0]:
                known[operator.name] = size
    return known


def _to_maps(network: Network) -> dict[str, Shape]:
    """Rows and columns of tensors of which maps are made, position by position."""
    known: dict[str, Shape] = {}
    for operator in reversed(network.operators):
        shape = network.shapes[operator.name]
        size = shape[:2] if len(shape) == 3 else known.get(operator.name)
        if size is not None and (isinstance(operator, Reshape) or operator.tag in _ROWWISE):
            for source in operator.sources:
                if network.shapes[source][0] == prod(size):
                    known.setdefault(source, size)
    return known
