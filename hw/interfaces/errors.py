"""How a unit reports an error."""

from __future__ import annotations

from amaranth.lib import data


def error_record_layout() -> data.StructLayout:
    """Why the machine halts (an ``hw.isa.ErrorCode``) and which address it concerns."""
    return data.StructLayout({"code": 8, "address": 32})
