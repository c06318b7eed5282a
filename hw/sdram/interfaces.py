"""Bundles between bridge, controller and pads."""

from __future__ import annotations


class Command:
    """Commands as {we_n, cas_n, ras_n}."""

    NOTHING = 0b111
    ACTIVE = 0b110
    READ = 0b101
    WRITE = 0b001
    PRECHARGE = 0b010
    REFRESH = 0b100
    LOAD_MODE = 0b000


ALL_BANKS = 1 << 10
"""Address bit of PRECHARGE that closes all banks."""
