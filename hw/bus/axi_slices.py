"""Registers in every channel between an AXI4 master and its memory, for those that stand far from each other."""

from __future__ import annotations

from amaranth.hdl import Module, Value
from amaranth.lib import data, wiring

from hw.blocks.register_slice import RegisterSlice

_CHANNELS = {"ar": True, "r": False, "aw": True, "w": True, "b": False}
"""Whether each goes from the master to the memory."""
_FIELDS = ("addr", "len", "size", "burst", "data", "strb", "last", "resp")


def connect_sliced(m: Module, name: str, master: wiring.PureInterface, memory: wiring.PureInterface) -> None:
    """Connect ``Axi4Read`` or ``Axi4Write`` with a :class:`RegisterSlice` in each channel: a cycle more each way.

    Parameters
    ----------
    name:
        The slices' submodules are ``NAME_CHANNEL``.
    master, memory:
        A master's port as its owner sees it from outside, and the memory's.
    """
    members = master.signature.members
    for channel, forward in _CHANNELS.items():
        fields = [f"{channel}{field}" for field in _FIELDS if f"{channel}{field}" in members]
        if not fields:
            continue
        source, target = (master, memory) if forward else (memory, master)
        layout = data.StructLayout({field: Value.cast(getattr(master, field)).shape() for field in fields})
        m.submodules[f"{name}_{channel}"] = slice_ = RegisterSlice(layout)
        m.d.comb += [
            *(slice_.source.payload[field].eq(getattr(source, field)) for field in fields),
            slice_.source.valid.eq(getattr(source, f"{channel}valid")),
            getattr(source, f"{channel}ready").eq(slice_.source.ready),
            *(getattr(target, field).eq(slice_.target.payload[field]) for field in fields),
            getattr(target, f"{channel}valid").eq(slice_.target.valid),
            slice_.target.ready.eq(getattr(target, f"{channel}ready")),
        ]
