"""Runs inside the simulator: ComputeEngine against the exact list of beats, in surroundings that check and react."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import StepKind
from tessera.hw.interfaces.memory import MEMORY_LATENCY
from tessera.hw.isa import Destination
from tessera.sim.bench.streams import clock_and_reset, parameters, record, rng
from tests.helpers.port_bits import port_bits, scalar_fields
from tests.hw.compute.engine_model import WRAP, Beat, beats, tiles

SCORE_LATENCY = 14


class Surroundings:
    """Weight router, scratchpad, queues, softmax and write-back around the engine, as slow as ``stall`` makes them."""

    def __init__(self, dut: Any, config: AcceleratorConfig, queues: list, stall: float, weight_tiles: int) -> None:
        self.dut, self.config, self.queues, self.stall = dut, config, queues, stall
        self.random = rng("surroundings")
        self.now = 0
        self.held: dict[tuple[int, int], int] = {}
        self.weight_tiles, self.filled, self.filling, self.freed = weight_tiles, 0, 0, 0
        self.loads: deque[int | None] = deque([None] * MEMORY_LATENCY)
        self.entries: deque[int] = deque([0] * MEMORY_LATENCY)
        self.written: deque[tuple[int, bool, bool]] = deque()
        self.jobs: deque[tuple[int, dict[str, int], int]] = deque()
        self.rows = self.rows_before = self.rows_wanted = 0
        self.scores = 0
        self.softmax: deque[int] = deque()
        self.softmax_started = self.softmax_ended = 0

    def slow(self, cycles: int = 1) -> int:
        """0, or with ``stall`` a random number of cycles."""
        return int(self.random.integers(1, cycles + 1)) if self.random.random() < self.stall else 0

    def begin_job(self, number: int, job: dict[str, int]) -> None:
        """The engine has taken a job: its parameters come, and the rows that it follows."""
        self.jobs.append((number, job, self.now + self.slow(200)))
        self.rows = 0 if self.stall and not job["attention"] and self.random.random() < 0.7 else WRAP
        self.rows_wanted = job["steps"]
        if job["attention"]:
            self.scores = self.softmax_started = self.softmax_ended = 0
            self.expected_softmax = {name: job[name] for name in ("keys", "output_multiplier", "output_shift")}

    def level(self) -> int:
        """Parameter sets that have come and not been released; of a late job half of its own."""
        sets = [(job["channels"], self.now >= at) for _, job, at in self.jobs if not job["attention"]]
        return sum(channels if come else channels // 2 for channels, come in sets)

    def observe(self) -> None:
        """What happened in the cycle that just ended."""
        dut, now = self.dut, self.now
        if dut.hold__valid.value == 1:
            write = scalar_hold(dut)
            self.held[write["element"], write["address"]] = write["data"]
        self.filled += self.filling
        self.filling = 0
        self.freed += int(dut.tiles__freed.value)
        taken = dut.load__valid.value == 1 and dut.load__ready.value == 1
        self.loads.append(int(dut.load__payload.value) if taken else None)
        entry = scalar_fields("queue_read__address", int(dut.queue_read__address.value))
        token, weight = self.queues[entry["expert"]][entry["position"]]
        self.entries.append(
            port_bits("queue_read__data", {"token": np.array([token]), "weight": np.array([weight])})[0]
        )
        if dut.softmax__valid.value == 1 and dut.softmax__ready.value == 1:
            self.begin_softmax(scalar_fields("softmax__payload", int(dut.softmax__payload.value)))
        if dut.step__valid.value == 1:
            fields = scalar_fields("step__payload", int(dut.step__payload.value))
            before = self.written[-1][0] if self.written else 0
            is_score = bool(fields["attention"]) and fields["kind"] == StepKind.SCORE
            at = max(before + 1, now + SCORE_LATENCY + self.slow(30))
            self.written.append((at, is_score, bool(fields["job_last"])))

    def begin_softmax(self, job: dict[str, int]) -> None:
        """A softmax job may only come when all scores of its tile have been written."""
        assert job == self.expected_softmax | {"buffer": self.softmax_started % 2}, f"softmax job {job}"
        assert self.scores >= (self.softmax_started + 1) * job["keys"], "softmax before its scores"
        self.softmax_started += 1
        self.softmax.append(self.now + 3 + self.slow(200))

    def drive(self) -> None:
        """Inputs of the coming cycle."""
        dut, now = self.dut, self.now
        dut.parameters__level.value = self.level()
        self.rows_before = self.rows
        if self.rows != WRAP:
            self.rows = WRAP if self.rows >= self.rows_wanted else self.rows + int(self.random.random() < 0.2)
        dut.rows_ready.value = self.rows
        self.filling = int(self.filled < self.weight_tiles and self.filled - self.freed < 2 and not self.slow())
        dut.tiles__filled.value = self.filling
        load = self.loads.popleft()
        dut.load_data__valid.value = int(load is not None)
        dut.load_data__payload.value = 0 if load is None else pattern(load, self.config)
        dut.load__ready.value = int(not self.slow())
        dut.queue_read__data.value = self.entries.popleft()
        wrote_score = wrote_job = 0
        if self.written and self.written[0][0] <= now:
            _, wrote_score, wrote_job = self.written.popleft()
        self.scores += wrote_score
        dut.progress__score_written.value = int(wrote_score)
        dut.progress__job_written.value = int(wrote_job)
        dut.progress__idle.value = int(not self.written)
        ended = bool(self.softmax) and self.softmax[0] <= now
        if ended:
            self.softmax.popleft()
            self.softmax_ended += 1
        dut.softmax_done.value = int(ended)
        dut.softmax__ready.value = int(not self.softmax and not self.slow())

    def check_operands(self, beat: Beat) -> None:
        """What the beat reads from the banks is there, and still there."""
        address = beat.fields["stationary_address"]
        if beat.rows is not None:
            got = [self.held.get((element, address)) for element in range(self.config.elements)]
            want = [0 if row is None else pattern(row, self.config) for row in beat.rows]
            assert got == want, f"held rows at bank word {address}: {got}, expected {want}"
        elif beat.fields["stationary_unsigned"]:
            assert beat.tile < self.softmax_ended, f"AV({beat.tile}) before its exponentials"
            assert beat.tile + 2 >= self.softmax_started, f"AV({beat.tile}): its exponentials were overwritten"
        else:
            assert self.freed <= beat.tile < self.filled, f"weight tile {beat.tile} is not in the banks"


def pattern(address: int, config: AcceleratorConfig) -> int:
    """A scratchpad word that depends on its address and is never zero."""
    return (address * 0x9E3779B1 + 1) % ((1 << config.numerics.activation_width * config.lanes) - 1) + 1


def scalar_hold(dut: Any) -> dict[str, int]:
    """The bank write in progress, its data as one integer."""
    bits = int(dut.hold__payload.value)
    fields = scalar_fields("hold__payload", bits)
    width = len(dut.load_data__payload)
    return {
        "element": fields["element"],
        "address": fields["address"],
        "data": bits >> (len(dut.hold__payload) - width),
    }


def check_beat(dut: Any, beat: Beat, job: dict[str, int]) -> None:
    """Compare beat, broadcast address, step and constants with the expected ones."""
    got = scalar_fields("beat__payload", int(dut.beat__payload.value))
    assert got == beat.fields, f"beat {got}, expected {beat}"
    address = int(dut.broadcast__payload.value)
    assert address == beat.broadcast and dut.broadcast__valid.value == 1, f"address {address}, expected {beat}"
    assert int(dut.step__valid.value) == int(beat.step is not None), f"step or not: {beat}"
    if beat.step is not None:
        step = scalar_fields("step__payload", int(dut.step__payload.value))
        step = {name: value for name, value in step.items() if name in beat.step}
        assert step == beat.step, f"step {step}, expected {beat.step}"
    multiplies = not job["attention"] and job["destination"] == Destination.RESIDUAL_MULTIPLY
    wanted = {name: job[name] for name in ("score_multiplier", "score_shift") if job["attention"]}
    if multiplies or (job["function"] and not job["attention"]):
        wanted |= {name: job[name] for name in ("function", "function_multiplier", "function_shift")}
        wanted["multiplies"] = int(multiplies)
    if job["convolution"] and not job["attention"]:
        wanted["padding"] = job["padding"] & scalar_fields("constants", -1)["padding"]
    constants = scalar_fields("constants", int(dut.constants.value))
    assert constants | wanted == constants, f"constants are {constants}, not {wanted}"


class Followed:
    """A job under way: its beats to come, and what was seen of its timing."""

    def __init__(self, number: int, job: dict[str, int], beats: deque[Beat], taken: int) -> None:
        self.number, self.job, self.beats = number, job, beats
        self.issued = 0
        self.seen: dict[str, Any] = {"beats": len(beats), "at": [], "steps": [], "taken": taken}

    def row(self) -> int | None:
        """The broadcast row of the next beat, if it is a first beat of the job's first phase."""
        step, word = divmod(self.issued, max(1, self.job["words"]))
        follows = not (self.job["attention"] or self.job["swapped"] or self.job["gather"])
        return step if follows and word == 0 and step < self.job["steps"] else None


def check_reasons(dut: Any) -> None:
    """A cycle of a job without a beat has exactly one reason."""
    names = ("weights", "activations", "softmax", "drain")
    reasons = [name for name in names if getattr(dut, f"stall__{name}").value == 1]
    wanted = int(dut.busy.value == 1 and dut.beat__valid.value == 0)
    assert len(reasons) == wanted, f"stall reasons {reasons}, expected {wanted}"


async def follow(dut: Any, around: Surroundings, jobs: list[dict[str, int]], model: Any) -> list[dict[str, Any]]:
    """Give the jobs one after the other, each as soon as it is taken, to the end of the last."""
    under_way: deque[Followed] = deque()
    finished: list[dict[str, Any]] = []
    given, silent = 0, 0
    while len(finished) < len(jobs):
        around.drive()
        offered = given < len(jobs)
        dut.job__valid.value = int(offered)
        if offered:
            fields = {name: np.array([value]) for name, value in jobs[given].items()}
            dut.job__payload.value = port_bits("job__payload", fields)[0]
        await RisingEdge(dut.clk)
        around.now += 1
        silent += 1
        if dut.beat__valid.value == 1:
            silent = 0
            current = next((job for job in under_way if job.beats), None)
            assert current, f"a beat too many: {int(dut.broadcast__payload.value)}"
            expected, row = current.beats[0], current.row()
            around.check_operands(expected)
            ready = all(number != current.number or around.now > at for number, _, at in around.jobs)
            assert ready or current.job["attention"], "a beat before the job's parameters have come"
            waits = not current.job["attention"] and current.job["destination"] == Destination.RESIDUAL_MULTIPLY
            assert current is under_way[0] or not waits, "the residual is multiplied before earlier jobs are written"
            assert row is None or row < around.rows_before, f"row {row} of {around.rows_before} is read too early"
            current.seen["at"].append(around.now)
            if expected.step is not None:
                current.seen["steps"].append(around.now)
            check_beat(dut, current.beats.popleft(), current.job)
            current.issued += 1
        else:
            assert dut.step__valid.value == 0 and dut.broadcast__valid.value == 0
        check_reasons(dut)
        done = dut.done.value == 1
        assert done == (dut.parameters__release__valid.value == 1), "parameters are released when a job is done"
        if done:
            job = under_way.popleft()
            assert not job.beats, f"done with {len(job.beats)} beats missing"
            release, channels = int(dut.parameters__release__payload.value), job.job["channels"]
            assert release == (0 if job.job["attention"] else channels), f"release {release}"
            around.jobs.popleft()
            finished.append(job.seen | {"done": around.now})
        around.observe()
        if offered and dut.job__ready.value == 1:
            under_way.append(Followed(given, jobs[given], deque(model(given)), around.now))
            around.begin_job(given, jobs[given])
            given += 1
        assert len(under_way) <= 3 and silent < 3000, f"nothing for {silent} cycles, {len(under_way)} jobs under way"
    return finished


@cocotb.test()
async def beats_are_those_of_the_model(dut):
    """Every job of the list; the next one is offered at once."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    jobs = settings["jobs"]
    counts = [tiles(job, config) for job in jobs]
    channels = [0 if job["attention"] else job["channels"] for job in jobs]
    around = Surroundings(dut, config, settings["queues"], settings["stall"], sum(counts))

    def model(number: int) -> Any:
        first = sum(counts[:number]), sum(channels[:number])
        return beats(config, jobs[number], settings["queues"], *first)

    record(timing=await follow(dut, around, jobs, model))
