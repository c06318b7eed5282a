"""``tessera bitstream``: the file that a board is loaded with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import VERDICT_FAILED, Display, console, reported


@reported
def command(
    board: options.Board = "ulx3s-85f",
    preset: Annotated[str | None, typer.Option(help=f"{options.PRESETS} [the board's]")] = None,
    frequency: Annotated[float | None, typer.Option(help="Core clock in MHz, 1 to 1000. [the board's]")] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Placements to try, from different starts; the best is packed.")
    ] = 3,
    jobs: Annotated[
        int, typer.Option(min=1, max=1024, help="Placements at once; each takes a processor and some GB.")
    ] = 2,
    allow_slow: Annotated[
        bool, typer.Option("--allow-slow", help="Pack a design even if it misses its clock; it may compute nonsense.")
    ] = False,
    out: options.Out = Path("build/bitstream"),
) -> None:
    """Synthesise a board's design, place and route it, and pack the bitstream, with Yosys and nextpnr.

    The whole ulx3s-85f takes about an hour on two processors.
    Writes BOARD/BOARD.bit, BOARD/BOARD.svf and BOARD/report.json into --out. Steps are remembered by content: a call
    without changes takes seconds, and a change of the git id alone packs again but places nothing anew. Exit code 1 if
    the design does not fit or misses its clock; the report is written all the same, the bitstream is not.

    Examples
    --------
      tessera bitstream --board ulx3s-85f

      tessera bitstream --board ecpix5-85f --seeds 1
    """
    from tessera.sw.fpga.bitstream.build import REPORT, BitstreamOrder, TimingMissed, run_bitstream
    from tessera.sw.fpga.bitstream.report import tables

    if frequency is not None and not 1 <= frequency <= 1000:
        raise ValueError(f"--frequency is {frequency:g}; choose MHz from 1 to 1000, such as 80")
    order = BitstreamOrder(
        board=board,
        preset=preset,
        frequency_mhz=frequency,
        seeds=tuple(range(1, seeds + 1)),
        jobs=jobs,
        allow_slow=allow_slow,
    )
    try:
        with Display() as display:
            report = run_bitstream(order, out, on_progress=display)
    except TimingMissed as missed:
        console.print(tables(missed.report.to_dict()))
        console.print(f"[bold red]tessera:[/bold red] {escape(str(missed))}", soft_wrap=True)
        raise typer.Exit(VERDICT_FAILED) from None
    console.print(tables(report.to_dict()))
    folder = out / board
    for file in report.bitstream or ():
        console.print(f"{escape(str(folder / file.file))}: {file.bytes:,} bytes, sha256 {file.sha256}", soft_wrap=True)
    console.print(f"Report: {escape(str(folder / REPORT))}. Next: tessera flash --board {board}", soft_wrap=True)
