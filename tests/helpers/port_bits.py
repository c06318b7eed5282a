"""Inside the simulator: ports driven and read every cycle, as integers packed beforehand."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from tessera.sim.bench.packing import Fields, pack_beats, unpack_beats


@cache
def _ports() -> dict[str, dict[str, Any]]:
    return {port["name"]: port for port in json.loads(Path(os.environ["TESSERA_BENCH_PORTS"]).read_text())}


def port_bits(name: str, values: Fields) -> list[int]:
    """Pack one entry a cycle for port ``name``."""
    return pack_beats(_ports()[name]["leaves"], _ports()[name]["width"], values)


def port_values(name: str, bits: list[int]) -> Any:
    """Undo ``port_bits``."""
    return unpack_beats(_ports()[name]["leaves"], _ports()[name]["width"], bits)


@cache
def _fields(name: str) -> tuple[tuple[str, int, int], ...]:
    return tuple((leaf["path"], leaf["offset"], (1 << leaf["width"]) - 1) for leaf in _ports()[name]["leaves"])


def scalar_fields(name: str, bits: int) -> dict[str, int]:
    """One value of a port whose fields are all unsigned scalars, as integers."""
    return {path: bits >> offset & mask for path, offset, mask in _fields(name)}
