"""Loading a board: openFPGALoader does it, here is what to call it with and what its failures mean."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tessera.common.tools import ToolError
from tessera.hw.boards.board import board as find_board

LOADER = "openFPGALoader"
"""The program; the environment variable OPENFPGALOADER names another."""


def loader_command(board: str, out: Path, *, volatile: bool) -> list[str]:
    """What loads the bitstream of ``OUT/BOARD``.

    Raises
    ------
    ValueError
        Unknown board, or no bitstream.
    """
    target = find_board(board)
    bit = out / board / f"{board}.bit"
    if not bit.is_file():
        raise ValueError(f"no bitstream at {bit}; make one with `make bitstream BOARD={board}`")
    where = () if volatile else ("--write-flash",)
    return [os.environ.get("OPENFPGALOADER", LOADER), *target.loader, *where, str(bit)]


def flash(command: Sequence[str]) -> None:
    """Run the loader; its own words go to the terminal.

    Raises
    ------
    ToolError
        It is not installed, or it failed: mostly because there is no board, or no right to use it.
    """
    if shutil.which(command[0]) is None:
        raise ToolError(
            f"{command[0]} is not on PATH: it loads the board. Install it (Debian: apt-get install openfpgaloader; "
            "others: https://trabucayre.github.io/openFPGALoader) or point OPENFPGALOADER at it, or run the command "
            "above on the computer that the board is connected to"
        )
    status = subprocess.run(command).returncode
    if status:
        raise ToolError(
            f"{command[0]} failed with status {status}; its message is above. Is the board powered, connected by the "
            "USB port of its programmer, and may you use it? On Linux that takes a udev rule, which openFPGALoader "
            "brings (99-openfpgaloader.rules), or root"
        )
