"""``tessera flash``: a bitstream onto a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tessera.sw.commands import options
from tessera.sw.commands.terminal import console, reported


@reported
def command(
    board: options.Board = "ulx3s-85f",
    volatile: Annotated[
        bool,
        typer.Option("--volatile", help="Load the FPGA only, until power is off; its flash memory stays as it is."),
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder that `tessera bitstream` wrote into.")] = Path("build/bitstream"),
) -> None:
    """Write a board's bitstream into its flash memory with openFPGALoader; the command is printed first.

    Examples
    --------
      tessera flash --board ulx3s-85f

      tessera flash --board ulx3s-85f --volatile
    """
    from tessera.sw.fpga.bitstream.flash import flash, loader_command

    arguments = loader_command(board, out, volatile=volatile)
    console.print(" ".join(arguments), soft_wrap=True, highlight=False)
    flash(arguments)
    console.print("Done. Next: tessera deploy --port /dev/ttyUSB0 (the port may have another name)", soft_wrap=True)
