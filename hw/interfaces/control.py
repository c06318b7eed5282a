"""What travels inside the control registers, and to them: registers, counters."""

from __future__ import annotations

from amaranth.hdl import ShapeLike
from amaranth.lib import data

from hw.isa import CycleCause
from hw.register_map import REGISTERS, SHARE_BITS, Access


def _registers(access: Access) -> dict[str, ShapeLike]:
    return {name: register.width for name, register in REGISTERS.items() if register.access == access}


def register_settings_layout() -> data.StructLayout:
    """What the host has written: one field per read-write register of ``hw.register_map``, by its name and width."""
    return data.StructLayout(_registers(Access.READ_WRITE))


def shown_registers_layout() -> data.StructLayout:
    """What the host reads: one field per read-only register of ``hw.register_map``, by its name and width."""
    return data.StructLayout(_registers(Access.READ_ONLY))


def written_registers_layout() -> data.StructLayout:
    """Which write-only register the host writes in this cycle: one bit per register, by its name."""
    return data.StructLayout(dict.fromkeys(_registers(Access.WRITE_ONLY), 1))


def beat_events_layout() -> data.StructLayout:
    """Beats transferred in a cycle.

    Members
    -------
    read:
        A beat came from memory.
    write:
        A beat went to memory.
    """
    return data.StructLayout({"read": 1, "write": 1})


def cause_totals_layout() -> data.ArrayLayout:
    """Cycles of a run by ``CycleCause``, 32 bits each, wrapping."""
    return data.ArrayLayout(32, len(CycleCause))


def cause_shares_layout() -> data.ArrayLayout:
    """Cycles of a run by ``CycleCause``, modulo 2**SHARE_BITS."""
    return data.ArrayLayout(SHARE_BITS, len(CycleCause))


def run_counts_layout() -> data.StructLayout:
    """Counters of a run, 32 bits each, wrapping.

    Members
    -------
    cycles:
        Cycles since the start.
    causes:
        The same cycles by cause; :func:`cause_totals_layout`.
    read_bytes, write_bytes:
        Bytes from memory, and bytes to memory.
    """
    return data.StructLayout({"cycles": 32, "causes": cause_totals_layout(), "read_bytes": 32, "write_bytes": 32})
