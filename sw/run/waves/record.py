"""Records the waves of some units around a command or in a window of a frame."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tessera.common.files import folder_aside
from tessera.common.progress import Progress, silent
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Opcode
from tessera.program.commands import Command
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame, SimulatedFrame
from tessera.sim.machine.hierarchy import UnitModule, unit_modules
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings, SimulationOptions, WaveWindow
from tessera.sim.machine.simulator import export_machine, memory_bytes
from tessera.sim.machine.wave_filter import wave_signals
from tessera.sw.run.profile import machine_simulator
from tessera.sw.run.waves.save_files import VCD, gtkwave_save, surfer_commands, value_names, wave_groups

BEFORE, AFTER = 20, 20
"""Cycles around a command."""
WORKS_IN = {
    "softmax": Opcode.ATTENTION,
    "layernorm": Opcode.LAYERNORM,
    "gate": Opcode.GATE,
    "image": Opcode.LOAD_IMAGE,
    "store": Opcode.STORE,
}
"""Operation in which a unit works; the others work in LINEAR."""


@dataclass(frozen=True, kw_only=True)
class WaveRequest:
    """What to record.

    Parameters
    ----------
    units:
        Names of units, such as ``softmax`` or ``engine.issuer``.
    command:
        Name of a command, such as ``layer03.attention``, or the beginning of the names of several; None for the first
        one in which the first unit works.
    window:
        First and last cycle of the frame, in place of a command.
    """

    units: tuple[str, ...]
    command: str | None = None
    window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not self.units:
            raise ValueError("no unit is named; give at least one, such as softmax")
        if self.command is not None and self.window is not None:
            raise ValueError("both a command and a window are given; leave one of them out")
        if self.window is not None and not 0 <= self.window[0] < self.window[1]:
            first, last = self.window
            raise ValueError(
                f"the window is {first}:{last}; give a first cycle and a later last one, such as 1000:1500"
            )


@dataclass(frozen=True, kw_only=True)
class WaveRecording:
    """What was recorded.

    Parameters
    ----------
    files:
        The VCD, the save file of GTKWave, the command file of Surfer, and files that name values.
    around:
        The command that the window is around, or the window.
    first, last:
        First and last cycle of the frame that were recorded.
    signals:
        Number of signals.
    """

    files: tuple[Path, ...]
    around: str
    first: int
    last: int
    signals: int


def find_units(config: AcceleratorConfig, names: Sequence[str]) -> list[UnitModule]:
    """The units of a machine by name; ValueError names what there is."""
    known = unit_modules(export_machine(config))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            within = [path for path in known if path.rpartition(".")[2] == name]
            outer = [path for path in known if "." not in path]
            hint = f"did you mean {' or '.join(within or near)}? " if within or near else ""
            raise ValueError(
                f"the machine has no unit '{name}'; {hint}units: {', '.join(outer)}, and those inside them"
            )
    return [known[name] for name in names]


def find_commands(program: Program, request: WaveRequest, task: int) -> list[Command]:
    """The commands of a task that a request is about; ValueError names what there is. None for a window."""
    run = [command for command in program.commands if command.runs(task)]
    if request.window is not None:
        return []
    if request.command is None:
        operation = WORKS_IN.get(request.units[0].partition(".")[0], Opcode.LINEAR)
        return next(([command] for command in run if command.op == operation.name), run[:1])
    wanted = request.command
    found = [command for command in run if command.name == wanted or command.name.startswith(f"{wanted}.")]
    if not found:
        names = [command.name for command in run]
        near = difflib.get_close_matches(wanted, names, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        task_name = program.model.tasks[task].name
        raise ValueError(
            f"no command of task '{task_name}' is called '{wanted}'; {hint}they are called {', '.join(names[:6])}, ... "
            f"{names[-1]}"
        )
    return found


def record_waves(
    program: Program,
    frame: Frame,
    request: WaveRequest,
    folder: Path,
    *,
    memory: MemorySettings | None = None,
    on_progress: Progress = silent,
) -> WaveRecording:
    """Run a frame and record the waves of some units.

    The frame runs twice: in the fast build, which tells when each command ran, then in the debug build up to the end of
    the window.

    Parameters
    ----------
    program, frame:
        What to run.
    request:
        What to record.
    folder:
        Folder for ``waves.vcd`` and what shows it.
    memory:
        Behaviour of the simulated DRAM.
    on_progress:
        Called with stage, fraction and detail.

    Raises
    ------
    ValueError
        There is no such unit or command, or the frame is shorter than the window.
    """
    units = find_units(program.config, request.units)
    commands = find_commands(program, request, frame.task)
    on_progress("build", 0.0, f"simulators of preset {program.config.name}: minutes the first time, then kept")
    simulator = machine_simulator(program.config, memory=memory_bytes(program.map.limit))
    options = SimulationOptions(trace=False)
    (run,) = run_machine(
        program, [frame], memory_settings=memory, simulator=simulator, options=options, on_progress=on_progress
    )
    first, last = _window(run, request, commands)
    with folder_aside(folder) as aside:
        window = WaveWindow(
            file=aside / VCD,
            first=max(1, run.first_cycle + first),
            last=run.first_cycle + last,
            units=request.units,
        )
        on_progress("waves", 0.0, f"debug build, cycles {first} to {last}")
        options = SimulationOptions(trace=False, waves=window)
        run_machine(program, [frame], memory_settings=memory, options=options)
        signals = wave_signals(window.file)
        groups = wave_groups(signals, units)
        names = value_names(groups, program)
        (aside / "waves.gtkw").write_text(gtkwave_save(signals, groups), encoding="utf-8")
        (aside / "waves.sucl").write_text(surfer_commands(signals, groups), encoding="utf-8")
        for name, text in names.items():
            (aside / name).write_text(text, encoding="utf-8")
    on_progress("waves", 1.0, str(folder))
    around = ", ".join(command.name for command in commands) or f"cycles {first} to {last}"
    files = (VCD, "waves.gtkw", "waves.sucl", *names)
    return WaveRecording(
        files=tuple(folder / name for name in files), around=around, first=first, last=last, signals=len(signals)
    )


def _window(run: SimulatedFrame, request: WaveRequest, commands: Sequence[Command]) -> tuple[int, int]:
    """First and last cycle to record."""
    if request.window is not None:
        first, last = request.window
        if first >= run.cycles:
            raise ValueError(f"the window begins at cycle {first:,}; the frame has {run.cycles:,} cycles")
        return first, min(last, run.cycles)
    stamps = run.stamps[[command.index for command in commands]]
    return max(0, int(stamps[:, 0].min()) - BEFORE), int(stamps[:, 1].max()) + AFTER
