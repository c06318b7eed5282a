"""An activation function's table as the port ``table_write`` takes it."""

from __future__ import annotations

import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.hw.tables import ActivationTable
from tests.helpers.port_bits import port_bits


def table_lines(table: ActivationTable, config: AcceleratorConfig) -> list[int]:
    """Bits of the payload for each chunk of the table, in order; what is behind its last entry is not 0."""
    per_line = config.chunk_bytes // 4
    given = table.entries()
    given += [(1 << 31) - 1] * (-len(given) % per_line)
    lines = np.array(given).reshape(-1, per_line)
    entries = {"entries.base": lines & 0x3FFFF, "entries.slope": lines >> 18 & 0x1FFF}
    fields = {"address": np.arange(len(lines)), **entries}
    return port_bits("table_write__payload", fields)
