"""What travels inside the control registers, and to them: registers, counters, the monitor's report."""

from __future__ import annotations

from amaranth.hdl import ShapeLike, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from tessera.hw.isa import COMMAND_INDEX_WIDTH, CycleCause, StallSource
from tessera.hw.register_map import REGISTERS, SHARE_BITS, Access


def _registers(access: Access) -> dict[str, ShapeLike]:
    return {name: register.width for name, register in REGISTERS.items() if register.access == access}


def register_settings_layout() -> data.StructLayout:
    """What the host has written: one field per read-write register of ``hw/register_map.py``, by its name and width."""
    return data.StructLayout(_registers(Access.READ_WRITE))


def shown_registers_layout() -> data.StructLayout:
    """What the host reads: one field per read-only register of ``tessera.hw.register_map``, by its name and width."""
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


class CycleReport(wiring.Signature):
    """What the monitor finds of each cycle, from its side.

    Members
    -------
    cause: Out(3)
        What the cycle before this one is spent on, a ``CycleCause``.
    owner: Out(16)
        Index of the command that this cycle belongs to; see :class:`tessera.hw.control.stamps.CommandStamps`.
    progress: Out(1)
        The machine gets on: there was an event, two cycles ago.
    stalled_on: Out(3)
        The ``StallSource`` of the cycle before this one: what the watchdog names when nothing moves.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "cause": Out(unsigned(max(CycleCause).bit_length())),
                "owner": Out(COMMAND_INDEX_WIDTH),
                "progress": Out(1),
                "stalled_on": Out(unsigned(max(StallSource).bit_length())),
            }
        )


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
