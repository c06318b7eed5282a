"""``tessera verify``: many runs, one verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import VERDICT_FAILED, Display, console, reported, table, tell, tell_notices, verdict

if TYPE_CHECKING:
    from tessera.sw.data.pictures import PictureChoice
    from tessera.sw.results.outcome import RunResult
    from tessera.sw.run.target import Target


@dataclass(frozen=True, kw_only=True)
class TargetsOptions:
    """Options of a model and several machines."""

    model: options.Model = "nano"
    routing: options.Routing = None
    preset: Annotated[list[str] | None, typer.Option(help="Machine; give it several times for several. [edge]")] = None
    activation_width: Annotated[list[int] | None, typer.Option(help="Bits; likewise. [8]")] = None
    calibration_images: options.CalibrationImages = None

    def targets(self) -> list[Target]:
        """Every combination of preset and width; ValueError for what there is not."""
        from tessera.sw.run.target import Target

        return [
            Target(
                model=self.model,
                routing=self.routing,
                preset=preset,
                activation_width=width,
                calibration_images=self.calibration_images,
            )
            for preset in self.preset or ["edge"]
            for width in self.activation_width or [8]
        ]


@dataclass(frozen=True, kw_only=True)
class ImagesOptions:
    """Options of pictures, and of the tasks that run on them."""

    task: options.Task = "all"
    image: options.Image = None
    images: Annotated[
        int,
        typer.Option(
            min=1,
            max=options.MOST_PICTURES,
            help="Pictures, run back to back without a reset: --image again, or further scenes.",
        ),
    ] = 1
    scene: options.Scene = None

    def choice(self) -> PictureChoice:
        """The pictures that the options choose; ValueError for some that cannot be."""
        return options.chosen_pictures(self.image, self.scene, self.images)


@reported
@options.with_groups
def command(
    targets: TargetsOptions,
    pictures: ImagesOptions,
    memory: options.DramOptions,
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
    from tessera.common.files import check_folder
    from tessera.common.schemas.kinds import VERIFY
    from tessera.common.stamped import write_document
    from tessera.sw.run import execute
    from tessera.sw.run.prepare import prepare

    check_folder(out, "verify.json")
    settings, choice = memory.settings(), pictures.choice()
    results: list[RunResult] = []
    chosen = targets.targets()
    with Display() as display:  # all of them first: what one refuses should not cost the runs of those before it
        ready = [prepare(target, task=pictures.task, pictures=choice, on_progress=display) for target in chosen]
    for target, prepared in zip(chosen, ready, strict=True):
        console.print(
            f"[bold]{escape(target.config.name)}[/bold], {target.activation_width}-bit activations", soft_wrap=True
        )
        with Display() as display:
            shown = choice.load(prepared.program.model)
            tell_notices(shown, 1)
            tell(prepared.notices)
            tasks = prepared.task_indices(pictures.task)
            cells = None
            if netlist:
                from tessera.sw.fpga.synthesis.netlist import netlist as synthesise

                cells = synthesise(prepared.config, display)
            results.append(execute.execute(prepared, shown, tasks, memory=settings, netlist=cells, on_progress=display))
    good = all(result.bit_exact for result in results)
    runs = [_entry(result) for result in results]
    write_document(out / "verify.json", VERIFY, {"bit_exact": good, "netlist": netlist, "runs": runs})
    _show(results, "cells after synthesis" if netlist else "RTL")
    console.print(f"Numbers: {escape(str(out / 'verify.json'))}", soft_wrap=True)
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
        "calibration_pictures",
        "saturation",
        "notices",
        "memory",
        "pictures",
        "bit_exact",
    )
    return {**{key: data[key] for key in keys}, "frames": data["frames"]}


def _show(results: list[RunResult], what: str) -> None:
    from tessera.sw.results.saturated import saturated_frames

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
    tell(saturated_frames([frame.saturated for result in results for frame in result.frames]))
    for trouble in troubles:
        console.print(trouble, soft_wrap=True)
