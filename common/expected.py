"""What a function was given, and what it expected: one sentence for every value of a wrong kind."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from typing import Any

PATH = (str, os.PathLike)
"""What a path may be given as."""
MAYBE: type = type(None)
"""The kind of a value that may be left out."""

_LONGEST = 40  # characters of a value that a message repeats


class WrongKindError(TypeError, ValueError):
    """A value is of a kind that a function does not take. Both of Python's habits catch it."""


def expect(name: str, value: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Raise WrongKindError, which says what was given and what is wanted, unless ``value`` is of one of ``kinds``."""
    if not isinstance(value, kinds):
        raise WrongKindError(f"{name} is {described(value)}; expected {wanted}")


def whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number, also one of NumPy's, as Python's int.

    Raises
    ------
    WrongKindError
        For a text, a float, or True.
    ValueError
        For less than ``least``.
    """
    wanted = "a whole number" + ("" if least is None else f" of at least {least}")
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise WrongKindError(f"{name} is {described(value)}; expected {wanted}")
    try:
        number = operator.index(value)
    except TypeError as error:  # an array has the method, and uses it for one element only
        raise WrongKindError(f"{name} is {described(value)}; expected {wanted}") from error
    if least is not None and number < least:
        raise ValueError(f"{name} is {number}; expected {wanted}")
    return number


def several(name: str, values: Any, wanted: str) -> tuple[Any, ...]:
    """The members of a list or the like; WrongKindError for a single value, such as a text."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise WrongKindError(f"{name} is {described(values)}; expected a list of {wanted}")
    return tuple(values)


def described(value: object) -> str:
    """A value in words: its kind, and itself if that is short."""
    if value is None or isinstance(value, bool):
        return str(value)
    shown = repr(value)
    if len(shown) > _LONGEST or "\n" in shown or shown.startswith("<"):
        shown = ""
    if isinstance(value, str):
        return f"the text {shown or repr(value[:_LONGEST])}"
    kind = type(value).__name__
    return f"{shown}, of the type {kind}" if shown else f"of the type {kind}"
