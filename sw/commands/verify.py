"""``tessera verify``: many runs, one verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from sw.commands import options
from sw.commands.terminal import VERDICT_FAILED, Display, console, reported, table, verdict

if TYPE_CHECKING:
    from sw.results.outcome import RunResult


@reported
def command(
    model: options.Model = "nano",
    routing: options.Routing = None,
    preset: Annotated[list[str] | None, typer.Option(help="Machine; give it several times for several. [edge]")] = None,
    activation_width: Annotated[list[int] | None, typer.Option(help="Bits; likewise. [8]")] = None,
    task: options.Task = "all",
    image: options.Image = None,
    images: Annotated[
        int, typer.Option(min=1, help="Pictures, run back to back without a reset: --image again, or further scenes.")
    ] = 1,
    scene: Annotated[int, typer.Option(help="Number of the first held-out scene, when there is no --image.")] = 0,
    memory_latency: options.Latency = 60,
    stalls: options.Stalls = 0,
    seed: options.Seed = 1,
    netlist: Annotated[
        bool, typer.Option("--netlist", help="Run the ECP5's cells after synthesis instead of the design as written.")
    ] = False,
    out: options.Out = Path("build/verify"),
) -> None:
    """Run every combination of preset and width and compare every tensor of every frame; no report.

    With --netlist the machine is synthesised first (minutes; kept), and what runs are its look-up tables, flip-flops,
    multiplier blocks and block RAMs. Writes verify.json into --out. Exit code 0 if everything is bit-exact, 1 if
    anything is not.

    Examples
    --------
      tessera verify --preset tiny --preset ecp5-85f --images 2

      tessera verify --preset tiny --netlist

      tessera verify --activation-width 8 --activation-width 12 --activation-width 16 --stalls 60 --seed 7
    """
    from common.files import check_folder, write_json
    from sim.machine.settings import MemorySettings
    from sw.run import execute, prepare

    check_folder(out)
    memory = MemorySettings(read_latency=memory_latency, stall=stalls, seed=seed)
    combinations = [(name, width) for name in preset or ["edge"] for width in activation_width or [8]]
    for name, width in combinations:
        prepare.machine(name, width)  # complain before anything long begins
    results: list[RunResult] = []
    for name, width in combinations:
        console.print(f"[bold]{escape(name)}[/bold], {width}-bit activations", soft_wrap=True)
        with Display() as display:
            prepared = prepare.prepare(model, name, width, routing, on_progress=display)
            pictures = execute.choose_pictures(prepared, image, scene, images)
            for notice in dict.fromkeys(notice for picture in pictures for notice in picture.notices):
                console.print(f"[yellow]notice[/yellow] {escape(notice)}", soft_wrap=True)
            tasks = prepared.task_indices(task)
            cells = None
            if netlist:
                from sw.fpga.synthesis.netlist import netlist as synthesise

                cells = synthesise(prepared.config, display)
            frames = execute.execute(prepared, pictures, tasks, memory=memory, netlist=cells, on_progress=display)
            results.append(frames)
    good = all(result.bit_exact for result in results)
    write_json(
        out / "verify.json", {"bit_exact": good, "netlist": netlist, "runs": [_entry(result) for result in results]}
    )
    _show(results, "cells after synthesis" if netlist else "RTL")
    console.print(f"Numbers: {out / 'verify.json'}", soft_wrap=True)
    if not good:
        raise typer.Exit(VERDICT_FAILED)


def _entry(result: RunResult) -> dict[str, Any]:
    data = result.to_dict()
    keys = (
        "model",
        "weights",
        "routing",
        "preset",
        "program_digest",
        "activation_width",
        "residual_width",
        "git",
        "tool_versions",
        "memory",
        "pictures",
        "bit_exact",
    )
    return {**{key: data[key] for key in keys}, "frames": data["frames"]}


def _show(results: list[RunResult], what: str) -> None:
    rows, troubles = [], []
    for result in results:
        config = result.program.config
        for frame in result.frames:
            name = f"{config.name}, {config.numerics.activation_width} bits, {frame.task}, picture {frame.picture}"
            compared = (f"{frame.verdict.tensors_compared:,}", f"{frame.verdict.elements_compared:,}")
            rows.append((name, verdict(frame.bit_exact), *compared, f"{frame.result.cycles:,}"))
            troubles += [f"[bold red]{name}:[/bold red] {escape(frame.trouble)}"] if frame.trouble else []
    table(
        f"{what} against the integer golden model",
        ["", "bit-exact", "tensors", "elements", "cycles (simulated)"],
        rows,
    )
    for trouble in troubles:
        console.print(trouble, soft_wrap=True)
