"""The benchmark: cycles of a trained model on the machine, and how fast the simulation runs.

One call, one process: every number of ``bench.json`` comes from the same sources on the same computer. Frames are
verified against the golden model as they are measured.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from golden.integer.parameters import QuantisedExperts
from sim.build import Simulator
from sim.machine import Frame, FrameResult, MemorySettings, build_machine, run_machine
from sim.tools import git_id, tool_versions
from sw import cycles
from sw.files import file_aside, write_json
from sw.pictures import scene_picture
from sw.prepare import Prepared, Report, prepare, silent
from sw.verify import verify

MODEL = "nano"
PRESETS = ("edge", "ecp5-85f")
ROUNDS = 3
"""Alternating runs of the fast and of the stock build."""


def measure_frames(prepared: Prepared, simulator: Simulator) -> list[dict[str, Any]]:
    """One frame a task, back to back on one machine: cycles, the bound, utilisation, verdict, simulation speed."""
    program, config = prepared.program, prepared.config
    image = scene_picture(program.model).image
    frames = [Frame(task=task, image=image) for task in range(len(program.model.tasks))]
    results = run_machine(program, frames, simulator=simulator)
    entries = []
    for frame, result in zip(frames, results, strict=True):
        verdict = verify(program, prepared.integer.run(image, frame.task), result.traces, frame.task)
        work = cycles.total(program, frame.task)
        entries.append(
            {
                "preset": config.name,
                "memory_bytes_per_cycle": config.memory_bytes,
                "read_latency": MemorySettings().read_latency,
                "model": program.model.name,
                "routing": "model" if _has_experts(prepared) else "none",
                "task": program.model.tasks[frame.task].name,
                "cycles": result.cycles,
                "bound_cycles": work.ideal_cycles,
                "macs": work.macs,
                "mac_utilisation": work.macs / (result.cycles * config.elements * config.lanes),
                "dram_bytes": result.counters["read_bytes"] + result.counters["write_bytes"],
                "bit_exact": verdict.passed and not result.error,
                "sim_cycles_per_s": _speed([result]),
                "predicted_cycles": None,
            }
        )
    return entries


def _has_experts(prepared: Prepared) -> bool:
    return any(isinstance(layer.mlp, QuantisedExperts) for layer in prepared.quantised.layers)


def _speed(results: list[FrameResult]) -> float:
    """Simulated cycles a second from start to interrupt."""
    return sum(result.cycles for result in results) / sum(result.seconds for result in results)


def compare_builds(
    prepared: Prepared, fast: Simulator, stock: Simulator, rounds: int, on_progress: Report = silent
) -> dict[str, Any]:
    """Run the same frame in turns on the fast build and on cocotb's stock build: medians in cycles/s, and their ratio.

    Same RTL, same test bench, same traces; the stock build has every signal public, as cocotb's own runner builds it,
    and no waves.
    """
    frame = Frame(task=0, image=scene_picture(prepared.program.model).image)
    speeds: dict[str, list[float]] = {"fast": [], "stock": []}
    for number in range(rounds):
        for name, simulator in (("fast", fast), ("stock", stock)):
            on_progress("simulation speed", number / rounds, name)
            speeds[name].append(_speed(run_machine(prepared.program, [frame], simulator=simulator)))
    medians = {name: median(values) for name, values in speeds.items()}
    return {
        "preset": prepared.config.name,
        "model": prepared.program.model.name,
        "rounds": rounds,
        "fast": medians["fast"],
        "stock": medians["stock"],
        "amaranth": None,
        "ratio": medians["fast"] / medians["stock"],
        "runs": speeds,
    }


def run_bench(
    out: Path = Path("build/bench"), quick: bool = False, on_progress: Report = silent, *, model: str = MODEL
) -> dict[str, Any]:
    """Measure every preset, and the fast build against cocotb's stock build.

    Parameters
    ----------
    out:
        Folder of ``bench.json`` and ``bench.md``.
    quick:
        Only the first preset, and one round of the comparison.
    on_progress:
        Called with stage, fraction and detail.
    model:
        A trained model or a checkpoint.

    Returns
    -------
    dict
        Content of ``bench.json``: ``frames``, one a preset and task, and ``simulation``, speeds in cycles/s.

    Raises
    ------
    ValueError
        For an unknown or unusable model.
    sim.build.BuildError, sim.tools.ToolError
        The simulator cannot be built.
    sim.bench.BenchFailure
        A simulation did not come to its end.
    """
    frames: list[dict[str, Any]] = []
    simulation: dict[str, Any] = {}
    presets = PRESETS[:1] if quick else PRESETS
    for number, preset in enumerate(presets):
        on_progress("frames", number / len(presets), f"{model} on {preset}")
        prepared = prepare(model, preset)
        fast = build_machine(prepared.config)
        frames += measure_frames(prepared, fast)
        if preset == PRESETS[0]:
            on_progress("simulation speed", 0.0, "building the stock simulator: minutes the first time, then kept")
            stock = build_machine(prepared.config, stock=True)
            simulation = compare_builds(prepared, fast, stock, 1 if quick else ROUNDS, on_progress)
            on_progress("simulation speed", 1.0, f"{simulation['ratio']:.1f} x the stock build")
    on_progress("frames", 1.0, "")
    result = {"frames": frames, "simulation": simulation, "tool_versions": tool_versions(), "git": git_id()}
    out = Path(out)
    write_json(out / "bench.json", result)
    with file_aside(out / "bench.md") as aside:
        aside.write_text(to_markdown(result))
    return result


def to_markdown(result: dict[str, Any]) -> str:
    """Both tables, for the README."""
    lines = [
        "| preset | model, task | cycles | bound | MAC utilisation | bit-exact | simulated cycles/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for frame in result["frames"]:
        yes_no = "yes" if frame["bit_exact"] else "**no**"
        lines.append(
            f"| {frame['preset']} | {frame['model']}, {frame['task']} | {frame['cycles']:,} "
            f"| {frame['bound_cycles']:,} | {frame['mac_utilisation']:.1%} | {yes_no} "
            f"| {frame['sim_cycles_per_s']:,.0f} |"
        )
    speed = result["simulation"]
    lines += [
        "",
        f"Simulation of {speed['model']} on {speed['preset']}, medians of {speed['rounds']} alternating runs:",
        "",
        "| build | cycles/s | |",
        "|---|---|---|",
        f"| fast | {speed['fast']:,.0f} | {speed['ratio']:.2f} x |",
        f"| cocotb's stock build | {speed['stock']:,.0f} | 1 x |",
    ]
    return "\n".join(lines) + "\n"
