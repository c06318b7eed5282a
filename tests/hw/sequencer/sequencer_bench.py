"""In the simulator: random programs against a list of the jobs that they must lead to."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.hw.isa import (
    COMMAND_BYTES,
    FIELDS,
    MAX_BIAS_WORDS,
    Destination,
    ErrorCode,
    Follow,
    NormMode,
    Opcode,
    Unit,
    decode,
    encode,
)
from tessera.hw.presets import preset
from tessera.hw.sequencer.ledger import ENGINE, FOLLOWERS, GATE, IMAGE, NORM, STORE, STREAM
from tessera.sim.bench.streams import StreamMonitor, clock_and_reset, cycle, parameters, read, rng, wait_cycles
from tests.helpers.port_bits import port_bits, scalar_fields
from tests.hw.sequencer.expected_jobs import DELIVERIES, UNITS, ExpectedJobs

CONFIG = preset(parameters()["preset"])
PROGRAM_ADDRESS = 0x1000
WEIGHT_ADDRESS = 0x8000
IMAGE_BASE = 0x12340
OUTPUT_BASE = 0x56780
UNIT_NUMBERS = {"engine": ENGINE, "layernorm": NORM, "gate": GATE, "image": IMAGE, "store": STORE, "stream": STREAM}
CONVOLUTION_COUNTS = (
    "steps", "stationary_rows", "tap_words", "taps_y", "taps_x", "stride_y", "stride_x", "input_rows", "input_columns",
    "output_columns",
)  # fmt: skip
"""Fields of a convolution that must not be 0."""
LISTED = {"gather": 0, "scatter": 0, "swapped": 0, "windows": 1, "follow": Follow.NOTHING, "list": 0, "task_mask": 1}
LIST_MISUSES = (
    {"gather": 1, "scatter": 1},
    {"gather": 1, "swapped": 1},
    {"scatter": 1, "swapped": 1},
    {"gather": 1, "follow": Follow.ENGINE},
    {"gather": 1, "list": CONFIG.list_entries},
    {"scatter": 1, "list": CONFIG.list_entries - 1, "steps": 2},
)
"""Uses of lists by LINEAR that are refused."""
COUNTING_ROWS = ("layernorm", "image")
"""Units that report the rows that they have written."""


def random_command(random: np.random.Generator, opcode: Opcode) -> bytes:
    """A legal command with random fields; small where the rules want it."""
    small = {
        "words": 8, "tokens": 16, "rows": 16, "channels": 64, "steps": 16, "keys": 16, "heads": 4, "head_words": 3,
        "bias_words": 1,
        "stationary_rows": CONFIG.elements, "source_words": 8, "hidden_words": 8, "hidden_channels": 64,
        "experts": CONFIG.max_experts, "destination": int(max(Destination)), "mode": int(max(NormMode)),
        "stream_address": 1 << 16, "row_bytes": 1 << 16, "plane_bytes": 1 << 20,
    }  # fmt: skip
    values = {}
    for field in FIELDS[opcode]:
        high = min((1 << field.width) - 1, small.get(field.name, 1 << 62))
        values[field.name] = int(random.integers(1 if field.width > 1 else 0, high + 1))
    values["task_mask"] = int(random.integers(0, 4))
    values["after"] = int(random.integers(0, 64)) & int(random.integers(0, 64))
    sources = {Opcode.LINEAR: list(Follow), Opcode.LAYERNORM: list(Follow)[:2], Opcode.GATE: list(Follow)[:2]}
    values["follow"] = int(random.choice(sources.get(opcode, [Follow.NOTHING])))
    if "stream_bytes" in values:
        chunks = int(random.integers(2, 64))
        values["stream_bytes"] = CONFIG.chunk_bytes * chunks
        if "first_bytes" in values:
            values["first_bytes"] = CONFIG.chunk_bytes * int(random.integers(1, chunks))
    if opcode == Opcode.CONVOLUTION:
        values["destination"] = int(random.integers(0, Destination.SCORE))
    if opcode == Opcode.LAYERNORM:
        values["channels"] = int(random.integers(1, values["words"] * CONFIG.lanes + 1))
        values["wide"] *= values["mode"] != NormMode.RECTIFIED_COPY
    if opcode == Opcode.LINEAR:
        values |= {"gather": 0, "scatter": 0} | (
            {} if values["swapped"] else {str(random.choice(["gather", "scatter"])): 1}
        )
        values["list"] = int(random.integers(0, CONFIG.list_entries - values["steps"] + 1))
        if values["swapped"] or values["gather"]:
            values["follow"] = int(Follow.NOTHING)
        if not values["swapped"] or values["destination"] == Destination.SCORE:
            values["windows"] = 1
    if opcode == Opcode.LIST:
        values["destination_base"] = int(random.integers(0, CONFIG.list_entries - values["words"] + 1))
    if "patch" in values:
        values["patch"] = 1 << int(random.integers(0, 5))
    if "top_k" in values:
        values["top_k"] = int(random.integers(1, min(values["experts"], CONFIG.max_top_k) + 1))
    if values.get("stored"):
        values["after"] |= Unit.STORE
    del values["opcode"]
    return encode(opcode, **values)


class UnitModel:
    """A unit: takes jobs when it has room (the engine for two), and is done with them in order after a while."""

    def __init__(self, harness: Harness, name: str) -> None:
        self.harness, self.name, self.number = harness, name, UNIT_NUMBERS[name]
        self.room = 2 if name == "engine" else 1
        self.under_way: deque[list[int]] = deque()  # [command, cycles left]
        self.rows = 0
        self.target: tuple[str, int] | None = None  # whose rows its latest job follows: unit, that unit's job number
        self.taken = self.finished = 0

    def port(self, member: str) -> Any:
        """Handle of a member of the unit's bundle."""
        return getattr(self.harness.dut, f"units__{self.name}__{member}")

    def drive(self) -> None:
        """Inputs of the coming cycle."""
        dut, random = self.harness.dut, self.harness.random
        self.port("job__ready").value = int(len(self.under_way) < self.room and random.random() < 0.7)
        if self.under_way:
            self.under_way[0][1] -= 1
        self.done = bool(self.under_way) and self.under_way[0][1] <= 0
        self.port("report__done").value = int(self.done)
        row = bool(self.under_way) and not self.done and random.random() < 0.3
        self.rows += row
        if self.name == "engine":
            dut.units__engine__report__row_written.value = int(row)
            self.row = row
        elif self.name in COUNTING_ROWS:
            self.port("report__rows_done").value = self.rows

    def check_rows(self) -> None:
        """What it may read in this cycle."""
        if self.number in FOLLOWERS:
            got = int(self.port("report__rows_ready").value)
            assert got == self.rows_ready(), f"{self.name} may read {got} rows, expected {self.rows_ready()}"

    def observe(self) -> None:
        """What happened in the cycle: a job was taken, or one is done."""
        harness, dut = self.harness, self.harness.dut
        job = int(self.port("job__payload").value) if self._takes() else None
        if self.done:
            harness.complete(self.under_way.popleft()[0])
            self.finished += 1
        if self.done or (job is not None and self.name != "engine"):
            self.rows = 0
        if job is not None:
            fields = scalar_fields(f"units__{self.name}__job__payload", job)
            harness.take(self.name, fields)
            self._follow(harness.follow(fields))
            # The engine is never done in two cycles that follow each other.
            fewest = 2 if self.name == "engine" else 1
            self.under_way.append([int(dut.progress__index.value), int(harness.random.integers(fewest, 60))])
            self.taken += 1

    def _takes(self) -> bool:
        return self.port("job__valid").value == 1 and self.port("job__ready").value == 1

    def _follow(self, follow: Follow) -> None:
        source = {Follow.ENGINE: "engine", Follow.NORM: "layernorm", Follow.IMAGE: "image"}.get(follow)
        unit = self.harness.units[source] if source else None
        self.target = (source, unit.taken - 1) if unit and unit.under_way else None

    def rows_ready(self) -> int:
        """Rows that this unit's latest job may read in this cycle."""
        if self.target is None:
            return 0xFFFF
        unit = self.harness.units[self.target[0]]
        if unit.finished > self.target[1]:
            return 0xFFFF
        # A pulse of this cycle counts from the next one on.
        rows = unit.rows - (unit.row if unit.name == "engine" else 0)
        return rows if unit.finished == self.target[1] else 0


class Harness:
    """Memory, units and weight stream around the sequencer; logs what reaches them and checks that it may."""

    def __init__(self, dut, counts: list[int], seed_salt: str) -> None:
        self.dut, self.counts = dut, counts
        self.random = rng(seed_salt)
        self.program = b""
        self.log: list[tuple] = []
        self.errors: list[tuple[int, int, int]] = []
        self.open: dict[int, int] = {}  # jobs under way of each command
        self.started: dict[int, int] = {}  # cycle in which the latest job of each command was handed out
        self.blocks = StreamMonitor(dut, "stream_job", stall=0.3)
        width = max(1, CONFIG.max_tokens.bit_length())
        dut.units__gate__report__counts.value = sum(count << (width * i) for i, count in enumerate(counts))
        self.units = {name: UnitModel(self, name) for name in UNIT_NUMBERS if name != "stream"}
        for routine in (self._memory, self._delivery, self._cycles):
            cocotb.start_soon(routine())

    def follow(self, job: dict[str, int]) -> Follow:
        """What the job in hand follows: the second matrix of an expert the first."""
        opcode, fields = decode(self.program[int(self.dut.progress__index.value) * COMMAND_BYTES :][:COMMAND_BYTES])
        if opcode == Opcode.EXPERTS:
            return Follow.ENGINE if job["scatter"] else Follow.NOTHING
        return Follow(fields["follow"])

    def take(self, unit: str, job: dict[str, int] | None = None) -> None:
        """A unit takes a job of command ``index``: everything that the command comes after must be done."""
        index = int(self.dut.progress__index.value)
        _, fields = decode(self.program[index * COMMAND_BYTES :][:COMMAND_BYTES])
        for earlier in self.open:
            number = self.unit_of(earlier)
            late = earlier < index and self.open[earlier] and fields["after"] >> number & 1
            assert not late, f"command {index} starts before {earlier} is done"
        self.open[index] = self.open.get(index, 0) + 1
        self.started[index] = cycle()
        self.log.append((unit, index if job is None else job))

    def unit_of(self, index: int) -> int:
        """Number of the unit that runs a command."""
        opcode, _ = decode(self.program[index * COMMAND_BYTES :][:COMMAND_BYTES])
        return UNIT_NUMBERS[UNITS.get(opcode, "engine" if opcode == Opcode.EXPERTS else "stream")]

    def complete(self, index: int) -> None:
        """One job of a command is done."""
        self.open[index] -= 1

    async def _memory(self) -> None:
        requests = StreamMonitor(self.dut, "request", stall=0.2)
        size = CONFIG.memory_bytes
        while True:
            request = await requests.receive(1, timeout_cycles=10**7)
            start = int(request["address"][0]) - PROGRAM_ADDRESS
            await wait_cycles(self.dut, int(self.random.integers(1, 40)))
            for beat in range(int(request["beats_minus_one"][0]) + 1):
                offset = start + beat * size
                self.dut.response__payload.value = int.from_bytes(self.program[offset : offset + size], "little")
                self.dut.response__valid.value = 1
                await RisingEdge(self.dut.clk)
                self.dut.response__valid.value = 0
                await wait_cycles(self.dut, int(self.random.integers(0, 3)))

    async def _cycles(self) -> None:
        dut = self.dut
        while True:
            for unit in self.units.values():
                unit.drive()
            await RisingEdge(dut.clk)
            for unit in self.units.values():
                unit.check_rows()
            for unit in self.units.values():
                unit.observe()
            opcode = self.program[int(dut.progress__index.value) * COMMAND_BYTES :][:1]
            if dut.progress__started.value == 1 and opcode and opcode[0] in DELIVERIES:
                self.take("block")
            if dut.progress__error__valid.value == 1:
                payload = int(dut.progress__error__payload.value)
                self.errors.append((payload & 0xFF, payload >> 8, int(dut.progress__index.value)))
            if dut.progress__finished.value == 1:
                assert not any(self.open.values()), f"finished before {self.open}"

    async def _delivery(self) -> None:
        """Deliver STAGE, LOAD_RESIDUAL and LayerNorm's shifts while the sequencer permits it."""
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.units__stream__report__permit.value == 1:
                await wait_cycles(self.dut, int(self.random.integers(1, 40)))
                assert self.dut.units__stream__report__permit.value == 1, "a permit was withdrawn"
                self.dut.units__stream__report__done.value = 1
                await RisingEdge(self.dut.clk)
                self.dut.units__stream__report__done.value = 0
                staged = [index for index, jobs in self.open.items() if jobs and self.unit_of(index) == STREAM]
                for index in staged:
                    self.complete(index)
                await RisingEdge(self.dut.clk)

    async def run(self, program: bytes, task: int) -> None:
        """Start the program and wait until it ends or is refused."""
        self.program = program
        self.open.clear()
        self.started.clear()
        settings = {
            "task_index": task, "program_address": PROGRAM_ADDRESS, "weight_address": WEIGHT_ADDRESS,
            "image_base": IMAGE_BASE, "output_base": OUTPUT_BASE,
        }  # fmt: skip
        self.dut.run__settings.value = port_bits("run__settings", {name: [value] for name, value in settings.items()})[
            0
        ]
        self.dut.run__start.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.run__start.value = 0
        for _ in range(200_000):
            await RisingEdge(self.dut.clk)
            if self.errors or self.dut.progress__finished.value == 1:
                return
        raise AssertionError(f"no end; the log holds {len(self.log)} entries")


def assert_contains(got: dict, want: dict, where: str) -> None:
    """Every field that both know must agree."""
    for name, value in want.items():
        if name in got:
            assert got[name] == value, f"{where}: {name} is {got[name]}, expected {value}"


@cocotb.test()
async def programs_lead_to_their_jobs(dut):
    """Random programs, both tasks, one after the other without a reset."""
    await clock_and_reset(dut)
    random = rng("programs")
    counts = [int(c) for c in random.integers(0, 3, CONFIG.max_experts)]
    counts[0], counts[-1] = 0, CONFIG.max_tokens
    harness = Harness(dut, counts, "harness")
    opcodes = [opcode for opcode in Opcode if opcode != Opcode.END]
    for run in range(parameters()["programs"]):
        chosen = [opcodes[i] for i in random.integers(0, len(opcodes), int(random.integers(0, 40)))]
        program = b"".join(random_command(random, opcode) for opcode in chosen) + encode(Opcode.END)
        program += bytes(random.integers(0, 256, 256, dtype=np.uint8))  # what follows END must not matter
        harness.log.clear()
        await harness.run(program, task=run % 2)
        assert not harness.errors, harness.errors
        expected = ExpectedJobs(
            CONFIG, counts, weight_address=WEIGHT_ADDRESS, image_base=IMAGE_BASE, output_base=OUTPUT_BASE
        ).run(program, run % 2)
        log, blocks = expected.log, expected.blocks
        assert len(harness.log) == len(log), (run, harness.log, log)
        for position, ((name, got), (unit, want)) in enumerate(zip(harness.log, log, strict=True)):
            assert name == unit, f"program {run}, job {position}: went to {name}, expected {unit}"
            if name == "block":
                assert got == want, f"program {run}, job {position}: block of command {got}, expected {want}"
            else:
                assert_contains(got, want, f"program {run}, job {position}, {name}")
        if blocks:
            got = await harness.blocks.receive(len(blocks))
            for position, want in enumerate(blocks):
                one = {key: int(np.asarray(value)[position]) for key, value in got.items()}
                assert_contains(one, want, f"program {run}, block {position}")
                if "stored_by" in want:
                    asked = harness.blocks.cycles[position - len(blocks)]
                    assert asked > harness.started[want["stored_by"]], f"program {run}, block {position}: too early"
        harness.blocks.assert_empty()


@cocotb.test()
async def malformed_commands_are_refused(dut):
    """Each refusal names its code and command, and nothing after it runs."""
    random = rng("refusals")
    cases = [
        (bytes([0x77, 0, 0xFF, 0xFF]) + bytes(60), ErrorCode.BAD_OPCODE),
        (bytes([0, 0, 0xFF, 0xFF]) + bytes(60), ErrorCode.BAD_OPCODE),
    ]
    for opcode, name, value in (
        (Opcode.LINEAR, "steps", 0),
        (Opcode.LINEAR, "words", 0),
        (Opcode.LINEAR, "words", CONFIG.weight_tile_words + 1),
        (Opcode.LINEAR, "destination", 9),
        (Opcode.LINEAR, "channels", CONFIG.parameter_entries + 1),
        (Opcode.LIST, "words", 0),
        (Opcode.LIST, "destination_base", CONFIG.list_entries),
        (Opcode.CONVOLUTION, "words", CONFIG.weight_tile_words + 1),
        (Opcode.CONVOLUTION, "stationary_rows", CONFIG.parameter_entries + 1),
        (Opcode.CONVOLUTION, "destination", Destination.SCORE),
        (Opcode.CONVOLUTION, "follow", Follow.ENGINE),
        *((Opcode.CONVOLUTION, name, 0) for name in CONVOLUTION_COUNTS),
        (Opcode.LINEAR, "windows", 0),
        (Opcode.LINEAR, "windows", 2),
        (Opcode.ATTENTION, "queries", 0),
        (Opcode.ATTENTION, "windows", 0),
        (Opcode.ATTENTION, "keys", 0),
        (Opcode.ATTENTION, "keys", CONFIG.max_tokens + 1),
        (Opcode.ATTENTION, "heads", 0),
        (Opcode.ATTENTION, "head_words", CONFIG.query_words + 1),
        (Opcode.ATTENTION, "value_words", 0),
        (Opcode.ATTENTION, "bias_words", MAX_BIAS_WORDS + 1),
        (Opcode.LAYERNORM, "rows", 0),
        (Opcode.LAYERNORM, "words", CONFIG.layernorm_channels // CONFIG.lanes + 1),
        (Opcode.LAYERNORM, "channels", 8 * CONFIG.lanes + 1),
        (Opcode.LAYERNORM, "wide", 1),
        (Opcode.GATE, "experts", CONFIG.max_experts + 1),
        (Opcode.GATE, "top_k", CONFIG.max_top_k + 1),
        (Opcode.EXPERTS, "experts", 0),
        (Opcode.EXPERTS, "function", 0),
        (Opcode.EXPERTS, "hidden_words", CONFIG.weight_tile_words + 1),
        (Opcode.EXPERTS, "first_bytes", 64 * CONFIG.chunk_bytes),
        (Opcode.LOAD_IMAGE, "patch", 6),
        (Opcode.STORE, "words", 0),
        (Opcode.STAGE, "stream_bytes", 0),
        (Opcode.TABLE, "stream_bytes", 0),
        (Opcode.LINEAR, "stream_bytes", 3 * CONFIG.chunk_bytes // 2),
        (Opcode.STAGE, "words", 0),
        (Opcode.LOAD_RESIDUAL, "words", 0),
        (Opcode.LOAD_RESIDUAL, "stored", 1),
    ):
        fields = decode(random_command(random, opcode))[1]
        fields |= {name: value, "task_mask": 1}
        if (opcode, name, value) == (Opcode.LINEAR, "windows", 2):
            fields["swapped"] = 0
        if (opcode, name) == (Opcode.LAYERNORM, "wide"):
            fields["mode"] = NormMode.RECTIFIED_COPY
        if name == "stored":
            fields["after"] &= ~Unit.STORE
        fields.pop("opcode")
        cases.append((encode(opcode, **fields), ErrorCode.BAD_FIELD))
    for misuse in LIST_MISUSES:
        fields = decode(random_command(random, Opcode.LINEAR))[1] | LISTED | misuse
        fields.pop("opcode")
        cases.append((encode(Opcode.LINEAR, **fields), ErrorCode.BAD_FIELD))
    await clock_and_reset(dut)
    harness = Harness(dut, [1] * CONFIG.max_experts, "refusals")
    for number, (bad, code) in enumerate(cases):
        harness.errors.clear()
        await harness.run(bad + encode(Opcode.END), task=0)
        assert harness.errors == [(int(code), bad[0], 0)], (number, harness.errors, code)
        await wait_cycles(dut, 200)
        assert not harness.log and read(dut.progress__finished) == 0, (number, harness.log)
        dut.rst.value = 1
        await wait_cycles(dut, 2)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
