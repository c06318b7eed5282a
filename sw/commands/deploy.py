"""``tessera deploy``: a model on a board, compared with the golden model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import VERDICT_FAILED, Display, console, reported, table, tell, tell_notices, verdict

if TYPE_CHECKING:
    from tessera.sw.driver.deploy import Deployed
    from tessera.sw.run.prepare import Prepared


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """Options of the way to the board."""

    port: Annotated[
        str, typer.Option(help="Serial port of the board, such as /dev/ttyUSB0; or 'simulated', which needs no board.")
    ]
    baud: Annotated[
        int | None,
        typer.Option(min=1, max=100_000_000, help="Bits a second that the bitstream was built for. [3000000]"),
    ] = None


@reported
@options.with_groups
def command(
    link: LinkOptions,
    pictures: options.PictureOptions,
    model: options.Model = "nano",
    routing: options.Routing = None,
    calibration_images: options.CalibrationImages = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Machine to compile for. [what the board says that it is; tiny if simulated]"),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read program and weights back after loading, to check the memory too.")
    ] = False,
    out: options.Out = Path("build/deploy"),
) -> None:
    """Load a model into a board, run pictures on it and compare the results with the golden model, bit by bit.

    The board must hold a bitstream of Tessera. Only outputs can be compared here; if one differs, `tessera run` finds
    the tensor. Writes deploy.json and PNGs into --out. Exit code 0 if everything is bit-exact, 1 if not or if the
    machine halted, 2 if the board cannot be used or for another mistake.

    Examples
    --------
      tessera deploy --port /dev/ttyUSB0

      tessera deploy --port /dev/ttyUSB0 --model nano --task depth --image street.jpg --out build/street

      tessera deploy --port /dev/ttyUSB0 --baud 1000000 --frames 10 --verify

      tessera deploy --port simulated --model nano
    """
    from tessera.common.files import check_folder
    from tessera.sw.driver import deploy
    from tessera.sw.run.prepare import prepare
    from tessera.sw.run.target import Target

    check_folder(out, "deploy.json")
    simulated, choice = link.port == deploy.SIMULATED, pictures.choice()
    why = "is for a board; the simulated one has no such rate: leave it out"
    options.only_with(not simulated, why, {"--baud": link.baud})

    def ready(preset: str) -> Prepared:
        target = Target(model=model, preset=preset, routing=routing, calibration_images=calibration_images)
        prepared = prepare(target, task=pictures.task, pictures=choice, on_progress=display)
        names = ("input", *(task.name for task in prepared.program.model.tasks))
        options.check_kept(pictures.image, [out / f"{name}.png" for name in names])
        return prepared

    with Display() as display:
        # Before a simulator is built, which takes minutes.
        first = ready(preset or deploy.SIMULATED_PRESET) if simulated else None
        with deploy.opened(link.port, link.baud or deploy.BAUD, preset, display) as device:
            prepared = first or ready(deploy.preset_of(device, preset))
            device.check(prepared.program)
            tasks = prepared.task_indices(pictures.task)
            shown = choice.load(prepared.program.model)
            result = deploy.deploy_pictures(
                prepared, shown, tasks, device, verify=verify, port=link.port, on_progress=display
            )
    _summarise(result)
    files = deploy.write_results(result, out)
    console.print(f"Numbers: {escape(str(files[0]))}, pictures beside it", soft_wrap=True)
    if not result.bit_exact:
        raise typer.Exit(VERDICT_FAILED)


def _summarise(result: Deployed) -> None:
    identity, data = result.identity, result.to_dict()
    clock = identity.clock_hz
    lines = {
        "board": f"{result.facts['port']}: preset {identity.preset}, build {identity.build}, {clock / 1e6:.1f} MHz",
        "loaded": f"{result.load_bytes:,} bytes in {result.load_seconds:.1f} s, "
        f"{data['load']['bytes_per_s'] / 1000:,.0f} kB/s; {result.facts['requests_resent']} requests sent again",
    }
    for name, text in lines.items():
        console.print(f"[bold]{name:<9}[/bold] {escape(text)}", soft_wrap=True)
    tell_notices(result.pictures)
    tell(result.notices, 4)
    frames = result.frames
    heads = [frame.task if len(result.pictures) == 1 else f"{frame.task}, {frame.picture}" for frame in frames]
    rows = [
        ("bit-exact", [verdict(frame.bit_exact) for frame in frames]),
        ("elements compared", [f"{frame.elements:,}" for frame in frames]),
        ("cycles", [f"{frame.counters['cycles']:,}" for frame in frames]),
        ("milliseconds at that clock", [f"{1000 * frame.counters['cycles'] / clock:,.2f}" for frame in frames]),
        ("memory bytes", [f"{frame.counters['read_bytes'] + frame.counters['write_bytes']:,}" for frame in frames]),
        ("with transfers, s", [f"{frame.seconds:.2f}" for frame in frames]),
        ("output error to float (rel. L2)", [f"{frame.prediction.relative_l2:.2%}" for frame in frames]),
    ]
    table("Results against the integer golden model", ["", *heads], [(name, *cells) for name, cells in rows])
    for frame in frames:
        if frame.first is not None:
            row, channel, expected, got = frame.first
            console.print(
                f"[bold red]picture {frame.picture}, {frame.task}:[/bold red] {frame.different:,} of "
                f"{frame.elements:,} elements differ, first in row {row}, channel {channel}: expected {expected}, got "
                f"{got}; try --verify, or tessera run on the same picture",
                soft_wrap=True,
            )
