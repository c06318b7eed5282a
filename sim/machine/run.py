"""The whole machine in simulation: build it, run frames on it, get traces, counters and results back.

The simulator is driven by ``sim.machine.testbench`` inside cocotb; this module is what the rest of the project calls.
Every write of the accelerator into its memories arrives as a trace (``sim.machine.trace_reader``), so nothing has to
be stopped or snapshot to be verified.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from common.files import move_file
from common.progress import Progress, silent
from hw.accelerator import Accelerator
from hw.boards.system import CLIENTS
from hw.config import AcceleratorConfig
from hw.isa import SHARE_BITS, CycleCause, ErrorCode
from hw.sdram.memory import SdramMemory
from program.program import Program
from program.traces import Traces
from sim.bench import backdoor
from sim.bench.run import BenchOptions, run_testbench
from sim.machine.activity import Activity, read_activity
from sim.machine.follow import followed
from sim.machine.sdram import SOURCE as CHIP
from sim.machine.sdram import SdramSettings
from sim.machine.trace_reader import WIDTH_PARAMETERS, read_records
from sim.models import MODELS
from sim.verilator.build import BUILD_ROOT, BuildOptions, Simulator, build_simulator
from sim.verilator.verilog import Design, export_cached

MEMORY_BYTES = 1 << 25
"""Size of the simulated DRAM, the same in every build."""
WATCHDOG_CYCLES = 100_000
PROFILED_MULTIPLIERS = 256
"""Machines from this size on are compiled for their load. Small ones are built often and run briefly."""


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """How the simulated DRAM behaves; set at run time, without a rebuild.

    Parameters
    ----------
    read_latency, write_latency:
        Cycles from an accepted request to the first beat of data, or from the last beat to the response.
    stall:
        Chance in 256 that a channel pauses for a cycle, on all five channels.
    seed:
        Chooses the pattern of the pauses.
    error_window:
        Byte addresses [low, high) that answer with a bus error.
    drop_read_beat:
        Fault: this beat of all read beats never comes.
    flip:
        Fault: (byte address, bit) that reads inverted.
    """

    read_latency: int = 60
    write_latency: int = 20
    stall: int = 0
    seed: int = 1
    error_window: tuple[int, int] | None = None
    drop_read_beat: int | None = None
    flip: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form, without what is not set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def plusargs(self) -> list[str]:
        """Arguments of ``memory.sv``."""
        values: dict[str, Any] = {"read_latency": self.read_latency, "write_latency": self.write_latency}
        values |= {f"stall_{channel}": self.stall for channel in ("ar", "r", "aw", "w", "b")}
        values["stall_seed"] = self.seed
        if self.error_window:
            values |= {"error_low": f"{self.error_window[0]:x}", "error_high": f"{self.error_window[1]:x}"}
        if self.drop_read_beat is not None:
            values["drop_read_beat"] = self.drop_read_beat
        if self.flip:
            values |= {"flip_address": f"{self.flip[0]:x}", "flip_bit": self.flip[1]}
        return [f"+{name}={value}" for name, value in values.items()]


@dataclass(frozen=True, kw_only=True)
class Upset:
    """Bits of an on-chip memory that turn over while the machine runs.

    ``cycle`` counts from the frame's start; ``memory`` is one of :func:`memories`; ``mask`` is XORed to a word.
    """

    cycle: int
    memory: str
    word: int
    mask: int


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame to run: a task and an image, uint8 (3, H, W).

    Before it starts, ``patches`` are bytes written into the DRAM (address, content), ``memory`` are new values of
    variables of ``memory.sv``, and ``reset`` resets everything; ``registers`` override the program's. ``upsets`` happen
    while it runs.
    """

    task: int
    image: np.ndarray
    patches: Sequence[tuple[int, bytes]] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    reset: bool = False
    registers: Mapping[str, int] = field(default_factory=dict)
    upsets: Sequence[Upset] = ()


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """What one frame left.

    Members: ``counters`` by register name; ``stamps`` start and end cycle of each command (zero where it did not run);
    ``causes`` (commands, causes) cycles that each command owned, by ``hw.isa.CycleCause``: they add up to ``cycles``;
    ``output`` int32 (rows, channels) in the residual's format; ``traces`` of this frame, and the ``activity`` of units
    summed up from them (None without traces); ``first_cycle`` cycle 0 of this frame on the trace's clock; ``seconds``
    of real time from start to interrupt.
    """

    task: int
    counters: dict[str, int]
    stamps: np.ndarray
    causes: np.ndarray
    traces: Traces
    activity: Activity | None
    first_cycle: int
    seconds: float

    @property
    def error(self) -> ErrorCode:
        """Why the machine halted, or NONE."""
        return ErrorCode(self.counters["error_code"])

    @property
    def cycles(self) -> int:
        """Cycles from start to done."""
        return self.counters["cycles"]


@lru_cache(maxsize=16)
def export_machine(config: AcceleratorConfig) -> Design:
    """The accelerator with trace ports, as Verilog; kept in ``build/verilog`` because elaboration takes long."""
    return export_cached(
        lambda: Accelerator(config, trace=True),
        name="accelerator",
        key=json.dumps(config.to_dict()),
        folder=BUILD_ROOT.parent / "verilog",
    )


@lru_cache(maxsize=16)
def export_sdram(config: AcceleratorConfig, settings: SdramSettings) -> Design:
    """A board's SDRAM controller, as Verilog."""
    return export_cached(
        lambda: SdramMemory(config, settings.timing, readers=CLIENTS, writers=CLIENTS),
        name="sdram_memory",
        key=json.dumps([config.to_dict(), asdict(settings.timing)]),
        folder=BUILD_ROOT.parent / "verilog",
    )


def memories(config: AcceleratorConfig) -> tuple[str, ...]:
    """On-chip memories that the back door reaches, as ``unit.memory``: word ``n`` of the unit is word ``n`` there."""
    columns = [f"{unit}.column_{index}" for unit in ("scratchpad", "residual") for index in range(config.columns)]
    return (*columns, "gate.queues.entries")


def build_machine(
    config: AcceleratorConfig,
    *,
    debug: bool = False,
    stock: bool = False,
    sdram: SdramSettings | None = None,
    netlist: Path | None = None,
    profile: Callable[[Simulator], object] | None = None,
) -> Simulator:
    """Build the machine's simulator, or return the cached one.

    Parameters
    ----------
    config:
        Sizes of the machine.
    debug:
        Everything visible, waves possible (slower).
    stock:
        Everything public as cocotb's own runner builds it, without waves: the reference for ``make bench``.
    sdram:
        A board's SDRAM for a memory.
    netlist:
        Verilog that takes the place of the accelerator as it was written: its cells after synthesis, with their models.
        Without the back door into its memories.
    profile:
        Runs a typical load on the simulator that it is given, so that a fast build of a large machine is compiled for
        the paths that are taken. Results are the same without.
    """
    design = export_machine(config)
    widths = {port.name: port.width for port in design.ports}
    if netlist:
        design = replace(design, text="")
    if sdram:
        design = replace(design, text=design.text + export_sdram(config, sdram).text)
    parameters: dict[str, int | str] = {
        "BYTES": config.memory_bytes,
        "DEPTH": MEMORY_BYTES // config.memory_bytes,
        **{parameter: widths[f"trace_{space}__payload"] for space, parameter in WIDTH_PARAMETERS.items()},
    }
    large = config.elements * config.lanes >= PROFILED_MULTIPLIERS

    options = BuildOptions(
        top="machine",
        sources=(
            *(MODELS / "machine.sv", CHIP if sdram else backdoor.SOURCE, MODELS / "trace.cpp"),
            *((netlist,) if netlist else ()),
        ),
        public=[
            (f"accelerator.{path.rpartition('.')[0]}", path.rpartition(".")[2])
            for path in memories(config)
            if not netlist
        ],
        parameters=parameters,
        optimise=not debug,
        debug=debug,
        defines={**({"WAVES": 1} if debug else {}), **({"SDRAM": 1} if sdram else {})},
        all_public=stock,
        main=None if debug or stock else MODELS / "machine_main.cpp",
        profile=profile if large and not (debug or stock or netlist) else None,
    )
    return build_simulator(design, options)


def run_machine(
    program: Program,
    frames: Sequence[Frame],
    *,
    memory_settings: MemorySettings | SdramSettings | None = None,
    simulator: Simulator | None = None,
    trace: bool = True,
    waves: tuple[Path, int, int] | None = None,
    watchdog: int = WATCHDOG_CYCLES,
    limit: int | None = None,
    on_progress: Progress = silent,
    timeout_s: float = 3600.0,
) -> list[FrameResult]:
    """Run frames one after the other on one machine, without a reset between them.

    Parameters
    ----------
    program:
        A compiled model; its configuration chooses the build.
    frames:
        Tasks and images.
    memory_settings:
        Latency, stalls and faults of the DRAM, or a board's SDRAM in its place. That knows no :attr:`Frame.memory`, and
        no reset between frames.
    simulator:
        A build of :func:`build_machine` for the same configuration and memory; made or looked up when absent.
    trace:
        Record every write into the on-chip memories.
    waves:
        (VCD file, first cycle, last cycle): record waves of that window of the trace's clock; needs a debug build. The
        simulation ends with the window, and only frames that ended before it have results.
    watchdog, limit:
        Cycles without progress before the machine halts itself, and cycles after which the test bench gives up on a
        frame.
    on_progress:
        Callback for the stage ``simulate``, called every few thousand cycles.

    Raises
    ------
    sim.bench.run.BenchFailure
        The simulation did not end: a hardware assertion, the limit, or a crash. The message has the end of the log.
    """
    settings = memory_settings or MemorySettings()
    sdram = settings if isinstance(settings, SdramSettings) else None
    simulator = simulator or build_machine(program.config, debug=waves is not None, sdram=sdram)
    with TemporaryDirectory(prefix="tessera-") as folder:
        work = Path(folder)
        image = program.memory(frames[0].image)
        image.tofile(work / "memory.bin")
        jobs = [_job(program, index, frame, work, watchdog, limit) for index, frame in enumerate(frames)]
        plusargs = [f"+{'sdram' if sdram else 'memory'}_image={work / 'memory.bin'}", *settings.plusargs()]
        if trace:
            plusargs.append(f"+trace={work}")
        if waves:
            plusargs += [f"+wave_file={work / 'waves.vcd'}", f"+wave_first={max(1, waves[1])}"]
        parameters = {
            "frames": jobs,
            "progress_file": str(work / "progress.jsonl"),
            "last_cycle": waves[2] if waves else None,
            "own_clock": simulator.own_clock,
        }
        tasks = [frame.task for frame in frames]
        with followed(work / "progress.jsonl", program, tasks, on_progress):
            bench = run_testbench(
                simulator,
                "sim.machine.testbench",
                parameters=parameters,
                options=BenchOptions(plusargs=plusargs, timeout_s=timeout_s),
            )
        if waves:
            move_file(work / "waves.vcd", waves[0])
        outcomes = bench.outputs["frames"]
        return [
            _result(program, frame, job, outcome, work if trace else None)
            for frame, job, outcome in zip(frames, jobs, outcomes, strict=waves is None)
        ]


def _job(program: Program, number: int, frame: Frame, work: Path, watchdog: int, limit: int | None) -> dict[str, Any]:
    """One frame as the bench inside the simulator wants it."""
    image_file = ""
    if number:
        image_file = str(work / f"image{number}.bin")
        np.ascontiguousarray(frame.image).tofile(image_file)
    registers = program.registers(frame.task) | {"watchdog_limit": watchdog} | dict(frame.registers)
    beats = program.map.weights_bytes // program.config.memory_bytes
    ideal = sum(command.ideal_cycles for command in program.commands)
    return {
        "number": number,
        "registers": registers,
        "image_file": image_file,
        "image_address": program.map.image,
        "patches": [(address, content.hex()) for address, content in frame.patches],
        "memory": dict(frame.memory),
        "reset": frame.reset,
        "upsets": [asdict(upset) for upset in frame.upsets],
        "stamps": [c.index for c in program.commands if c.runs(frame.task)] if not frame.registers else [],
        "output_address": program.map.output,
        "output_bytes": program.map.output_bytes,
        "output_file": str(work / f"output{number}.bin"),
        "limit": limit or 20 * (ideal + beats) + 1_000_000,
    }


def _result(program: Program, frame: Frame, job: dict, outcome: dict, traces: Path | None) -> FrameResult:
    """Put together what one frame left."""
    stamps = np.zeros((len(program.commands), 2), np.int64)
    if job["stamps"]:
        stamps[job["stamps"]] = outcome["stamps"]
    causes = _causes(len(program.commands), outcome["owners"])
    region = np.fromfile(job["output_file"], np.uint8)
    records = read_records(traces, program.config, job["number"]) if traces else {}
    return FrameResult(
        task=frame.task,
        counters=outcome["counters"],
        stamps=stamps,
        causes=causes,
        traces=Traces(records, region),
        activity=read_activity(traces, program.config, job["number"], outcome["first"]) if traces else None,
        first_cycle=outcome["first"],
        seconds=outcome["seconds"],
    )


def _causes(commands: int, chain: list[list[int]]) -> np.ndarray:
    """Cycles of each command by cause from the chain of owners, last to first: differences of what it had added up."""
    causes = np.zeros((commands, len(CycleCause)), np.int64)
    before = np.zeros(len(CycleCause), np.int64)
    for command, *totals in reversed(chain):
        causes[command] = (np.array(totals) - before) % (1 << SHARE_BITS)
        before = np.array(totals)
    return causes
