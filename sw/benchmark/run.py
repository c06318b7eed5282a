"""The benchmark: cycles of several models and machines, and how fast they simulate.

One call, one process: every number of ``bench.json`` comes from the same sources on the same computer. Frames are
verified against the golden model as they are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.files import write_json, write_text
from common.progress import Progress, silent
from common.tools import git_id, tool_versions
from sw.benchmark import attention, frames, host, simulators, switching
from sw.benchmark.frames import CASES, Case
from sw.benchmark.quoted import QUOTED
from sw.benchmark.tables import to_markdown
from sw.run.prepare import prepare
from sw.run.target import Target

SPEED_MODEL = "nano"
"""Whose frame the simulators run, when no model was asked for."""


def run_bench(
    out: Path = Path("build/bench"),
    quick: bool = False,
    on_progress: Progress = silent,
    *,
    cases: Sequence[Case] = CASES,
) -> dict[str, Any]:
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

    Returns
    -------
    dict
        Content of ``bench.json``: ``frames``, one a case and task; ``simulation``, speeds in cycles/s; ``host``;
        ``attention`` and ``task_switch`` (unless ``quick``); ``quoted``.

    Raises
    ------
    ValueError
        For an unknown or unusable model.
    sim.verilator.build.BuildError, common.tools.ToolError
        A simulator cannot be built.
    sim.bench.run.BenchFailure
        A simulation did not come to its end.
    """
    small = SPEED_MODEL if cases is CASES else cases[0].model
    cases = cases[:1] if quick else cases
    measured: list[dict[str, Any]] = []
    for number, case in enumerate(cases):
        on_progress("frames", number / len(cases), str(case))
        measured += frames.measure(case)
    on_progress("frames", 1.0, "")
    first = prepare(cases[0].target)
    # A frame of the paper's geometry takes the stock build minutes; a speed needs no more than the small model's.
    subject = prepare(Target(model=small, preset=cases[0].preset)) if small != cases[0].model else first
    result: dict[str, Any] = {
        "frames": measured,
        "simulation": simulators.measure(subject, rounds=1 if quick else simulators.ROUNDS, on_progress=on_progress),
        "host": host.measure(first),
        "quoted": list(QUOTED),
    }
    if not quick:
        result["attention"] = attention.measure(on_progress=on_progress)
        result["task_switch"] = switching.measure()
    result |= {"tool_versions": tool_versions(), "git": git_id()}
    out = Path(out)
    write_json(out / "bench.json", result)
    write_text(out / "bench.md", to_markdown(result))
    return result
