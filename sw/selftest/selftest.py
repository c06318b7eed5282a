"""The self-test: proof that the checks can fail.

Every fault of ``sw.selftest.kinds`` is injected into the simulated machine, its memory or its program; the verifier or
the machine's own error registers must notice it and say where it is. The next frame on the same machine, repaired, must
be bit-exact again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.files import write_json
from common.progress import Progress, silent
from common.tools import git_id, tool_versions
from hw.config import preset as find_preset
from hw.isa import ErrorCode
from sim.bench.run import BenchFailure
from sim.machine.frames import Frame
from sim.machine.run import run_machine
from sim.machine.settings import SimulationOptions
from sim.verilator.build import Simulator
from sw.run.profile import machine_simulator
from sw.selftest.faults import ASSERTION, MODEL, SEED, Fault, Place, Subject
from sw.selftest.kinds import KINDS
from sw.verifier.verdict import Mismatch
from sw.verifier.verify import verify

NOWHERE = Place()


def run_clean(subject: Subject, simulator: Simulator) -> dict[str, Any]:
    """Run both tasks without a fault and keep the first frame as the reference of cycles; returns the verdicts."""
    frames = [Frame(task=task, image=subject.image) for task in (subject.task, subject.other_task)]
    results = run_machine(subject.program, frames, simulator=simulator)
    subject.clean = results[0]
    verdicts = [verify(subject.program, subject.golden(result.task), result.traces, result.task) for result in results]
    return {
        "passed": all(v.passed for v in verdicts) and all(r.error == ErrorCode.NONE for r in results),
        "tensors_compared": sum(verdict.tensors_compared for verdict in verdicts),
        "elements_compared": sum(verdict.elements_compared for verdict in verdicts),
        "text": [str(verdict) for verdict in verdicts],
    }


def try_fault(subject: Subject, fault: Fault, simulator: Simulator) -> dict[str, Any]:
    """Run a frame with a fault and one without on the same machine; returns what was expected and what was reported."""
    began = time.perf_counter()
    broken = Frame(
        task=subject.task,
        image=subject.image,
        patches=fault.patches,
        memory=fault.memory,
        registers=fault.registers,
        upsets=fault.upsets,
    )
    recovered: bool | None = None
    first_mismatch: Mismatch | None = None
    try:
        results = run_machine(
            subject.program,
            [broken, subject.repaired(fault)],
            simulator=simulator,
            options=SimulationOptions(watchdog=fault.watchdog),
        )
    except BenchFailure as failure:
        match = re.search(r"Assertion failed in (\S+?): (.*)", str(failure))
        if match is None:
            raise
        reported, text = Place(error=ASSERTION, unit=match[1].split(".")[2]), match[0]
    else:
        first, second = results
        if first.error != ErrorCode.NONE:
            reported = subject.error(first.counters)
            text = f"the machine halted: {reported}"
        else:
            verdict = verify(subject.program, subject.reference, first.traces, subject.task)
            first_mismatch = verdict.first
            reported = NOWHERE if first_mismatch is None else Place.of(first_mismatch)
            text = str(verdict)
        after = verify(subject.program, subject.golden(subject.other_task), second.traces, subject.other_task)
        recovered = second.error == ErrorCode.NONE and after.passed
    caught = reported != NOWHERE
    placed = caught and fault.expected.agrees(reported)
    return {
        "kind": fault.kind,
        "injected": fault.injected,
        "expected": fault.expected.to_dict(),
        "reported": {**reported.to_dict(), "text": text, "place": str(first_mismatch or text)},
        "caught": caught,
        "placed": placed,
        "recovered": recovered,
        "passed": caught and placed and recovered is not False,
        "verdict": _verdict(caught, placed, recovered),
        "seconds": round(time.perf_counter() - began, 2),
    }


def _verdict(caught: bool, placed: bool, recovered: bool | None) -> str:
    """A fault's outcome in words."""
    if not caught:
        return "missed"
    words = "caught and placed" if placed else "caught, but placed wrongly"
    if recovered is None:
        return words
    return f"{words}; {'bit-exact again' if recovered else 'but the next frame was wrong'}"


def run_selftest(
    preset: str = "tiny",
    out: Path = Path("build/selftest"),
    on_progress: Progress = silent,
    *,
    kinds: Sequence[Callable[[Subject], Fault]] = KINDS,
) -> dict[str, Any]:
    """Inject every kind of fault and require each to be caught and placed.

    Parameters
    ----------
    preset:
        The machine.
    out:
        Folder of ``selftest.json``.
    on_progress:
        Called with stage, fraction and detail.
    kinds:
        Functions that make the faults.

    Returns
    -------
    dict
        Content of ``selftest.json``: ``passed``, ``caught`` and ``total``, the ``clean`` run's verdict and for each
        fault what was injected, where it was expected and reported, the verdict and the seconds it took.

    Raises
    ------
    ValueError
        Unknown preset.
    sim.verilator.build.BuildError, common.tools.ToolError
        The simulator cannot be built.
    sim.bench.run.BenchFailure
        A simulation did not come to its end for another reason than an assertion of the hardware.
    """
    began = time.perf_counter()
    config = find_preset(preset)
    on_progress("build", 0.0, f"simulator of preset {preset}: a minute the first time, then kept")
    simulator = machine_simulator(config)
    on_progress("build", 1.0, "")
    subject = Subject(config)
    clean = run_clean(subject, simulator)
    faults: list[dict[str, Any]] = []
    for number, make in enumerate(kinds if clean["passed"] else ()):
        fault = make(subject)
        on_progress("faults", number / len(kinds), fault.kind)
        faults.append(try_fault(subject, fault, simulator))
    on_progress("faults", 1.0, "")
    passed = sum(fault["passed"] for fault in faults)
    result = {
        "preset": preset,
        "model": MODEL.to_dict(),
        "seed": SEED,
        "passed": clean["passed"] and passed == len(kinds),
        "caught": passed,
        "total": len(kinds),
        "clean": clean,
        "faults": faults,
        "seconds": round(time.perf_counter() - began, 1),
        "tool_versions": tool_versions(),
        "git": git_id(),
    }
    write_json(Path(out) / "selftest.json", result)
    return result
