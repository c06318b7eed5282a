"""``tessera estimate``: what a configuration will take of an FPGA, in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import VERDICT_FAILED, console, reported


@reported
def command(
    preset: Annotated[str | None, typer.Option(help=f"{options.PRESETS} [the board's, or ecp5-85f]")] = None,
    board: Annotated[
        str | None, typer.Option(help="With all that this board has beside the machine: ulx3s-85f or ecpix5-85f.")
    ] = None,
    activation_width: options.Width = 8,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Another size than the preset's, such as lanes=16; repeat."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the numbers into this file.")] = None,
) -> None:
    """Estimate look-up tables, flip-flops, multipliers, block RAMs and clock of a machine on an ECP5.

    The device is the board's, or an LFE5U-85F.

    Nothing is synthesised. Multipliers and block RAMs are exact; the rest is fitted to configurations that were
    synthesised, and its error on others is shown. Fields for --set are those of AcceleratorConfig in hw/config.py.
    Exit code 1 if it cannot fit, whatever the error.

    Examples
    --------
      tessera estimate --board ulx3s-85f

      tessera estimate --preset tiny --set lanes=8 --set memory_bytes=8 --json build/estimate.json
    """
    from tessera.common.files import check_file
    from tessera.common.schemas.kinds import ESTIMATE
    from tessera.common.stamped import write_document
    from tessera.hw.boards.board import board as find_board
    from tessera.hw.presets import preset as find_preset
    from tessera.sw.fpga.resources.capacity import shortage
    from tessera.sw.fpga.resources.changes import with_changes
    from tessera.sw.fpga.resources.estimate import estimate
    from tessera.sw.fpga.resources.report import estimate_table, remarks

    if json:
        check_file(json)
    target = find_board(board) if board else None
    base = find_preset(preset or (target.preset if target else "ecp5-85f"))
    config = with_changes(base.with_activation_width(activation_width), changes or [])
    found = estimate(config, target)
    if json:
        write_document(json, ESTIMATE, found.to_dict())
    console.print(estimate_table(found))
    for remark in remarks(found):
        console.print(escape(remark), soft_wrap=True)
    if json:
        console.print(f"Numbers: {escape(str(json))}", soft_wrap=True)
    if found.too_many:
        console.print(f"[bold red]tessera:[/bold red] {escape(shortage(found, target))}", soft_wrap=True)
        raise typer.Exit(VERDICT_FAILED)
