"""How a fetched command looks to the decoders: Amaranth views of ``hw.isa``'s field table."""

from __future__ import annotations

from amaranth.hdl import Value, unsigned
from amaranth.lib import data

from hw import isa
from hw.isa import Opcode

DECODED_BITS = 32 * max((f.lsb + f.width + 31) // 32 for fields in isa.FIELDS.values() for f in fields)
"""Leading bits of a command that carry fields; decoders hold no more."""


def view(command: Value, opcode: Opcode) -> data.View:
    """The fields of a command of the given opcode, by name."""
    layout = data.FlexibleLayout(
        DECODED_BITS, {f.name: data.Field(unsigned(f.width), f.lsb) for f in isa.FIELDS[opcode]}
    )
    return data.View(layout, command)
