"""Runs inside the simulator: Writeback among models of its neighbours; every memory write is compared, in order."""

from collections import deque

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.hw.compute.writeback import Writeback
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import StepKind
from tessera.hw.interfaces.memory import MEMORY_LATENCY, RESIDUAL_LATENCY
from tessera.hw.tables import ActivationTable, hardswish_table, sigmoid_table, silu_table
from tessera.sim.bench.streams import clock_and_reset, parameters, record, rng
from tests.helpers.port_bits import port_bits, port_values
from tests.hw.compute.table_lines import table_lines
from tests.hw.compute.writeback_jobs import KINDS, Job, JobMaker

ARRAY_LATENCY = 9
PULSES = {"row_written": "row_last", "progress__job_written": "job_last"}
"""Ports, and the steps that they report."""
TABLES = (sigmoid_table, silu_table, hardswish_table)
MEMORIES = ("scratch_write", "residual_write", "score_write")


class Neighbours:
    """Parameter store, residual memory and array around the device, one cycle at a time."""

    def __init__(self, dut, config: AcceleratorConfig, residual: np.ndarray) -> None:
        self.dut, self.config = dut, config
        self.residual = residual.copy()
        self.cycle = 0
        self.saturated = False
        self.written: dict[str, list[tuple[int, dict]]] = {name: [] for name in MEMORIES}
        self.pulses: dict[str, list[int]] = {name: [] for name in PULSES}
        self.results: deque[tuple[int, int]] = deque()
        self._sets: list[int] = []
        self._landing: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._parameter_reads = deque([0] * MEMORY_LATENCY)
        self._residual_reads = deque([0] * RESIDUAL_LATENCY)

    def begin(self, job: Job) -> None:
        """Show a job's constants, scales and parameter sets."""
        group, dut = self.config.requantise_lanes, self.dut
        scalars = {name: np.array([value]) for name, value in job.constants.items()}
        dut.constants.value = port_bits("constants", scalars)[0]
        dut.query_scales.value = port_bits("query_scales", {n: v[None] for n, v in job.scales.items()})[0]
        sets = {name: values.reshape(-1, group) for name, values in job.parameters.items()}
        sets |= {name: np.zeros_like(sets["shift"]) for name in ("reserved", "unused")}
        self._sets = port_bits("parameters__data", sets)

    async def load(self, table: ActivationTable) -> None:
        """Write an activation function's table, a chunk every cycle."""
        for line in table_lines(table, self.config):
            self.dut.table_write__valid.value = 1
            self.dut.table_write__payload.value = line
            await self.step()
        self.dut.table_write__valid.value = 0

    async def step(self, bits: int | None = None) -> bool:
        """One clock cycle, in which a step may be issued; returns ``idle`` of that cycle."""
        dut = self.dut
        dut.step__valid.value = int(bits is not None)
        if bits is not None:
            dut.step__payload.value = bits
        arrives = bool(self.results) and self.results[0][0] == self.cycle
        dut.result__valid.value = int(arrives)
        if arrives:
            dut.result__payload.value = self.results.popleft()[1]
        dut.parameters__data.value = self._parameter_reads.popleft()
        dut.residual_read__data.value = self._residual_reads.popleft()
        await RisingEdge(dut.clk)
        self._serve()
        self.cycle += 1
        return dut.progress__idle.value == 1

    def _serve(self) -> None:
        """Answer this cycle's reads when their latency is over, then do the writes of the cycle before."""
        dut, group = self.dut, self.config.requantise_lanes
        index = int(dut.parameters__address.value) // group
        self._parameter_reads.append(self._sets[index] if index < len(self._sets) else 0)
        word = 0
        if dut.residual_read__enable.value == 1:
            word = port_bits("residual_read__data", self.residual[None, int(dut.residual_read__address.value)])[0]
        self._residual_reads.append(word)
        for address, lanes, values in self._landing:
            self.residual[address, lanes] = values
        self._landing = []
        self.saturated |= dut.saturated.value == 1
        for name in PULSES:
            if getattr(dut, name).value == 1:
                self.pulses[name].append(self.cycle)
        for name in MEMORIES:
            if getattr(dut, f"{name}__valid").value == 1:
                payload = port_values(f"{name}__payload", [int(getattr(dut, f"{name}__payload").value)])
                entry = {field: values[0] for field, values in payload.items()}
                self.written[name].append((self.cycle, entry))
                if name == "residual_write":
                    lanes = np.repeat(
                        (int(entry["columns"]) >> np.arange(self.config.columns)) & 1, self.config.elements
                    )
                    self._landing.append((int(entry["address"]), lanes == 1, entry["data"][lanes == 1]))


def compare(config: AcceleratorConfig, job: Job, written: dict[str, list[tuple[int, dict]]], context: str) -> None:
    """Every write of a job, lane by lane; lanes of unwritten columns do not matter."""
    for name in MEMORIES:
        got, want = [entry for _, entry in written[name]], job.writes[name]
        assert len(got) == len(want), f"{context}: {len(got)} writes to {name}, expected {len(want)}"
        for number, (a, b) in enumerate(zip(got, want, strict=True)):
            where = f"{context}: {name} {number}"
            for field in b.keys() - {"data"}:
                assert a[field] == b[field], f"{where}: {field} is {a[field]}, expected {b[field]}"
            lanes = a["data"]
            if name != "score_write":
                mask = np.repeat((int(a["columns"]) >> np.arange(config.columns)) & 1, config.elements) == 1
                lanes = lanes[mask]
            assert np.array_equal(lanes, b["data"]), f"{where}: {lanes}, expected {b['data']}"


def check_timing(config: AcceleratorConfig, job: Job, issued: list[int], written: dict, pulses: dict) -> None:
    """The documented latency of all but the transposer's writes, and that rows and jobs are reported with theirs."""
    groups = config.elements // config.requantise_lanes
    memory = "residual_write" if job.writes["residual_write"] else "score_write"
    if not job.writes[memory]:
        memory = "scratch_write"
    extra = Writeback.RESIDUAL_UPDATE if memory == "residual_write" else 0
    steps = [t for t, step in zip(issued, job.steps, strict=True) if step["kind"] != StepKind.ATTENTION]
    want = [t + ARRAY_LATENCY + Writeback.LATENCY + groups - 1 + extra for t in steps]
    assert [cycle for cycle, _ in written[memory]] == want
    for name, mark in PULSES.items():
        reported = [t for t, step in zip(want, job.steps, strict=False) if step[mark]]
        assert pulses[name] == reported, f"{name} in {pulses[name]}, expected {reported}"


@cocotb.test()
async def every_write_is_exact(dut):
    """Random jobs of every kind, steps as close as allowed or with pauses, one job after the other's idle."""
    await clock_and_reset(dut)
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    random = rng()
    maker = JobMaker(config, random)
    around = Neighbours(dut, config, maker.residual)
    spacing = config.elements // config.requantise_lanes
    order = list(KINDS) + list(random.choice(KINDS, settings["jobs"]))
    for number, kind in enumerate(order):
        if number % 20 == 0:
            maker.table = TABLES[number // 20 % len(TABLES)]()
            await around.load(maker.table)
        job, context = maker.job(kind), f"job {number} ({kind})"
        around.begin(job)
        around.saturated = False
        around.written = {name: [] for name in MEMORIES}
        around.pulses = {name: [] for name in PULSES}
        steps = port_bits("step__payload", {f: np.array([s[f] for s in job.steps]) for f in job.steps[0]})
        sums = port_bits("result__payload", np.array(job.results))
        issued, stall = [], 0.4 * (number % 3 == 2)
        for bits, accumulators in zip(steps, sums, strict=True):
            issued.append(around.cycle)
            around.results.append((around.cycle + ARRAY_LATENCY, accumulators))
            idle = await around.step(bits)
            assert idle == (len(issued) == 1), f"{context}: idle is {idle} with step {len(issued)}"
            pause = spacing - 1 + int(random.integers(0, 4)) * (random.random() < stall)
            for _ in range(pause):
                assert not await around.step(), f"{context}: idle after step {len(issued)}"
        for _ in range(200):
            if await around.step():
                break
        else:
            raise AssertionError(f"{context}: never idle")
        last = max(cycle for entries in around.written.values() for cycle, _ in entries)
        rises = around.cycle - 1
        assert rises == last + 2, f"{context}: idle in cycle {rises}, last write in {last}"
        compare(config, job, around.written, context)
        check_timing(config, job, issued, around.written, around.pulses)
        assert around.saturated == job.saturated, f"{context}: saturated is {around.saturated}"
        assert np.array_equal(around.residual, maker.residual), f"{context}: the residual memory differs"
    record(**maker.seen)


async def issue(dut, config: AcceleratorConfig, count: int, gap: int, results: int) -> None:
    """Equal steps that add to one residual column, ``gap`` cycles apart; the array answers the first ones."""
    maker = JobMaker(config, rng())
    job = maker.job("residual_add")
    around = Neighbours(dut, config, maker.residual)
    around.begin(job)
    bits = port_bits("step__payload", {field: np.array([value]) for field, value in job.steps[0].items()})[0]
    for number in range(count):
        if number < results:
            around.results.append((around.cycle + ARRAY_LATENCY, 0))
        await around.step(bits)
        for _ in range(gap - 1):
            await around.step()
    for _ in range(60):
        await around.step()


@cocotb.test()
async def overflow_is_asserted(dut):
    """More steps than the queues hold, and no results (run on its own: the assertion ends the simulation)."""
    await clock_and_reset(dut)
    await issue(dut, AcceleratorConfig.from_dict(parameters()["config"]), 65, 4, 0)


@cocotb.test()
async def hazard_is_asserted(dut):
    """One residual column added to twice in a row (run on its own)."""
    await clock_and_reset(dut)
    await issue(dut, AcceleratorConfig.from_dict(parameters()["config"]), 2, parameters()["gap"], 2)


@cocotb.test()
async def close_results_are_asserted(dut):
    """Two results less than P / R cycles apart (run on its own)."""
    await clock_and_reset(dut)
    await issue(dut, AcceleratorConfig.from_dict(parameters()["config"]), 2, 1, 2)
