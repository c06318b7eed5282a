"""Runs inside the simulator: ComputeEngine against the exact list of beats, in surroundings that check and react."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hw.config import AcceleratorConfig
from hw.interfaces import MEMORY_LATENCY, StepKind
from sim.streams import clock_and_reset, parameters, record, rng
from tests.hw.engine_model import Beat, beats, tiles
from tests.hw.port_bits import port_bits, scalar_fields

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
        self.written: deque[tuple[int, bool]] = deque()
        self.scores = 0
        self.softmax: deque[int] = deque()
        self.softmax_started = self.softmax_ended = 0

    def slow(self, cycles: int = 1) -> int:
        """0, or with ``stall`` a random number of cycles."""
        return int(self.random.integers(1, cycles + 1)) if self.random.random() < self.stall else 0

    def begin_job(self) -> None:
        """Query tiles are counted within a job."""
        self.scores = self.softmax_started = self.softmax_ended = 0
        assert not self.softmax and not self.written, "the job was done too early"

    def observe(self) -> None:
        """What happened in the cycle that just ended."""
        dut, now = self.dut, self.now
        if dut.hold__valid.value == 1:
            write = scalar_hold(dut)
            self.held[write["element"], write["address"]] = write["data"]
        self.filled += self.filling
        self.filling = 0
        self.freed += int(dut.tile_freed.value)
        taken = dut.load__valid.value == 1 and dut.load__ready.value == 1
        self.loads.append(int(dut.load__payload.value) if taken else None)
        entry = scalar_fields("queue_address", int(dut.queue_address.value))
        token, weight = self.queues[entry["expert"]][entry["position"]]
        self.entries.append(port_bits("queue_entry", {"token": np.array([token]), "weight": np.array([weight])})[0])
        if dut.softmax__valid.value == 1 and dut.softmax__ready.value == 1:
            self.begin_softmax(scalar_fields("softmax__payload", int(dut.softmax__payload.value)))
        if dut.step__valid.value == 1:
            fields = scalar_fields("step__payload", int(dut.step__payload.value))
            before = self.written[-1][0] if self.written else 0
            is_score = bool(fields["attention"]) and fields["kind"] == StepKind.SCORE
            self.written.append((max(before + 1, now + SCORE_LATENCY + self.slow(30)), is_score))

    def begin_softmax(self, job: dict[str, int]) -> None:
        """A softmax job may only come when all scores of its tile have been written."""
        assert job == self.expected_softmax | {"buffer": self.softmax_started % 2}, f"softmax job {job}"
        assert self.scores >= (self.softmax_started + 1) * job["tokens"], "softmax before its scores"
        self.softmax_started += 1
        self.softmax.append(self.now + 3 + self.slow(200))

    def drive(self) -> None:
        """Inputs of the coming cycle."""
        dut, now = self.dut, self.now
        dut.parameters_level.value = self.channels if now >= self.parameters_at else self.channels // 2
        self.filling = int(self.filled < self.weight_tiles and self.filled - self.freed < 2 and not self.slow())
        dut.tile_filled.value = self.filling
        load = self.loads.popleft()
        dut.load_data__valid.value = int(load is not None)
        dut.load_data__payload.value = 0 if load is None else pattern(load, self.config)
        dut.load__ready.value = int(not self.slow())
        dut.queue_entry.value = self.entries.popleft()
        wrote_score = 0
        if self.written and self.written[0][0] <= now:
            wrote_score = int(self.written.popleft()[1])
        self.scores += wrote_score
        dut.score_written.value = wrote_score
        dut.writeback_idle.value = int(not self.written)
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
    address = int(dut.broadcast_address.value)
    assert address == beat.broadcast and dut.broadcast_enable.value == 1, f"address {address}, expected {beat}"
    assert int(dut.step__valid.value) == int(beat.step is not None), f"step or not: {beat}"
    if beat.step is not None:
        step = scalar_fields("step__payload", int(dut.step__payload.value))
        step = {name: value for name, value in step.items() if name in beat.step}
        assert step == beat.step, f"step {step}, expected {beat.step}"
        constants = scalar_fields("constants", int(dut.constants.value))
        assert constants == {name: job[name] for name in constants}, f"constants {constants}"


async def run_job(dut: Any, around: Surroundings, job: dict[str, int], expected: deque[Beat]) -> dict[str, Any]:
    """Give one job, follow it to its end; returns what was seen of its timing."""
    around.begin_job()
    around.channels, around.parameters_at = job["channels"], around.now + around.slow(200)
    around.expected_softmax = {name: job[name] for name in ("tokens", "output_multiplier", "output_shift")}
    total, silent, waiting = len(expected), 0, True
    seen: dict[str, Any] = {"beats": total, "at": [], "steps": [], "weights": 0, "attention": 0, "drain": 0}
    dut.job__payload.value = port_bits("job__payload", {k: np.array([v]) for k, v in job.items()})[0]
    dut.job__valid.value = 1
    while True:
        around.drive()
        await RisingEdge(dut.clk)
        around.now += 1
        if dut.beat__valid.value == 1:
            assert expected, f"a beat too many: {int(dut.broadcast_address.value)}"
            around.check_operands(expected[0])
            ready = job["attention"] or not job["channels"] or around.now > around.parameters_at
            assert ready, "a beat before the job's parameters have come"
            seen["at"].append(around.now)
            if expected[0].step is not None:
                seen["steps"].append(around.now)
            check_beat(dut, expected.popleft(), job)
            silent = 0
        else:
            assert dut.step__valid.value == 0 and dut.broadcast_enable.value == 0
            silent += 1
        reasons = [name for name in ("weights", "attention", "drain") if getattr(dut, f"stall_{name}").value == 1]
        for name in reasons:
            seen[name] += 1
        wanted = int(dut.busy.value == 1 and dut.beat__valid.value == 0)
        assert len(reasons) == wanted, f"stall reasons {reasons}, expected {wanted}"
        if waiting and dut.job__ready.value == 1:
            waiting, seen["taken"] = False, around.now
            dut.job__valid.value = 0
        release = int(dut.parameters_release__payload.value) if dut.parameters_release__valid.value == 1 else None
        done = dut.done.value == 1
        assert release == (job["channels"] if done and not job["attention"] else None), f"release {release}"
        around.observe()
        if done:
            assert not expected, f"done with {len(expected)} beats missing"
            assert not around.written, "done before everything was written"
            return seen | {"done": around.now}
        assert silent < 3000, f"nothing for 3000 cycles; next is {expected[0] if expected else 'the end'}"


@cocotb.test()
async def beats_are_those_of_the_model(dut):
    """Every job of the list, one after the other."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    jobs = settings["jobs"]
    around = Surroundings(dut, config, settings["queues"], settings["stall"], sum(tiles(job, config) for job in jobs))
    tile, timing = 0, []
    for job in jobs:
        timing.append(await run_job(dut, around, job, deque(beats(config, job, settings["queues"], tile))))
        tile += tiles(job, config)
    record(timing=timing)
