"""``tessera synth``: what the machine costs on an FPGA."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import VERDICT_FAILED, Display, console, reported


@reported
def command(
    preset: options.Preset = "ecp5-85f",
    family: Annotated[str, typer.Option(help="FPGA family: ecp5, or xcup (Zynq UltraScale+) to compare.")] = "ecp5",
    out: options.Out = Path("build/synth"),
) -> None:
    """Synthesise a preset with Yosys and count LUTs, flip-flops, multipliers and block RAMs of each module.

    Nothing is placed. For xcup these are estimates, to be put beside published tables of other accelerators: vendor
    tools pack better or worse, and the design names no block of that family. Writes PRESET.json (PRESET-xcup.json) into
    --out. Exit code 1 if the preset does not fit its device.

    Example:

      tessera synth --preset edge --family xcup
    """
    from tessera.common.files import check_folder
    from tessera.sw.fpga.measure import report_name, run_synth, synth_table

    check_folder(out, f"{report_name(preset, family)}.json")
    with Display() as display:
        report = run_synth(preset, out, family, display)
    console.print(synth_table(preset, report.cost))
    console.print(f"Numbers: {escape(str(out / report_name(preset, family)))}.json", soft_wrap=True)
    if report.cost.excess:
        for line in report.cost.excess:
            console.print(f"[bold red]does not fit:[/bold red] {escape(line)}", soft_wrap=True)
        raise typer.Exit(VERDICT_FAILED)
