"""A prepared model runs pictures on the simulated machine, and every frame is verified."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tessera.common.expected import MAYBE, PATH, expect, whole
from tessera.common.files import check_folder
from tessera.common.progress import Progress, silent
from tessera.golden import metrics
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame, SimulatedFrame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.sdram import SdramSettings
from tessera.sim.machine.settings import MemorySettings, SimulationOptions, WaveWindow
from tessera.sim.machine.simulator import memory_bytes
from tessera.sw.cycles.predict import predict, queue_lengths
from tessera.sw.data.pictures import FIRST_SCENE, Picture, PictureChoice
from tessera.sw.quantiser.errors import frame_errors
from tessera.sw.quantiser.saturation import excesses
from tessera.sw.results.comparison import compare
from tessera.sw.results.outcome import FrameOutcome, RunResult, machine_routing
from tessera.sw.results.truth import truth_of
from tessera.sw.run.duration import remember_speed
from tessera.sw.run.prepare import ACCURACY_SCENES, Prepared, accuracy, prepare
from tessera.sw.run.profile import machine_simulator
from tessera.sw.run.target import Target
from tessera.sw.verifier.verify import verify

Memory = MemorySettings | SdramSettings
"""The simulated DRAM's behaviour, or a board's SDRAM."""
MEMORY_KINDS = "a MemorySettings, such as MemorySettings(stall=60), a board's SdramSettings, or None"
DEFAULT = Target()
"""The trained nano model on the preset edge."""
MODELS_AHEAD = 4
"""Frames whose tensors are computed while the machine is still being simulated."""
WINDOW_BEFORE, WINDOW_AFTER = 200, 50
"""Cycles of waves around a mismatch."""


def execute(
    prepared: Prepared,
    pictures: Sequence[Picture],
    tasks: Sequence[int],
    *,
    memory: Memory | None = None,
    netlist: Path | None = None,
    waves: Path | None = None,
    accuracy_scenes: int = 0,
    on_progress: Progress = silent,
) -> RunResult:
    """Run every picture under every task on one machine, back to back, and verify each frame.

    Parameters
    ----------
    prepared, pictures, tasks:
        What to run.
    memory:
        Behaviour of the simulated DRAM, or a board's SDRAM.
    netlist:
        Run these cells (:func:`tessera.sw.fpga.synthesis.netlist.netlist`) instead of the design as it was written.
    waves:
        VCD file for the cycles around the first mismatch, recorded in a second run of the debug build.
    accuracy_scenes:
        Held-out scenes to score float and integer model on; 0 for none.
    on_progress:
        Called with stage, fraction and detail.

    Raises
    ------
    tessera.common.tools.ToolError, tessera.sim.verilator.cxx.BuildError
        No compiler, or it rejected the design.
    tessera.sim.bench.run.BenchFailure
        The simulation did not come to its end.
    """
    began = time.perf_counter()
    program, memory = prepared.program, memory or MemorySettings()
    check_memory(memory, program)
    sdram = memory if isinstance(memory, SdramSettings) else None
    simulator = machine_simulator(
        program.config,
        sdram=sdram,
        memory=memory_bytes(program.map.limit),
        netlist=netlist,
        on_progress=on_progress,
    )
    on_progress("build", 1.0, "")
    frames = [Frame(task=task, image=picture.image) for picture in pictures for task in tasks]
    outcomes = []
    with ThreadPoolExecutor(1) as beside:
        # The models compute beside the simulation, so many frames ahead as memory should hold.
        expected = deque(beside.submit(_expect, prepared, frame, memory) for frame in frames[:MODELS_AHEAD])
        results = run_machine(program, frames, memory_settings=memory, simulator=simulator, on_progress=on_progress)
        on_progress("simulate", 1.0, "")
        for number, (frame, result) in enumerate(zip(frames, results, strict=True)):
            on_progress("verify", number / len(frames), program.model.tasks[frame.task].name)
            index = number // len(tasks)
            outcomes.append(_outcome(prepared, pictures[index], index, frame, result, expected.popleft().result()))
            expected.extend(
                beside.submit(_expect, prepared, later, memory) for later in frames[number + MODELS_AHEAD :][:1]
            )
    on_progress("verify", 1.0, "")
    remember_speed(program.config, outcomes)
    written = waves is not None and _window(program, frames, outcomes, memory, waves, on_progress)
    scores = None
    if accuracy_scenes:
        scores = accuracy(
            prepared.path,
            prepared.checkpoint,
            prepared.quantised,
            scenes=accuracy_scenes,
            on_progress=on_progress,
        )
    return RunResult(
        program=program,
        pictures=list(pictures),
        frames=outcomes,
        facts=_facts(prepared, memory) | _spent(prepared.seconds + time.perf_counter() - began),
        accuracy=scores,
        waves=str(waves) if written else None,
    )


def check_memory(memory: Memory, program: Program) -> None:
    """ValueError for settings of the DRAM that mean nothing to a program; see :meth:`MemorySettings.check`."""
    if isinstance(memory, MemorySettings):
        memory.check(program.map.limit)


def run(
    target: Target = DEFAULT,
    *,
    task: str = "all",
    pictures: PictureChoice = FIRST_SCENE,
    memory: Memory | None = None,
    waves: bool = False,
    out: Path | str | None = None,
    accuracy_scenes: int = ACCURACY_SCENES,
    on_progress: Progress = silent,
) -> RunResult:
    """Prepare a model, run pictures, verify every frame, and write the report.

    Parameters
    ----------
    target:
        Model and machine.
    task:
        Tasks to run: ``all``, or names with commas.
    pictures:
        Pictures to run the tasks on.
    memory:
        Behaviour of the simulated DRAM, or a board's SDRAM.
    waves:
        Whether to record the cycles around the first mismatch, as ``mismatch.vcd`` in ``out`` or build/run.
    out:
        Folder of the report; None for no report.
    accuracy_scenes:
        Held-out scenes to score float and integer model on; 0 for none.
    on_progress:
        Called with stage, fraction and detail.

    Raises
    ------
    ValueError
        For an unknown model, task or picture, a value of another kind, or a folder that cannot be written.
    """
    expect("memory", memory, (MemorySettings, SdramSettings, MAYBE), MEMORY_KINDS)
    accuracy_scenes = whole("accuracy_scenes", accuracy_scenes, 0)
    if out is not None:
        from tessera.sw.report.write import FILES

        expect("out", out, PATH, "the path of a folder, or None to write nothing")
        check_folder(Path(out), *FILES)
    prepared = prepare(target, task=task, pictures=pictures, on_progress=on_progress)
    chosen = pictures.load(prepared.program.model)
    file = Path(out or "build/run") / "mismatch.vcd" if waves else None
    result = execute(
        prepared,
        chosen,
        prepared.task_indices(task),
        memory=memory,
        waves=file,
        accuracy_scenes=accuracy_scenes,
        on_progress=on_progress,
    )
    if out is not None:
        from tessera.sw.report import write_report

        on_progress("report", 0.0, str(out))
        write_report(result, Path(out))
    return result


class _Expected(NamedTuple):
    """What the models say about a frame.

    Integer tensors, their errors; float outputs, chosen experts by mixture; cycles with balanced experts, and routed.
    """

    golden: dict[str, Any]
    layer_errors: list[dict[str, Any]]
    outputs: np.ndarray
    experts: dict[str, np.ndarray]
    announced_cycles: int
    predicted_cycles: int


def _expect(prepared: Prepared, frame: Frame, memory: Memory) -> _Expected:
    capture: dict[str, Any] = {}
    with torch.no_grad():
        (output,) = prepared.checkpoint.model.run(torch.from_numpy(frame.image[None]), [frame.task], capture=capture)
    program, latency = prepared.program, memory.read_latency
    experts = {name: capture[f"{name}.expert_indices"][0].numpy() for name in program.mixtures}
    golden = prepared.integer.run(frame.image, frame.task)
    errors = frame_errors(capture, prepared.integer, golden, frame.task)
    loads = queue_lengths(program, golden)
    return _Expected(
        golden,
        errors,
        output[0].double().numpy(),
        experts,
        announced_cycles=predict(program, frame.task, read_latency=latency).cycles,
        predicted_cycles=predict(program, frame.task, loads=loads, read_latency=latency).cycles,
    )


def _outcome(
    prepared: Prepared, picture: Picture, number: int, frame: Frame, result: SimulatedFrame, expected: _Expected
) -> FrameOutcome:
    program, task = prepared.program, frame.task
    described = program.model.tasks[task]
    values = program.outputs[task].read(result.traces.output)
    chosen = machine_routing(program, result)
    changes = [metrics.changed_sets(experts, expected.experts[layer]).mean() for layer, experts in chosen.items()]
    return FrameOutcome(
        program=program,
        picture=number,
        task=described.name,
        verdict=verify(program, expected.golden, result.traces, task),
        result=result,
        prediction=compare(
            described,
            expected.outputs,
            prepared.integer.dequantise(program.plan.results[task].tensor, values),
            truth_of(described, prepared.checkpoint.weights, picture.scene),
        ),
        routing=chosen,
        routing_changes=float(np.mean(changes)) if changes else None,
        layer_errors=expected.layer_errors,
        announced_cycles=expected.announced_cycles,
        predicted_cycles=expected.predicted_cycles,
    )


def _window(
    program: Program,
    frames: Sequence[Frame],
    outcomes: Sequence[FrameOutcome],
    memory: Memory,
    path: Path,
    on_progress: Progress,
) -> bool:
    """Record the waves around the first mismatch, if there is one."""
    wrong = next((outcome for outcome in outcomes if not outcome.bit_exact), None)
    if wrong is None:
        return False
    result, first = wrong.result, wrong.verdict.first
    cycle = result.first_cycle + result.cycles
    if first is not None:
        cycle = first.cycle if first.cycle is not None else result.first_cycle + int(result.stamps[first.command][1])
    on_progress("waves", 0.0, f"debug build, cycles {cycle - WINDOW_BEFORE} to {cycle + WINDOW_AFTER}")
    window = WaveWindow(file=path, first=max(1, int(cycle) - WINDOW_BEFORE), last=int(cycle) + WINDOW_AFTER)
    options = SimulationOptions(waves=window, trace=False)
    run_machine(program, frames, memory_settings=memory, options=options)
    on_progress("waves", 1.0, str(path))
    return True


def _spent(seconds: float) -> dict[str, Any]:
    """Measured on the host: time, and the peak of memory of this process or the simulator, whichever is larger."""
    peaks = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"seconds": seconds, "peak_memory_bytes": 1024 * max(peaks)}


def _facts(prepared: Prepared, memory: Memory) -> dict[str, Any]:
    config, origin = prepared.config, prepared.checkpoint
    return {
        "model": prepared.program.model.name,
        "weights": origin.weights,
        "routing": prepared.routing,
        "preset": config.name,
        "program_digest": prepared.program.digest,
        "activation_width": config.numerics.activation_width,
        "residual_width": config.numerics.residual_width,
        "calibration": prepared.calibration,
        "calibration_pictures": prepared.calibrated_on.to_dict(),
        "saturation": [excess.to_dict() for excess in excesses(prepared.quantised)],
        "notices": list(prepared.notices),
        "network": prepared.program.model.facts(),
        "machine": config.to_dict(),
        "checkpoint": {
            "seed": origin.seed,
            "data_version": origin.data_version,
            "assumed": list(origin.assumed),
            "tools": dict(origin.tools),
        },
        "memory": memory.to_dict(),
        "memory_map": asdict(prepared.program.map),
    }
