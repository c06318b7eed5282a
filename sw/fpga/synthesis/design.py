"""A board's design as text: the netlist that Yosys reads, and the pins that nextpnr obeys."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.common.elaboration import refused_quietly
from tessera.hw.boards.board import Board
from tessera.hw.boards.top import BoardTop, board_platform
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.platform import Ecp5
from tessera.hw.protocol import Identity

ACCELERATOR = "top.system.accelerator"
"""Module that holds the machine's units."""
BOARD_UNITS = ("top.system.host_link", "top.system.memory")
"""What is counted on its own beside them."""

_PACKAGES = {
    "BG256": "CABGA256",
    "BG381": "CABGA381",
    "BG554": "CABGA554",
    "BG756": "CABGA756",
    "MG285": "CSFBGA285",
    "TG144": "TQFP144",
}
"""Packages as Lattice orders them, and as nextpnr calls them."""

UNSTAMPED = "unstamped"
"""Build that a design is synthesised with. Packing exchanges it (:mod:`tessera.sw.fpga.bitstream.stamp`)."""


@dataclass(frozen=True, kw_only=True)
class BoardDesign:
    """``rtlil``: Yosys' language. ``constraints``: nextpnr's, sites and clocks of the pins."""

    rtlil: str
    constraints: str


def placeholder(config: AcceleratorConfig, clock_hz: int) -> Identity:
    """What the design says that it is until it is stamped."""
    return Identity.of(config, clock_hz=clock_hz, build=UNSTAMPED)


def elaborate(board: Board, config: AcceleratorConfig, clock_hz: int) -> BoardDesign:
    """Write a board's design down.

    Raises
    ------
    ValueError
        The board cannot do that: PLL, memory or serial line at this clock, or the bus.
    """
    with refused_quietly():
        top = BoardTop(board, config, placeholder(config, clock_hz))
    files = board_platform(board, Ecp5).prepare(top, "top", emit_src=False).files
    rtlil, constraints = (
        text if isinstance(text, str) else text.decode() for text in (files["top.il"], files["top.lpf"])
    )
    return BoardDesign(rtlil=rtlil, constraints=constraints)


def device_options(board: Board) -> tuple[str, ...]:
    """Device, package and speed grade, in nextpnr's words.

    Raises
    ------
    ValueError
        nextpnr does not know such a device.
    """
    platform = board.platform
    family, _, size = platform.device.partition("-")
    families = {"LFE5U": "", "LFE5UM": "um-", "LFE5UM5G": "um5g-"}
    package = _PACKAGES.get(platform.package)
    if family not in families or package is None:
        raise ValueError(
            f"board {board.name} has a {platform.device} in {platform.package}; nextpnr knows ECP5 in "
            f"{', '.join(_PACKAGES)}"
        )
    return f"--{families[family]}{size.removesuffix('F')}k", "--package", package, "--speed", platform.speed
