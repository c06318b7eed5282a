"""The benchmark: cycles of several models and machines, and how fast they simulate.

One call, one process: every number of ``bench.json`` comes from the same sources on the same computer. Frames are
verified against the golden model as they are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessera.common.files import write_text
from tessera.common.progress import Progress, silent
from tessera.common.schemas.kinds import BENCH
from tessera.common.stamped import write_document
from tessera.sw.benchmark.attention import AttentionTraffic, measure_attention
from tessera.sw.benchmark.estimates import EstimateSpeed, measure_estimates
from tessera.sw.benchmark.frames import CASES, Case, MeasuredFrame, measure_frames
from tessera.sw.benchmark.host import HostSpeed, measure_host
from tessera.sw.benchmark.quoted import QUOTED
from tessera.sw.benchmark.simulators import ROUNDS, SimulationSpeeds, measure_simulators
from tessera.sw.benchmark.switching import TaskSwitch, measure_switching
from tessera.sw.benchmark.tables import to_markdown
from tessera.sw.run.prepare import prepare
from tessera.sw.run.target import Target

SPEED_MODEL = "nano"
"""Whose frame the simulators run, when no model was asked for."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Everything that was measured.

    Parameters
    ----------
    frames:
        Frames of every case and task.
    simulation, host:
        Speeds of the simulators and of PyTorch.
    estimates:
        Speed of the estimator of cells and clock.
    attention, task_switch:
        Traffic of attention and price of changing the task; None after a quick run.
    """

    frames: list[MeasuredFrame]
    simulation: SimulationSpeeds
    host: HostSpeed
    estimates: EstimateSpeed
    attention: list[AttentionTraffic] | None
    task_switch: TaskSwitch | None

    @property
    def bit_exact(self) -> bool:
        """Whether every frame was."""
        return all(frame.bit_exact for frame in self.frames)

    def to_dict(self) -> dict[str, Any]:
        """Content of ``bench.json``."""
        result: dict[str, Any] = {
            "frames": [frame.to_dict() for frame in self.frames],
            "simulation": asdict(self.simulation),
            "host": asdict(self.host),
            "estimates": asdict(self.estimates),
            "quoted": list(QUOTED),
        }
        if self.attention is not None:
            result["attention"] = [asdict(entry) for entry in self.attention]
        if self.task_switch is not None:
            result["task_switch"] = asdict(self.task_switch)
        return result


def run_bench(
    out: Path = Path("build/bench"),
    quick: bool = False,
    on_progress: Progress = silent,
    *,
    cases: Sequence[Case] = CASES,
) -> Benchmark:
    """Measure every case, the simulators, attention's traffic and the change of tasks.

    Parameters
    ----------
    out:
        Folder of ``bench.json`` and ``bench.md``.
    quick:
        Only the first case, and one round of the simulators.
    on_progress:
        Called with stage, fraction and detail.
    cases:
        Models and machines; the simulators run the first one's machine.

    Raises
    ------
    ValueError
        For an unknown or unusable model.
    tessera.sim.verilator.cxx.BuildError, tessera.common.tools.ToolError
        A simulator cannot be built.
    tessera.sim.bench.run.BenchFailure
        A simulation did not come to its end.
    """
    small = SPEED_MODEL if cases is CASES else cases[0].model
    cases = cases[:1] if quick else cases
    measured: list[MeasuredFrame] = []
    for number, case in enumerate(cases):
        on_progress("frames", number / len(cases), str(case))
        measured += measure_frames(case)
    on_progress("frames", 1.0, "")
    first = prepare(cases[0].target)
    # A frame of the paper's geometry takes the stock build minutes; a speed needs no more than the small model's.
    subject = prepare(Target(model=small, preset=cases[0].preset)) if small != cases[0].model else first
    result = Benchmark(
        frames=measured,
        simulation=measure_simulators(subject, rounds=1 if quick else ROUNDS, on_progress=on_progress),
        host=measure_host(first),
        estimates=measure_estimates(),
        attention=None if quick else measure_attention(on_progress=on_progress),
        task_switch=None if quick else measure_switching(),
    )
    out, data = Path(out), result.to_dict()
    write_document(out / "bench.json", BENCH, data)
    write_text(out / "bench.md", to_markdown(data))
    return result
