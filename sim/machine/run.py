"""Run frames on the whole machine in simulation, and collect traces, counters and results.

``tessera.sim.machine.testbench`` drives the simulator inside cocotb; this module is what the rest of the project calls.
Every write of the accelerator into its memories arrives as a trace (``tessera.sim.machine.trace_reader``), so
verification never has to stop the machine or copy its memories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tessera.common.files import move_file
from tessera.common.progress import Progress, silent
from tessera.common.system_errors import TEMPORARY
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import CycleCause
from tessera.hw.register_map import SHARE_BITS
from tessera.program.program import Program
from tessera.program.traces import Traces
from tessera.sim.bench.run import BenchOptions, run_testbench
from tessera.sim.machine.activity import read_activity
from tessera.sim.machine.exchange import FrameJob, FrameReadout
from tessera.sim.machine.follow import followed
from tessera.sim.machine.frames import Frame, SimulatedFrame
from tessera.sim.machine.hierarchy import unit_modules
from tessera.sim.machine.sdram import SdramSettings
from tessera.sim.machine.settings import MemorySettings, SimulationOptions, WaveWindow
from tessera.sim.machine.simulator import build_machine, export_machine, memory_bytes
from tessera.sim.machine.trace_reader import read_records
from tessera.sim.machine.wave_filter import filtered_waves
from tessera.sim.verilator.options import Simulator

TIMEOUT_SECONDS = 3600.0
LIMIT_FACTOR, LIMIT_CYCLES = 20, 1_000_000
"""A frame may take so many times its ideal cycles, and so many cycles more. The watchdog is for machines that hang."""


def run_machine(
    program: Program,
    frames: Sequence[Frame],
    *,
    memory_settings: MemorySettings | SdramSettings | None = None,
    simulator: Simulator | None = None,
    options: SimulationOptions | None = None,
    on_progress: Progress = silent,
) -> list[SimulatedFrame]:
    """Run frames one after the other on one machine, without a reset between them.

    Parameters
    ----------
    program:
        Compiled model; its configuration chooses the build.
    frames:
        Tasks and images; those with a program of their own run that one from there on.
    memory_settings:
        Latency, stalls and faults of the DRAM, or a board's SDRAM in its place. An SDRAM has no :attr:`Frame.memory`,
        and cannot be reset between frames.
    simulator:
        Build of :func:`~tessera.sim.machine.simulator.build_machine` for the same configuration and memory. By default
        it is made or looked up.
    options:
        What to record, and when the machine gives up.
    on_progress:
        Callback for the stages ``build``, of a simulator that is made, and ``simulate``, every few thousand cycles.

    Raises
    ------
    tessera.sim.bench.run.BenchFailure
        The simulation did not end: a hardware assertion, the limit, or a crash. The message has the end of the log.
    """
    settings, options = memory_settings or MemorySettings(), options or SimulationOptions()
    sdram = settings if isinstance(settings, SdramSettings) else None
    waves = options.waves
    programs = list(accumulate(frames, lambda last, frame: frame.program or last, initial=program))[1:]
    memory = memory_bytes(max(one.map.limit for one in programs))
    simulator = simulator or build_machine(
        program.config, debug=waves is not None, sdram=sdram, memory=memory, on_progress=on_progress
    )
    with TemporaryDirectory(prefix=TEMPORARY) as folder:
        work = Path(folder)
        (work / "memory.bin").write_bytes(programs[0].memory(frames[0].image).tobytes())
        jobs = [
            _job(one, index, frame, work, options.watchdog)
            for index, (one, frame) in enumerate(zip(programs, frames, strict=True))
        ]
        plusargs = [f"+{'sdram' if sdram else 'memory'}_image={work / 'memory.bin'}", *settings.plusargs()]
        if options.trace:
            plusargs.append(f"+trace={work}")
        if waves:
            plusargs += [f"+wave_file={work / 'waves.vcd'}", f"+wave_first={max(1, waves.first)}"]
        parameters = {
            "frames": [job.to_dict() for job in jobs],
            "progress_file": str(work / "progress.jsonl"),
            "last_cycle": waves.last if waves else None,
            "own_clock": simulator.own_clock,
        }
        bench_options = BenchOptions(plusargs=plusargs, timeout_s=TIMEOUT_SECONDS)
        tasks = [frame.task for frame in frames]
        with followed(work / "progress.jsonl", programs, tasks, on_progress), _recorded(program.config, waves, work):
            bench = run_testbench(
                simulator, "tessera.sim.machine.testbench", parameters=parameters, options=bench_options
            )
        readouts = [FrameReadout(**values) for values in bench.outputs["frames"]]
        # The simulation may end before the last frame does only where a window of waves ends it.
        return [
            _result(one, frame, job, readout, work if options.trace else None)
            for one, frame, job, readout in zip(programs, frames, jobs, readouts, strict=waves is None)
        ]


@contextmanager
def _recorded(config: AcceleratorConfig, waves: WaveWindow | None, work: Path) -> Iterator[None]:
    """Leave the waves that the simulator writes in the block where the window wants them."""
    if waves is None:
        yield
        return
    written, kept = work / "waves.vcd", work / "kept.vcd"
    if not waves.units:
        yield
        move_file(written, waves.file)
        return
    modules = unit_modules(export_machine(config))
    with filtered_waves(written, kept, [modules[name] for name in waves.units]):
        yield
    move_file(kept, waves.file)


def _job(program: Program, number: int, frame: Frame, work: Path, watchdog: int) -> FrameJob:
    """Return one frame as the test bench inside the simulator runs it."""
    image_file = ""
    if number:
        image_file = str(work / f"image{number}.bin")
        Path(image_file).write_bytes(np.ascontiguousarray(frame.image).tobytes())
    beats = program.map.weights_bytes // program.config.memory_bytes
    ideal = sum(command.ideal_cycles for command in program.commands)
    content = [] if frame.program is None or not number else [(0, program.content.tobytes())]
    return FrameJob(
        number=number,
        registers=program.registers(frame.task) | {"watchdog_limit": watchdog} | dict(frame.registers),
        image_file=image_file,
        image_address=program.map.image,
        patches=[*content, *frame.patches],
        memory=dict(frame.memory),
        reset=frame.reset,
        upsets=list(frame.upsets),
        stamps=[c.index for c in program.commands if c.runs(frame.task)] if not frame.registers else [],
        output_address=program.map.output,
        output_bytes=program.map.output_bytes,
        output_file=str(work / f"output{number}.bin"),
        limit=LIMIT_FACTOR * (ideal + beats) + LIMIT_CYCLES,
    )


def _result(
    program: Program, frame: Frame, job: FrameJob, readout: FrameReadout, traces: Path | None
) -> SimulatedFrame:
    """Put the results of one frame together."""
    stamps = np.zeros((len(program.commands), 2), np.int64)
    if job.stamps:
        stamps[job.stamps] = readout.stamps
    records = read_records(traces, program.config, job.number) if traces else {}
    return SimulatedFrame(
        task=frame.task,
        counters=readout.counters,
        stamps=stamps,
        causes=_causes(len(program.commands), readout.owners),
        traces=Traces(records, np.fromfile(job.output_file, np.uint8)),
        activity=read_activity(traces, program.config, job.number, readout.first) if traces else None,
        first_cycle=readout.first,
        seconds=readout.seconds,
    )


def _causes(commands: int, chain: list[list[int]]) -> np.ndarray:
    """Return the cycles of each command by cause, from the chain of owners.

    Each link has the totals when its command gave up ownership, so a command's cycles are the difference to the link
    before it.
    """
    causes = np.zeros((commands, len(CycleCause)), np.int64)
    before = np.zeros(len(CycleCause), np.int64)
    for command, *totals in reversed(chain):
        # Totals have SHARE_BITS bits and wrap, so the difference does, too.
        causes[command] = (np.array(totals) - before) % (1 << SHARE_BITS)
        before = np.array(totals)
    return causes
