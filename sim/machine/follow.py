"""Progress of a running simulation, from the file that its test bench writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tessera.common.progress import Progress, silent
from tessera.program.program import Program
from tessera.sim.machine.exchange import FramePosition

_POLL_SECONDS = 0.2


@contextmanager
def followed(path: Path, programs: Sequence[Program], tasks: Sequence[int], on_progress: Progress) -> Iterator[None]:
    """Report the stage ``simulate`` while the block runs.

    Parameters
    ----------
    path:
        File with a :class:`~tessera.sim.machine.exchange.FramePosition` as a JSON line every few thousand cycles.
    programs:
        Program of each frame.
    tasks:
        Task of each frame.
    on_progress:
        Callback. The fraction is the finished commands' share of all ideal cycles.
    """
    if on_progress is silent:
        yield
        return
    stop = threading.Event()
    whole = [_ideal_cycles(program, task) for program, task in zip(programs, tasks, strict=True)]

    def tell(at: FramePosition) -> None:
        task, program = tasks[at.frame], programs[at.frame]
        commands = program.commands
        done = sum(whole[: at.frame]) + _ideal_cycles(program, task, at.command)
        name = commands[min(at.command, len(commands) - 1)].name
        speed = at.cycle / max(at.seconds, 1e-9)
        detail = f"{program.model.tasks[task].name} {name}, {speed / 1000:,.0f} kcycles/s"
        on_progress("simulate", done / max(1, sum(whole)), detail)

    def follow() -> None:
        position = 0
        while not stop.wait(_POLL_SECONDS):
            for after, at in _positions(path, position):
                position = after
                tell(at)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _ideal_cycles(program: Program, task: int, commands: int | None = None) -> int:
    """Ideal cycles of a task's commands, or of those among the first ``commands`` of the program."""
    return sum(command.ideal_cycles for command in program.commands[:commands] if command.runs(task))


def _positions(path: Path, start: int) -> Iterator[tuple[int, FramePosition]]:
    """Yield what the file's whole lines say from byte ``start`` on, each with the byte after it."""
    if not path.is_file():
        return
    with path.open() as file:
        file.seek(start)
        for line in iter(file.readline, ""):
            if not line.endswith("\n"):
                return  # half written
            start += len(line)
            yield start, FramePosition(**json.loads(line))
