"""``tessera bench``: cycles, utilisation and simulation speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import VERDICT_FAILED, Display, console, reported, table, verdict


@reported
def command(
    model: Annotated[str | None, typer.Option(help="Measure only this model (a name or a checkpoint).")] = None,
    preset: Annotated[str | None, typer.Option(help=f"With --model. {options.PRESETS} [edge]")] = None,
    routing: options.Routing = None,
    calibration_images: options.CalibrationImages = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the first case, one round of each simulator.")] = False,
    out: options.Out = Path("build/bench"),
) -> None:
    """Measure cycles and utilisation of models on machines, and how fast they simulate, side by side in one run.

    Without --model: the paper's geometry in three routings, on a bus of a quarter of the width and on the board's
    preset; the trained model; a dense geometry that nothing was tuned on. Compares the fast simulation with cocotb's
    stock build and with Amaranth's simulator, and quotes published systems. Writes bench.json and bench.md into --out.
    Exit code 1 if a frame was not bit-exact. The first run builds nine simulators: half an hour on two cores.

    Examples
    --------
      tessera bench

      tessera bench --quick --model nano --preset ecp5-85f
    """
    from tessera.common.files import check_folder
    from tessera.sw.benchmark.frames import CASES, Case
    from tessera.sw.benchmark.run import run_bench

    choices = {"--preset": preset, "--routing": routing, "--calibration-images": calibration_images}
    options.only_with(model is not None, "chooses how one model is measured: name it with --model", choices)
    check_folder(out, "bench.json", "bench.md")
    cases: Sequence[Case] = CASES
    if model is not None:
        one = Case(preset=preset or "edge", model=model, routing=routing, calibration_images=calibration_images)
        _ = one.target  # says so if there is none
        cases = (one,)
    with Display() as display:
        result = run_bench(out, quick, display, cases=cases)
    rows = [
        (
            f"{frame.preset}, {frame.model}, {frame.task}"
            + (f", {frame.routing}" if frame.routing not in ("model", "none") else ""),
            verdict(frame.bit_exact),
            f"{frame.cycles:,}",
            f"{frame.over_bound:.3f}",
            f"{frame.mac_utilisation:.1%}",
            f"{frame.predicted_cycles / frame.cycles - 1:+.1%}",
        )
        for frame in result.frames
    ]
    columns = ["", "bit-exact", "cycles (simulated)", "x bound", "MAC utilisation (simulated)", "predicted"]
    table("One frame a task", columns, rows)
    speed = result.simulation
    console.print(
        f"Simulation of {speed.model} on {speed.preset}: {speed.fast:,.0f} cycles/s, {speed.ratio:.1f} x "
        f"cocotb's stock build ({speed.stock:,.0f}), {speed.ratio_amaranth:,.0f} x Amaranth's simulator "
        f"({speed.amaranth:,.0f}); PyTorch here: {result.host.milliseconds:.0f} ms a frame",
        soft_wrap=True,
    )
    console.print(f"Numbers: {escape(str(out / 'bench.json'))}, {escape(str(out / 'bench.md'))}", soft_wrap=True)
    if not result.bit_exact:
        raise typer.Exit(VERDICT_FAILED)
