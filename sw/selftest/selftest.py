"""The self-test: proof that the checks can fail.

Every fault of ``tessera.sw.selftest.kinds`` is injected into the simulated machine, its memory or its program; the
verifier or the machine's own error registers must notice it and say where it is. The next frame on the same machine,
repaired, must be bit-exact again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tessera.common.progress import Progress, silent
from tessera.common.schemas.kinds import SELFTEST
from tessera.common.stamped import write_document
from tessera.hw.isa import ErrorCode
from tessera.hw.presets import preset as find_preset
from tessera.sim.bench.run import BenchFailure
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import SimulationOptions
from tessera.sim.verilator.options import Simulator
from tessera.sw.run.profile import machine_simulator
from tessera.sw.selftest.faults import ASSERTION, MODEL, SEED, Fault, Place, Subject
from tessera.sw.selftest.kinds import KINDS
from tessera.sw.verifier.verdict import Mismatch
from tessera.sw.verifier.verify import verify

NOWHERE = Place()


@dataclass(frozen=True, kw_only=True)
class CleanRun:
    """Both tasks without a fault: whether they were bit-exact, what was compared, and the verdicts in words."""

    passed: bool
    tensors_compared: int
    elements_compared: int
    text: list[str]


@dataclass(frozen=True, kw_only=True)
class FaultOutcome:
    """What became of a fault.

    Parameters
    ----------
    fault:
        What was injected, and where it was expected.
    reported:
        Where it was reported; ``NOWHERE`` if it was missed.
    text, place:
        The whole report, and the part of it that says where.
    recovered:
        Whether the next frame was bit-exact; None if none ran.
    seconds:
        Time that it took.
    """

    fault: Fault
    reported: Place
    text: str
    place: str
    recovered: bool | None
    seconds: float

    @property
    def caught(self) -> bool:
        """Whether anything was reported."""
        return self.reported != NOWHERE

    @property
    def placed(self) -> bool:
        """Whether the report says where the fault is."""
        return self.caught and self.fault.expected.agrees(self.reported)

    @property
    def passed(self) -> bool:
        """Whether the fault was caught and placed, and left nothing behind."""
        return self.placed and self.recovered is not False

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if not self.caught:
            return "missed"
        words = "caught and placed" if self.placed else "caught, but placed wrongly"
        if self.recovered is None:
            return words
        return f"{words}; {'bit-exact again' if self.recovered else 'but the next frame was wrong'}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            "kind": self.fault.kind,
            "injected": self.fault.injected,
            "expected": self.fault.expected.to_dict(),
            "reported": {**self.reported.to_dict(), "text": self.text, "place": self.place},
            "caught": self.caught,
            "placed": self.placed,
            "recovered": self.recovered,
            "passed": self.passed,
            "verdict": self.verdict,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class SelftestReport:
    """What the self-test found.

    Parameters
    ----------
    preset, program_digest:
        Name of the machine, and what it ran.
    clean:
        The run without a fault.
    faults:
        Outcomes, one for each fault that was tried.
    total:
        Faults that there are to try.
    seconds:
        Time that it took.
    """

    preset: str
    program_digest: str
    clean: CleanRun
    faults: list[FaultOutcome]
    total: int
    seconds: float

    @property
    def caught(self) -> int:
        """Faults that passed."""
        return sum(fault.passed for fault in self.faults)

    @property
    def passed(self) -> bool:
        """Whether the clean run and every fault passed."""
        return self.clean.passed and self.caught == self.total

    def to_dict(self) -> dict[str, Any]:
        """Content of ``selftest.json``."""
        return {
            "preset": self.preset,
            "program_digest": self.program_digest,
            "model": MODEL.to_dict(),
            "seed": SEED,
            "passed": self.passed,
            "caught": self.caught,
            "total": self.total,
            "clean": asdict(self.clean),
            "faults": [fault.to_dict() for fault in self.faults],
            "seconds": self.seconds,
        }


def run_clean(subject: Subject, simulator: Simulator) -> CleanRun:
    """Run both tasks without a fault and keep the first frame as the reference of cycles; returns the verdicts."""
    frames = [Frame(task=task, image=subject.image) for task in (subject.task, subject.other_task)]
    results = run_machine(subject.program, frames, simulator=simulator)
    subject.clean = results[0]
    verdicts = [verify(subject.program, subject.golden(result.task), result.traces, result.task) for result in results]
    return CleanRun(
        passed=all(v.passed for v in verdicts) and all(r.error == ErrorCode.NONE for r in results),
        tensors_compared=sum(verdict.tensors_compared for verdict in verdicts),
        elements_compared=sum(verdict.elements_compared for verdict in verdicts),
        text=[str(verdict) for verdict in verdicts],
    )


def try_fault(subject: Subject, fault: Fault, simulator: Simulator) -> FaultOutcome:
    """Run a frame with a fault and one without on the same machine."""
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
    return FaultOutcome(
        fault=fault,
        reported=reported,
        text=text,
        place=str(first_mismatch or text),
        recovered=recovered,
        seconds=round(time.perf_counter() - began, 2),
    )


def run_selftest(
    preset: str = "tiny",
    out: Path = Path("build/selftest"),
    on_progress: Progress = silent,
    *,
    kinds: Sequence[Callable[[Subject], Fault]] = KINDS,
) -> SelftestReport:
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

    Raises
    ------
    ValueError
        Unknown preset.
    tessera.sim.verilator.cxx.BuildError, tessera.common.tools.ToolError
        The simulator cannot be built.
    tessera.sim.bench.run.BenchFailure
        A simulation did not come to its end for another reason than an assertion of the hardware.
    """
    began = time.perf_counter()
    config = find_preset(preset)
    simulator = machine_simulator(config, on_progress=on_progress)
    on_progress("build", 1.0, "")
    subject = Subject(config)
    clean = run_clean(subject, simulator)
    faults: list[FaultOutcome] = []
    for number, make in enumerate(kinds if clean.passed else ()):
        fault = make(subject)
        on_progress("faults", number / len(kinds), fault.kind)
        faults.append(try_fault(subject, fault, simulator))
    on_progress("faults", 1.0, "")
    report = SelftestReport(
        preset=preset,
        program_digest=subject.program.digest,
        clean=clean,
        faults=faults,
        total=len(kinds),
        seconds=round(time.perf_counter() - began, 1),
    )
    write_document(Path(out) / "selftest.json", SELFTEST, report.to_dict())
    return report
