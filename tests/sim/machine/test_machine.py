"""The whole machine against the integer golden model: every write of every command, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedExperts, QuantisedModel
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES, FIELDS, CycleCause, ErrorCode, Opcode
from tessera.hw.presets import preset
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame, SimulatedFrame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.sdram import SdramSettings
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.compiler.compile import compile_model
from tessera.sw.verifier.verify import verify
from tests.helpers.models import LEAST, UNEVEN, random_geometry
from tests.helpers.random_model import random_image, random_model

MACHINES = [("tiny", 8), ("tiny", 12), ("tiny", 16), ("ecp5-wide", 8), ("edge", 8)]
SEEDS_PER_MACHINE = {("tiny", 8): 8}


@cache
def machine(name: str, width: int) -> AcceleratorConfig:
    """A preset at an activation width."""
    config = preset(name)
    return config if width == config.numerics.activation_width else config.with_activation_width(width)


def run(
    quantised: QuantisedModel,
    config: AcceleratorConfig,
    tasks: list[int],
    *,
    seed: int,
    stall: int = 0,
    memory: SdramSettings | None = None,
) -> int:
    """Run frames of different images back to back, without a reset: each bit-exact. Returns their cycles."""
    program = compile_model(quantised, config)
    golden = IntegerModel(quantised, config.numerics)
    frames = [Frame(task=task, image=random_image(quantised.network, seed + i)) for i, task in enumerate(tasks)]
    settings = memory or MemorySettings(stall=stall, seed=seed + 1, read_latency=2 + seed * 37 % 150)
    results = run_machine(program, frames, memory_settings=settings)
    for number, (frame, result) in enumerate(zip(frames, results, strict=True)):
        assert result.error == ErrorCode.NONE, f"seed {seed}, frame {number}: {result.error.name}, {result.counters}"
        verdict = verify(program, golden.run(frame.image, frame.task), result.traces, frame.task)
        assert verdict.passed, f"seed {seed}, frame {number}, {quantised.network.name}: {verdict}"
        assert verdict.elements_compared > 0
        check_causes(program, result)
        stamps = result.stamps[[command.index for command in program.commands if command.runs(frame.task)]][:-1]
        starts, ends = stamps.T
        in_order = (
            (np.diff(starts) >= 0).all() and (starts < ends).all() and 0 < starts[0] and max(ends) <= result.cycles
        )
        assert in_order, f"seed {seed}, frame {number}: time stamps {stamps.tolist()} of {result.cycles} cycles"
    return sum(result.cycles for result in results)


def check_causes(program: Program, result: SimulatedFrame) -> None:
    """Every cycle has one cause and one owner: they add up for the frame, each cause and the work of each command."""
    causes = result.causes
    assert causes.sum() == result.cycles, f"{causes.sum()} cycles are owned, {result.cycles} were run"
    for cause in CycleCause:
        assert causes[:, cause].sum() == result.counters[cause.counter], cause.name
    for command in program.commands:
        busy = causes[command.index, CycleCause.BUSY]
        ran = command.runs(result.task)
        assert busy == (command.ideal_cycles if ran else 0), f"{command.name}: {busy} beats"


@pytest.mark.parametrize(
    ("name", "width"),
    [pytest.param(*case, marks=pytest.mark.soak) if case == ("tiny", 16) else case for case in MACHINES],
)
def test_random_geometries(name: str, width: int) -> None:
    """Odd token counts, tails in every dimension, top-1 to top-4, 2 to 16 experts; random stalls; tasks A-B-A."""
    config = machine(name, width)
    for seed in range(SEEDS_PER_MACHINE.get((name, width), 4)):
        seed += 100 * MACHINES.index((name, width))
        geometry = random_geometry(seed, config)
        others = len(geometry.tasks) - 1
        run(random_model(geometry, config.numerics, seed), config, [0, others, 0], seed=seed, stall=seed * 29 % 160)


@pytest.mark.parametrize("stall", [0, 255])
def test_stalls_at_the_extremes(stall: int) -> None:
    """Memory that never pauses, and memory that pauses in 255 of 256 cycles on every channel."""
    config = machine("tiny", 8)
    run(random_model(UNEVEN, config.numerics, 3), config, [1], seed=3, stall=stall)


def test_a_boards_sdram() -> None:
    """Two frames through the SDRAM's controller and the chip's model, across many refreshes; every tensor compared."""
    quantised = random_model(replace(UNEVEN, experts=4), LEAST.numerics, 9)
    assert run(quantised, LEAST, [1, 0], seed=9, memory=SdramSettings(clock_hz=80_000_000)) > 10 * 625


@pytest.mark.parametrize("chosen", [(0, 4), (4, 2)])
def test_experts_of_all_and_of_none(chosen: tuple[int, int]) -> None:
    """Two experts take every token, the others none: full queues and empty ones."""
    config = machine("tiny", 8)
    quantised = random_model(UNEVEN, config.numerics, 5)
    experts = quantised.of("layer01.residual", QuantisedExperts)
    gates = []
    for gate in experts.gates:
        bias = np.full(UNEVEN.experts, -(2**30), np.int64)
        bias[list(chosen)] = 2**30
        gates.append(replace(gate, bias=bias))
    changed = replace(experts, gates=tuple(gates))
    quantised = replace(quantised, parameters={**quantised.parameters, "layer01.residual": changed})
    queues = IntegerModel(quantised, config.numerics).run(random_image(UNEVEN, 5), 0)["layer01.experts.queues"]
    lengths = [len(queue.tokens) for queue in queues]
    assert sorted(lengths) == [0, 0, 0, UNEVEN.tokens, UNEVEN.tokens], lengths
    run(quantised, config, [0, 1], seed=5, stall=40)


def test_as_many_tokens_as_fit() -> None:
    """max_tokens tokens: full score buffer, full queues, full tables."""
    config = machine("tiny", 8)
    geometry = replace(UNEVEN, image_height=60, image_width=68, layers=1, expert_layers=(0,), dim=8, top_k=1)
    assert geometry.tokens == config.max_tokens
    run(random_model(geometry, config.numerics, 6), config, [0], seed=6)


@pytest.fixture(scope="module")
def small() -> tuple[Program, IntegerModel]:
    """A small program for preset tiny and its golden model."""
    config = machine("tiny", 8)
    quantised = random_model(UNEVEN, config.numerics, 8)
    return compile_model(quantised, config), IntegerModel(quantised, config.numerics)


def test_causes_have_the_right_names(small: tuple[Program, IntegerModel]) -> None:
    """What a slow memory adds is waiting for weights and for the store; waits for rows and exponentials have owners."""
    program, _ = small
    frame = Frame(task=0, image=random_image(UNEVEN, 2))
    quick, slow = (
        run_machine(program, [frame], memory_settings=MemorySettings(stall=stall, seed=3))[0] for stall in (0, 240)
    )
    added = (slow.causes - quick.causes).sum(axis=0)
    assert added[CycleCause.BUSY] == 0 and added[CycleCause.WEIGHTS] > 0.5 * added.sum()
    owned = {command.op: quick.causes[command.index] for command in program.commands if command.runs(0)}
    assert owned["END"][CycleCause.STORE] + owned["STORE"][CycleCause.STORE] > 0
    assert quick.causes[:, CycleCause.ACTIVATIONS].any() and quick.causes[:, CycleCause.DRAIN].any()
    waits = {command.name for command in program.commands if quick.causes[command.index, CycleCause.SOFTMAX]}
    assert waits <= {command.name for command in program.commands if command.op == "ATTENTION"}
    follows = {"layer00.q", "layer00.hidden", "layer01.q", "embed"}
    starved = {command.name for command in program.commands if quick.causes[command.index, CycleCause.ACTIVATIONS]}
    assert starved & follows, starved


def fails_then_works(small: tuple[Program, IntegerModel], broken: Frame, settings: MemorySettings) -> SimulatedFrame:
    """Run a frame that must halt, then a good one on the same machine, which must be bit-exact."""
    program, golden = small
    good = Frame(
        task=0,
        image=random_image(UNEVEN, 9),
        patches=[(program.map.program, program.content[program.map.program :][: program.map.program_bytes].tobytes())],
    )
    halted, restarted = run_machine(program, [broken, good], memory_settings=settings)
    assert halted.error != ErrorCode.NONE, halted.counters
    assert halted.counters["status"] & 6 == 4, "status must show an error and not done"
    assert restarted.error == ErrorCode.NONE, restarted.counters
    verdict = verify(program, golden.run(good.image, 0), restarted.traces, 0)
    assert verdict.passed, verdict
    return halted


def command_of(program: Program, op: str) -> int:
    """Index of the first command of a kind."""
    return next(command.index for command in program.commands if command.op == op)


def test_malformed_command(small: tuple[Program, IntegerModel]) -> None:
    program, _ = small
    index = command_of(program, "ATTENTION")
    broken = Frame(
        task=0, image=random_image(UNEVEN, 1), patches=[(program.map.program + COMMAND_BYTES * index, b"\x63")]
    )
    halted = fails_then_works(small, broken, MemorySettings())
    assert halted.error == ErrorCode.BAD_OPCODE
    assert (halted.counters["error_command"], halted.counters["error_address"]) == (index, 0x63)


def test_bad_field(small: tuple[Program, IntegerModel]) -> None:
    program, _ = small
    index = command_of(program, "GATE")
    field = next(field for field in FIELDS[Opcode.GATE] if field.name == "top_k")
    address = program.map.program + COMMAND_BYTES * index + field.lsb // 8
    halted = fails_then_works(
        small, Frame(task=0, image=random_image(UNEVEN, 1), patches=[(address, b"\x00")]), MemorySettings()
    )
    assert (halted.error, halted.counters["error_command"]) == (ErrorCode.BAD_FIELD, index)


def test_address_outside_the_window(small: tuple[Program, IntegerModel]) -> None:
    program, _ = small
    limit = program.map.output
    halted = fails_then_works(
        small, Frame(task=0, image=random_image(UNEVEN, 1), registers={"window_limit": limit}), MemorySettings()
    )
    assert (halted.error, halted.counters["error_command"]) == (ErrorCode.ADDRESS_WINDOW, command_of(program, "STORE"))
    assert halted.counters["error_address"] >= limit


@pytest.mark.parametrize(("register", "op", "code"), [
    ("image_address", "LOAD_IMAGE", ErrorCode.BUS_READ),
    ("output_address", "STORE", ErrorCode.BUS_WRITE),
])  # fmt: skip
def test_bus_error(small: tuple[Program, IntegerModel], register: str, op: str, code: ErrorCode) -> None:
    program, _ = small
    low = 1 << 24
    registers = {register: low, "window_limit": low + 4096}
    halted = fails_then_works(
        small,
        Frame(task=0, image=random_image(UNEVEN, 1), registers=registers),
        MemorySettings(error_window=(low, low + 4096)),
    )
    assert (halted.error, halted.counters["error_command"]) == (code, command_of(program, op))
    assert halted.counters["error_address"] // 4096 == low // 4096


def test_watchdog(small: tuple[Program, IntegerModel]) -> None:
    slow = Frame(task=0, image=random_image(UNEVEN, 1), registers={"watchdog_limit": 300})
    halted = fails_then_works(small, slow, MemorySettings(read_latency=1000))
    assert halted.error == ErrorCode.WATCHDOG
    assert halted.counters["error_address"] == 1, "the first thing to wait for is the first command"


@pytest.mark.parametrize(("op", "name", "code"), [
    ("LINEAR", "destination_base", ErrorCode.RESIDUAL_RANGE),
    ("LAYERNORM", "destination_base", ErrorCode.SCRATCHPAD_RANGE),
])  # fmt: skip
def test_on_chip_range(small: tuple[Program, IntegerModel], op: str, name: str, code: ErrorCode) -> None:
    program, _ = small
    index = command_of(program, op)
    field = next(field for field in FIELDS[Opcode[op]] if field.name == name)
    address = program.map.program + COMMAND_BYTES * index + field.lsb // 8
    # Far beyond, so that no later row wraps round to words in use.
    broken = Frame(task=0, image=random_image(UNEVEN, 1), patches=[(address, b"\x00\xf0")])
    halted = fails_then_works(small, broken, MemorySettings())
    assert (halted.error, halted.counters["error_command"]) == (code, index)
