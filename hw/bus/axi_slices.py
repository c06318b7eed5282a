"""Registers in every channel between an AXI4 master and its memory. Use them where the two stand far apart."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import connect

from tessera.hw.blocks.register_slice import RegisterSlice


def connect_sliced_read(m: Module, name: str, master: wiring.PureInterface, memory: wiring.PureInterface) -> None:
    """Connect ``Axi4Read`` with a :class:`RegisterSlice` in each channel, which costs one cycle each way.

    Parameters
    ----------
    name:
        Prefix of the slices' submodules, which are ``NAME_CHANNEL``.
    master, memory:
        Ports as the owner of both units sees them.
    """
    _slice(m, f"{name}_ar", master.ar, memory.ar)
    _slice(m, f"{name}_r", memory.r, master.r)


def connect_sliced_write(m: Module, name: str, master: wiring.PureInterface, memory: wiring.PureInterface) -> None:
    """Do the same with ``Axi4Write``."""
    _slice(m, f"{name}_aw", master.aw, memory.aw)
    _slice(m, f"{name}_w", master.w, memory.w)
    _slice(m, f"{name}_b", memory.b, master.b)


def _slice(m: Module, name: str, source: stream.Interface, target: stream.Interface) -> None:
    m.submodules[name] = places = RegisterSlice(source.payload.shape())
    connect(m, source, places.source)
    connect(m, places.target, target)
