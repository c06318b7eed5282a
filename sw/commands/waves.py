"""``tessera waves``: what single units do, signal by signal."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import Display, console, reported, tell_notices


@reported
@options.with_groups
def command(
    target: options.TargetOptions,
    unit: Annotated[
        list[str], typer.Option(help="Unit to record, such as softmax or engine.issuer; several times for several.")
    ],
    around: Annotated[
        str | None,
        typer.Option("--command", help="Command to record, such as layer03.attention. [the unit's first one]"),
    ] = None,
    window: Annotated[str | None, typer.Option(help="Cycles of the frame instead, such as 1000:1500.")] = None,
    task: Annotated[str | None, typer.Option(help="Task of the model. [its first one]")] = None,
    image: options.Image = None,
    scene: options.Scene = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the waves; files in it are replaced.")] = Path(
        "build/waves"
    ),
) -> None:
    """Record the waves of some units around a command, or in a window of cycles.

    A frame runs in the fast build, which tells when each command ran, and again in the debug build up to the end of the
    window. Writes waves.vcd with signals that have names and structures field by field, waves.gtkw for GTKWave, and
    waves.sucl for Surfer into --out. `tessera run` lists the commands of a model in its report.

    Examples
    --------
      tessera waves --unit softmax --preset tiny --model pico

      tessera waves --unit softmax --unit engine --command layer03.attention --preset tiny -o build/attention

      tessera waves --unit read_master --window 0:2000 --preset tiny --model pico
    """
    from tessera.common.files import check_folder
    from tessera.sim.machine.frames import Frame
    from tessera.sw.run.prepare import prepare
    from tessera.sw.run.waves.record import WaveRequest, find_units, record_waves

    check_folder(out)
    request = WaveRequest(units=tuple(unit), command=around, window=_window(window))
    chosen = target.target()
    choice = options.chosen_pictures(image, scene)
    find_units(chosen.config, request.units)
    with Display() as display:
        prepared = prepare(chosen, task=task or "all", pictures=choice, on_progress=display)
    model = prepared.program.model
    index = 0 if task is None else model.task_index(task)
    (picture,) = choice.load(model)
    tell_notices([picture])
    with Display() as display:
        frame = Frame(task=index, image=picture.image)
        recording = record_waves(prepared.program, frame, request, out, on_progress=display)
    if around is None and window is None:
        console.print(
            f"[yellow]notice[/yellow]    no --command was given: this is the first one in which {unit[0]} works"
        )
    size = recording.files[0].stat().st_size
    console.print(
        f"{', '.join(unit)} around {recording.around} of task {model.tasks[index].name}: cycles {recording.first:,} to "
        f"{recording.last:,}, {recording.signals:,} signals, {size / 1e6:.1f} MB in {escape(str(recording.files[0]))}",
        soft_wrap=True,
    )
    folder = escape(shlex.quote(str(out)))
    console.print(f"Look: cd {folder} && gtkwave waves.gtkw", soft_wrap=True)
    console.print(f"or:   cd {folder} && surfer waves.vcd --command-file waves.sucl", soft_wrap=True)


def _window(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--window is '{text}'; give a first and a last cycle, such as 1000:1500") from None
    return first, last
