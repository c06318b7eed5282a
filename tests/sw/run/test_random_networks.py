"""Networks that nobody thought of: steps or named operators, exact integers, near to float, and the machine bit by bit.

The random networks are few in the suite and many in ``make test-all``. What they found is a plain test of its own
(test_found_networks.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel
from tessera.golden.integer.plan import UnsupportedOperators, plan
from tessera.hw.presets import PRESETS
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.compiler.compile import compile_model
from tessera.sw.compiler.fit import CapacityError
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.quantiser.saturation import saturation_notices
from tessera.sw.run.profile import machine_simulator
from tessera.sw.verifier.verify import verify
from tests.helpers.models import NUMERICS
from tests.helpers.random_networks import RandomNetwork, random_networks
from tests.helpers.reference_frames import frame

MACHINE = PRESETS["tiny"]
FEW, MANY = 30, 200
AT_ONCE = 40
"""Frames of one simulation: programs follow each other without a reset."""
CLOSE = 0.06
"""Relative error of 16-bit activations where nothing saturates: 0.4 % in most networks, 2.5 % measured at most."""


def examples(count: int) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Run a function on so many networks, which are always the same."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

    def decorate(check: Callable[..., None]) -> Callable[[], None]:
        chosen = settings(
            max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=slow
        )
        return chosen(given(random_networks())(check))

    return decorate


def quantised(found: RandomNetwork, width: int = 8) -> QuantisedModel | None:
    """The network with integers; None if the machine has no step for some operators, which are then named."""
    try:
        plan(found.network)
    except UnsupportedOperators as error:
        names = {one.name for one in found.network.operators}
        assert error.problems and all(name in names and why for name, _, why in error.problems)
        return None
    return quantise(found.model, found.images(4), NUMERICS[width])


def check_integers(found: RandomNetwork) -> None:
    """The golden model against the numerics read one element at a time."""
    model = quantised(found)
    if model is None:
        return
    golden, image = IntegerModel(model, NUMERICS[8]), found.images(5)[4]
    for task in range(len(found.network.tasks)):
        got = golden.run(image, task)
        for name, expected in frame(model, NUMERICS[8], image, task).items():
            assert np.array_equal(got[name], np.array(expected)), f"{name} of task {task} of\n{found}"


def check_against_float(found: RandomNetwork) -> None:
    """What the steps compute is what the operators say: integers of 16 bits are near to float."""
    model = quantised(found, 16)
    if model is None or saturation_notices(model):
        return
    golden, image = IntegerModel(model, NUMERICS[16]), found.images(1)
    for task in range(len(found.network.tasks)):
        got = golden.predict(image[0], task)
        with torch.no_grad():
            expected = found.model.run(torch.from_numpy(image), [task])[0][0].double().numpy().reshape(got.shape)
        error = np.linalg.norm(got - expected) / max(1e-3, float(np.linalg.norm(expected)))
        assert error < CLOSE, f"task {task} is off by {error:.3f} of\n{found}"


@dataclass
class Job:
    """A frame of a network, compiled."""

    found: RandomNetwork
    golden: IntegerModel
    program: Program
    task: int

    @property
    def image(self) -> np.ndarray:
        return self.found.images(5)[4]


def jobs_of(found: RandomNetwork) -> list[Job]:
    """A frame of each task; none of a network that does not fit, for a reason that is said."""
    model = quantised(found)
    if model is None:
        return []
    try:
        program = compile_model(model, MACHINE)
    except CapacityError:
        return []
    golden = IntegerModel(model, MACHINE.numerics)
    return [Job(found, golden, program, task) for task in range(len(found.network.tasks))]


def check_on_the_machine(jobs: list[Job], seed: int) -> None:
    """Frames back to back on one machine, whose memory pauses at random."""
    memory = MemorySettings(stall=(37 * seed) % 120, seed=seed, read_latency=20 + seed % 50)
    frames = [Frame(task=job.task, image=job.image, program=job.program) for job in jobs]
    results = run_machine(jobs[0].program, frames, memory_settings=memory, simulator=machine_simulator(MACHINE))
    for job, result in zip(jobs, results, strict=True):
        verdict = verify(job.program, job.golden.run(job.image, job.task), result.traces, job.task)
        assert verdict.passed, f"{verdict.first} of\n{job.found}"


def run_all(count: int) -> int:
    """All networks on the machine; how many frames there were."""
    jobs: list[Job] = []
    examples(count)(lambda found: jobs.extend(jobs_of(found)))()
    for first in range(0, len(jobs), AT_ONCE):
        check_on_the_machine(jobs[first : first + AT_ONCE], seed=first + 1)
    return len(jobs)


def test_integers_are_the_numerics():
    examples(FEW)(check_integers)()


def test_steps_compute_what_the_operators_say():
    examples(FEW)(check_against_float)()


def test_the_machine_computes_them_bit_by_bit():
    assert run_all(FEW) > FEW // 2


@pytest.mark.soak
def test_many_networks():
    examples(MANY)(check_integers)()
    examples(MANY)(check_against_float)()
    assert run_all(MANY) > MANY // 2
