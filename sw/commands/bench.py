"""``tessera bench``: cycles and simulation speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sw.commands import options
from sw.commands.terminal import VERDICT_FAILED, Display, console, reported, table, verdict


@reported
def command(
    model: options.Model = "nano",
    quick: Annotated[bool, typer.Option("--quick", help="Only the preset edge, and one round of each build.")] = False,
    out: options.Out = Path("build/bench"),
) -> None:
    """Measure cycles and utilisation of every preset, and the fast simulation against cocotb's stock build.

    Writes bench.json and bench.md into --out. Exit code 1 if a frame was not bit-exact.

    Example:

      tessera bench --quick
    """
    from sw.bench import run_bench
    from sw.files import check_folder

    check_folder(out)
    with Display() as display:
        result = run_bench(out, quick, display, model=model)
    rows = [
        (
            f"{frame['preset']}, {frame['task']}",
            verdict(frame["bit_exact"]),
            f"{frame['cycles']:,}",
            f"{frame['bound_cycles']:,}",
            f"{frame['mac_utilisation']:.1%}",
        )
        for frame in result["frames"]
    ]
    columns = ["", "bit-exact", "cycles (simulated)", "ideal", "MAC utilisation (simulated)"]
    table(f"One frame of {model} a task", columns, rows)
    speed = result["simulation"]
    ratio = (
        f"{speed['fast']:,.0f} cycles/s, {speed['ratio']:.1f} x cocotb's stock build ({speed['stock']:,.0f} cycles/s)"
    )
    console.print(f"Simulation of {speed['preset']}: {ratio}", soft_wrap=True)
    console.print(f"Numbers: {out / 'bench.json'}, {out / 'bench.md'}", soft_wrap=True)
    if not all(frame["bit_exact"] for frame in result["frames"]):
        raise typer.Exit(VERDICT_FAILED)
