"""Progress of a running simulation, from the file that its test bench writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.progress import Progress, silent
from program.program import Program

_POLL_SECONDS = 0.2


@contextmanager
def followed(path: Path, program: Program, tasks: Sequence[int], on_progress: Progress) -> Iterator[None]:
    """Report the stage ``simulate`` while the block runs.

    Parameters
    ----------
    path:
        File with a JSON line every few thousand cycles: ``frame``, ``cycle``, ``command``, and ``seconds`` since the
        frame's start.
    program:
        What is simulated.
    tasks:
        Task of each frame.
    on_progress:
        Callback; the fraction is of all ideal cycles, by the commands that are finished.
    """
    if on_progress is silent:
        yield
        return
    stop = threading.Event()
    whole = [_ideal_cycles(program, task) for task in tasks]

    def tell(frame: int, cycle: int, command: int, seconds: float) -> None:
        task, commands = tasks[frame], program.commands
        done = sum(whole[:frame]) + _ideal_cycles(program, task, command)
        name = commands[min(command, len(commands) - 1)].name
        speed = cycle / max(seconds, 1e-9)
        detail = f"{program.model.tasks[task].name} {name}, {speed / 1000:,.0f} kcycles/s"
        on_progress("simulate", done / max(1, sum(whole)), detail)

    def follow() -> None:
        position = 0
        while not stop.wait(_POLL_SECONDS):
            for after, line in _lines(path, position):
                position = after
                tell(**line)

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


def _lines(path: Path, position: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole lines of the file from a position on, each with the position after it."""
    if not path.is_file():
        return
    with path.open() as file:
        file.seek(position)
        for line in iter(file.readline, ""):
            if not line.endswith("\n"):
                return  # half written
            position += len(line)
            yield position, json.loads(line)
