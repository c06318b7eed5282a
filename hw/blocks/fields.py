"""Fields of one struct that another struct has under the same name."""

from __future__ import annotations

from amaranth.hdl import Value
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
