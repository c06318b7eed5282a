"""In the simulator: random programs against a list of the jobs that they must lead to."""

from __future__ import annotations

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hw.config import preset
from hw.interfaces import StreamKind
from hw.isa import COMMAND_BYTES, FIELDS, Destination, ErrorCode, Opcode, decode, encode
from sim.streams import StreamMonitor, clock_and_reset, parameters, read, rng, wait_cycles, write

CONFIG = preset(parameters()["preset"])
PROGRAM_ADDRESS = 0x1000
WEIGHT_ADDRESS = 0x8000
UNITS = {
    Opcode.LINEAR: "engine",
    Opcode.ATTENTION: "engine",
    Opcode.LAYERNORM: "layernorm",
    Opcode.GATE: "gate",
    Opcode.LOAD_IMAGE: "image",
    Opcode.STORE: "store",
}
BLOCKS = (Opcode.LINEAR, Opcode.LAYERNORM, Opcode.STAGE, Opcode.LOAD_RESIDUAL, Opcode.EXPERTS)


def random_command(random: np.random.Generator, opcode: Opcode) -> bytes:
    """A legal command with random fields; small where the rules want it."""
    small = {
        "words": 8, "tokens": 16, "heads": 4, "head_words": 4, "rows": 16, "channels": 64, "steps": 16,
        "stationary_rows": CONFIG.elements, "source_words": 8, "hidden_words": 8, "hidden_channels": 64,
        "experts": CONFIG.max_experts, "destination": int(max(Destination)),
        "stream_address": 1 << 16, "row_bytes": 1 << 16, "plane_bytes": 1 << 20,
    }  # fmt: skip
    values = {}
    for field in FIELDS[opcode]:
        high = min((1 << field.width) - 1, small.get(field.name, 1 << 62))
        values[field.name] = int(random.integers(1 if field.width > 1 else 0, high + 1))
    values["task_mask"] = int(random.integers(0, 4))
    if "stream_bytes" in values:
        chunks = int(random.integers(2, 64))
        values["stream_bytes"] = CONFIG.chunk_bytes * chunks
        if "first_bytes" in values:
            values["first_bytes"] = CONFIG.chunk_bytes * int(random.integers(1, chunks))
    if opcode == Opcode.LAYERNORM:
        values["channels"] = int(random.integers(1, values["words"] * CONFIG.lanes + 1))
    if "patch" in values:
        values["patch"] = 1 << int(random.integers(0, 5))
    if "top_k" in values:
        values["top_k"] = int(random.integers(1, min(values["experts"], CONFIG.max_top_k) + 1))
    del values["opcode"]
    return encode(opcode, **values)


class Harness:
    """Memory, units and weight stream around the sequencer; logs what reaches them."""

    def __init__(self, dut, counts: list[int], seed_salt: str) -> None:
        self.dut, self.counts = dut, counts
        self.random = rng(seed_salt)
        self.program = b""
        self.log: list[tuple] = []
        self.errors: list[tuple[int, int, int]] = []
        self.monitors = {name: StreamMonitor(dut, f"{name}_job", stall=0.3) for name in set(UNITS.values())}
        self.blocks = StreamMonitor(dut, "stream_job", stall=0.3)
        width = max(1, CONFIG.max_tokens.bit_length())
        dut.counts.value = sum(count << (width * i) for i, count in enumerate(counts))
        for routine in (self._memory, self._delivery, self._errors):
            cocotb.start_soon(routine())
        for name in set(UNITS.values()):
            cocotb.start_soon(self._unit(name))

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

    async def _unit(self, name: str) -> None:
        done = getattr(self.dut, f"{name}_done")
        while True:
            job = await self.monitors[name].receive(1, timeout_cycles=10**7)
            self.log.append((name, {key: int(np.asarray(value).ravel()[0]) for key, value in job.items()}))
            await wait_cycles(self.dut, int(self.random.integers(1, 60)))
            done.value = 1
            await RisingEdge(self.dut.clk)
            done.value = 0

    async def _delivery(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.stream_permit.value == 1:
                await wait_cycles(self.dut, int(self.random.integers(1, 20)))
                self.log.append(("block", int(self.dut.index.value)))
                self.dut.stream_done.value = 1
                await RisingEdge(self.dut.clk)
                self.dut.stream_done.value = 0
                await RisingEdge(self.dut.clk)

    async def _errors(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.error__valid.value == 1:
                payload = int(self.dut.error__payload.value)
                self.errors.append((payload & 0xFF, payload >> 8, int(self.dut.index.value)))

    async def run(self, program: bytes, task: int) -> None:
        """Start the program and wait until it ends or is refused."""
        self.program = program
        write(self.dut.task_index, task)
        write(self.dut.program_address, PROGRAM_ADDRESS)
        write(self.dut.weight_address, WEIGHT_ADDRESS)
        self.dut.start.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.start.value = 0
        for _ in range(200_000):
            await RisingEdge(self.dut.clk)
            if self.errors or self.dut.finished.value == 1:
                return
        raise AssertionError(f"no end; the log holds {len(self.log)} entries")


def expected(program: bytes, task: int, counts: list[int]) -> tuple[list[tuple], list[dict]]:
    """The jobs and the stream blocks of a program, in order."""
    log: list[tuple] = []
    blocks: list[dict] = []
    for index in range(len(program) // COMMAND_BYTES):
        opcode, c = decode(program[index * COMMAND_BYTES :][:COMMAND_BYTES])
        if opcode == Opcode.END:
            break
        if not c["task_mask"] >> task & 1:
            continue
        tiles = -(-c.get("stationary_rows", 0) // CONFIG.elements)
        at = WEIGHT_ADDRESS + c.get("stream_address", 0)
        if opcode == Opcode.LINEAR:
            blocks.append(
                {"kind": StreamKind.WEIGHTS, "address": at, "bytes": c["stream_bytes"], "channels": c["channels"],
                 "tiles": 0 if c["swapped"] else tiles, "words": c["words"], "wide": c["wide"]}
            )  # fmt: skip
        elif opcode == Opcode.LAYERNORM:
            channels = c["words"] * CONFIG.lanes
            blocks.append({"kind": StreamKind.SHIFTS, "address": at, "bytes": c["stream_bytes"], "channels": channels})
        elif opcode in (Opcode.STAGE, Opcode.LOAD_RESIDUAL):
            kind = StreamKind.STAGE if opcode == Opcode.STAGE else StreamKind.RESIDUAL
            block = {"kind": kind, "address": at, "bytes": c["stream_bytes"], "words": c["words"]}
            blocks.append({**block, "base": c["destination_base"]})
        if opcode in (Opcode.STAGE, Opcode.LOAD_RESIDUAL, Opcode.LAYERNORM):
            log.append(("block", index))
        if opcode in UNITS:
            log.append((UNITS[opcode], {**c, "attention": int(opcode == Opcode.ATTENTION)}))
        if opcode == Opcode.EXPERTS:
            for expert in range(c["experts"]):
                if counts[expert]:
                    common = {"expert": expert, "steps": counts[expert], "attention": 0}
                    log.append(
                        (
                            "engine",
                            {
                                **common,
                                "gather": 1,
                                "scatter": 0,
                                "gelu": 1,
                                "words": c["source_words"],
                                "broadcast_base": c["source_base"],
                                "channels": c["hidden_channels"],
                            },
                        )
                    )
                    log.append(
                        (
                            "engine",
                            {
                                **common,
                                "gather": 0,
                                "scatter": 1,
                                "gelu": 0,
                                "words": c["hidden_words"],
                                "destination": 1,
                                "broadcast_unsigned": 1,
                                "channels": c["channels"],
                            },
                        )
                    )
                    block = at + expert * c["stream_bytes"]
                    second = c["stream_bytes"] - c["first_bytes"]
                    blocks.append({"address": block, "bytes": c["first_bytes"], "words": c["source_words"]})
                    blocks.append({"address": block + c["first_bytes"], "bytes": second, "channels": c["channels"]})
    return log, blocks


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
        log, blocks = expected(program, run % 2, counts)
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
        (Opcode.ATTENTION, "tokens", CONFIG.max_tokens + 1),
        (Opcode.ATTENTION, "heads", 0),
        (Opcode.ATTENTION, "head_words", CONFIG.query_words + 1),
        (Opcode.LAYERNORM, "rows", CONFIG.max_tokens + 1),
        (Opcode.LAYERNORM, "words", 1024 // CONFIG.lanes + 1),
        (Opcode.LAYERNORM, "channels", 8 * CONFIG.lanes + 1),
        (Opcode.GATE, "experts", CONFIG.max_experts + 1),
        (Opcode.GATE, "top_k", CONFIG.max_top_k + 1),
        (Opcode.EXPERTS, "experts", 0),
        (Opcode.EXPERTS, "hidden_words", CONFIG.weight_tile_words + 1),
        (Opcode.EXPERTS, "first_bytes", 64 * CONFIG.chunk_bytes),
        (Opcode.LOAD_IMAGE, "patch", 6),
        (Opcode.STORE, "words", 0),
        (Opcode.STAGE, "stream_bytes", 0),
        (Opcode.LINEAR, "stream_bytes", 3 * CONFIG.chunk_bytes // 2),
        (Opcode.STAGE, "words", 0),
        (Opcode.LOAD_RESIDUAL, "words", 0),
    ):
        fields = decode(random_command(random, opcode))[1]
        fields |= {name: value, "task_mask": 1}
        fields.pop("opcode")
        cases.append((encode(opcode, **fields), ErrorCode.BAD_FIELD))
    await clock_and_reset(dut)
    harness = Harness(dut, [1] * CONFIG.max_experts, "refusals")
    for number, (bad, code) in enumerate(cases):
        harness.errors.clear()
        await harness.run(bad + encode(Opcode.END), task=0)
        assert harness.errors == [(int(code), bad[0], 0)], (number, harness.errors, code)
        await wait_cycles(dut, 200)
        assert not harness.log and read(dut.finished) == 0, (number, harness.log)
        dut.rst.value = 1
        await wait_cycles(dut, 2)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
