"""``tessera compile``: commands and memory image of a model for a machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import Display, console, reported, table, tell


@dataclass(frozen=True, kw_only=True)
class CompileOptions(options.ModelOptions):
    """Options of a model that may be quantised already."""

    model: Annotated[str, typer.Option(help="As for run; or a file of `tessera quantize`.")] = "nano"


@reported
@options.with_groups
def command(
    given: CompileOptions,
    preset: Annotated[str | None, typer.Option(help=f"{options.PRESETS} [edge, or the board's]")] = None,
    board: Annotated[
        str | None,
        typer.Option(help="Refuse a machine that is estimated not to fit this board: see `tessera estimate`."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Program to write.")] = Path("build/program.safetensors"),
) -> None:
    """Compile a model for a machine: command stream, weights in order of use, and where every tensor lies.

    Exit code 2 with every limit and buffer listed, and a preset that would do, if the model does not fit the machine; 1
    if the machine does not fit the board.

    Examples
    --------
      tessera compile --preset ecp5-85f -o build/nano.program.safetensors

      tessera compile --model build/nano-12.safetensors --activation-width 12

      tessera compile --model m3vit-tiny --board ulx3s-85f
    """
    from tessera.hw.boards.board import board as find_board
    from tessera.sw.cycles import bound
    from tessera.sw.cycles.predict import predict
    from tessera.sw.fpga.resources.capacity import check_fits
    from tessera.sw.run.prepare import compile_and_tell

    on = find_board(board) if board else None
    chosen = given.on(preset or (on.preset if on else "edge"))
    options.check_output(out, given.model)
    if on:
        check_fits(chosen.config, on)
    with Display() as display:
        program, notices = compile_and_tell(chosen, on_progress=display)
        program.save(out)
    tell(notices)
    kinds = Counter(command.op for command in program.commands)
    table(
        f"{program.model.name} for {program.config.name}: {len(program.commands)} commands",
        ["operation", "commands", "ideal cycles"],
        [
            (op, str(count), f"{sum(c.ideal_cycles for c in program.commands if c.op == op):,}")
            for op, count in kinds.items()
        ],
    )
    names = ("program", "weights", "image", "output")
    places = [(name, getattr(program.map, name), getattr(program.map, f"{name}_bytes")) for name in names]
    table("Memory map", ["", "address", "bytes"], [(name, f"{at:#x}", f"{size:,}") for name, at, size in places])
    balanced = " for balanced experts" if program.mixtures else ""
    for index, task in enumerate(program.model.tasks):
        work = bound.total(program, index)
        predicted = predict(program, index).cycles
        console.print(
            f"{task.name}: {work.macs:,} multiply-accumulates, {work.ideal_cycles:,} ideal cycles, "
            f"{predicted:,} cycles predicted{balanced}",
            soft_wrap=True,
        )
    console.print(f"Program: {escape(str(out))}, digest {program.short_digest}", soft_wrap=True)
