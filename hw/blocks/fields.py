"""Assignments to the fields of a struct, by name."""

from __future__ import annotations

from amaranth.hdl import Value, ValueLike
from amaranth.lib import data


def same_fields(target: data.View, source: data.View, *names: str) -> list[Value]:
    """Assign to fields of ``target`` the fields of the same name of ``source``.

    Parameters
    ----------
    names:
        The fields. Without names: all fields of ``target``.

    Returns
    -------
    list
        The assignments, for a domain of a module.
    """
    return [target[name].eq(source[name]) for name in names or target.shape().members]


def assign(
    target: data.View, source: data.View | None = None, /, **values: ValueLike | data.View | list
) -> list[Value]:
    """Assign to every field of ``target``.

    Parameters
    ----------
    source:
        Struct that gives the fields that are not among ``values``, by name. It may have other fields as well.
    values:
        Values of fields. A list has one value per element of an array.

    Returns
    -------
    list
        The assignments, for a domain of a module.

    Raises
    ------
    TypeError
        When a field has no value, or there is no such field.
    """
    names = target.shape().members
    offered = {} if source is None else {name: source[name] for name, _ in source.shape()}
    given = {**offered, **values}
    missing, unknown = [name for name in names if name not in given], sorted(values.keys() - names)
    if missing or unknown:
        raise TypeError(f"fields without a value: {missing}; values without a field: {unknown}")
    return [assignment for name in names for assignment in _assignments(target[name], given[name])]


def _assignments(target: Value | data.View, value: ValueLike | data.View | list) -> list[Value]:
    """The value as a whole, or that of each element of an array, which may be an array itself."""
    if isinstance(value, list):
        pairs = zip(target, value, strict=True)
        return [assignment for element, part in pairs for assignment in _assignments(element, part)]
    return [target.eq(value)]
