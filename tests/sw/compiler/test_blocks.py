"""Networks in blocks of rows, streams in external memory: bit by bit on the machine, whatever the memories hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch

from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.plan import plan
from tessera.golden.network.compute import FloatNetwork
from tessera.hw.isa import Opcode, Unit, decode
from tessera.hw.presets import preset
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.compiler.blocks import RowBlock, cut, overlapping
from tessera.sw.compiler.compile import compile_model
from tessera.sw.compiler.demand import demanded
from tessera.sw.compiler.fit import Fit, fit
from tessera.sw.compiler.fusing import fused
from tessera.sw.compiler.segments import segments
from tessera.sw.compiler.sizes import Sizes
from tessera.sw.cycles.predict import predict
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.run.profile import machine_simulator
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.listed_networks import listed_network
from tests.helpers.own_networks import own_network

MACHINE = preset("tiny")
SHARES = ((0.7, 1.0), (1.0, 0.7), (1.0, 0.5), (0.7, 0.5), (0.5, 0.5), (0.35, 0.3), (1.0, 0.25))
"""Of the words of scratchpad and residual memory that a network takes when nothing is cut."""
NETWORKS = {
    "windows": listed_network,
    "merged": listed_network,
    "kept": listed_network,
    "unshuffled": listed_network,
    "skip": own_network,
    "gated": own_network,
    "stem": own_network,
    "pyramid": own_network,
    "decoder": own_network,
}
"""Windows with a shift and a mask; patches merged; rows kept; strides; parallel streams; convolutions; enlargement."""
CYCLES = 0.03
SMALL_FRAME = 0.06
"""A picture that is loaded beside other blocks' work takes up to 300 cycles more than foreseen, of 12,000 a frame."""


@cache
def network(name: str) -> FloatNetwork:
    return network_of(NETWORKS[name](name), torch.zeros(1, 3, 32, 64), pixels=Pixels())


def image(name: str) -> np.ndarray:
    made = network(name).network
    return np.random.default_rng(5).integers(0, 256, (3, made.image_height, made.image_width), dtype=np.uint8)


@dataclass
class Squeezed:
    """A network compiled for a machine with less memory than the one that runs it."""

    name: str
    program: Program
    golden: IntegerModel
    fit: Fit


@cache
def squeezed(name: str) -> list[Squeezed]:
    """The network for every share of the memories that it fits into."""
    made = network(name)
    whole = fit(made.network, MACHINE)
    assert whole.problems() == [] and whole.context.cuts.none
    model = quantise(made, np.stack([image(name)] * 2), MACHINE.numerics)
    found = []
    for scratchpad, residual in SHARES:
        config = replace(
            MACHINE,
            scratchpad_words=int(whole.allocations["scratchpad"].peak * scratchpad),
            residual_words=int(whole.allocations["residual"].peak * residual),
        )
        some = fit(made.network, config)
        if not some.problems():
            program = replace(compile_model(model, config), config=MACHINE)
            found.append(Squeezed(name, program, IntegerModel(model, config.numerics), some))
    return found


def stored(program: Program) -> int:
    """Bytes that blocks load from external memory."""
    found = [decode(program.command_bytes(command.index)) for command in program.commands]
    return sum(fields["stream_bytes"] for op, fields in found if op == Opcode.LOAD_RESIDUAL and fields["stored"])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_size_of_the_memories_is_bit_exact(name: str) -> None:
    found = squeezed(name)
    assert found and not any(one.fit.context.cuts.none for one in found)
    for one in found:
        golden = one.golden.run(image(name), 0)
        verdict = verify(one.program, golden, emulator.run(one.program, image(name), 0).traces, 0)
        assert verdict.passed, f"{verdict.first} {one.fit.context.cuts.describe()}"


def test_networks_use_external_memory() -> None:
    using = {name for name in NETWORKS if any(stored(one.program) for one in squeezed(name))}
    assert using >= {"windows", "merged", "kept", "unshuffled", "skip", "gated", "pyramid"}


def test_the_smallest_residual_memories_take_rows_in_pieces() -> None:
    using = {name for name in NETWORKS if any(one.fit.context.cuts.in_pieces for one in squeezed(name))}
    assert using >= {"windows", "gated", "pyramid"}


def test_rows_are_not_loaded_over_those_that_a_norm_still_reads() -> None:
    """On the machine a norm is as fast as the memory, so that no frame would show it."""
    seen = 0
    for one in (one for name in NETWORKS for one in squeezed(name)):
        reading: list[range] = []
        for command in one.program.commands:
            opcode, fields = decode(one.program.command_bytes(command.index))
            # Behind a product the machine may know in other ways that a norm has ended.
            if fields.get("after", 0) & Unit.NORM or opcode not in (Opcode.LAYERNORM, Opcode.LOAD_RESIDUAL):
                reading = []
            if opcode == Opcode.LAYERNORM:
                first = fields["source_base"]
                reading.append(range(first, first + fields["rows"] * fields["source_stride"]))
            if opcode == Opcode.LOAD_RESIDUAL:
                first, stop = fields["destination_base"], fields["destination_base"] + fields["words"]
                assert not any(first < rows.stop and rows.start < stop for rows in reading), (
                    f"{one.name} {command.name}"
                )
                seen += one.fit.context.cuts.in_pieces and bool(fields["stored"])
    assert seen


@pytest.mark.parametrize("stall", [0, 30])
def test_the_machine_does_so_in_the_cycles_predicted(stall: int) -> None:
    """All of them, one after another on one machine."""
    jobs = [one for name in NETWORKS for one in squeezed(name)]
    frames = [Frame(task=0, image=image(one.name), program=one.program) for one in jobs]
    results = run_machine(
        jobs[0].program,
        frames,
        memory_settings=MemorySettings(stall=stall, seed=stall),
        simulator=machine_simulator(MACHINE),
    )
    for one, result in zip(jobs, results, strict=True):
        verdict = verify(one.program, one.golden.run(image(one.name), 0), result.traces, 0)
        assert verdict.passed, f"{one.name} {one.fit.context.cuts.describe()}: {verdict.first}"
    if not stall:
        predicted = [predict(one.program, 0).cycles for one in jobs]
        assert sum(predicted) == pytest.approx(sum(result.cycles for result in results), rel=CYCLES)
        for expected, result in zip(predicted, results, strict=True):
            assert expected == pytest.approx(result.cycles, rel=SMALL_FRAME)


def test_loads_wait_for_stores_as_the_machine_asks() -> None:
    for one in (one for name in NETWORKS for one in squeezed(name)):
        found = [decode(one.program.command_bytes(command.index)) for command in one.program.commands]
        loads = [fields for op, fields in found if op == Opcode.LOAD_RESIDUAL and fields["stored"]]
        assert all(Unit.STORE in Unit(fields["after"]) for fields in loads)


# What a block is made of --------------------------------------------------------------------------------------------


def blocks_of(name: str, number: int, count: int, outside: bool) -> tuple[list[RowBlock], dict[str, int]]:
    made = plan(network(name).network)
    segment = fused(Sizes(made, MACHINE))[number]
    rows = {step.name: step.rows for step in made.steps}
    return cut(segment, rows, count, frozenset(segment.live) if outside else frozenset(), number), rows


def test_blocks_make_every_row_of_a_target_once() -> None:
    for name in NETWORKS:
        made = plan(network(name).network)
        rows = {step.name: step.rows for step in made.steps}
        for number, segment in enumerate(fused(Sizes(made, MACHINE))):
            for count in (1, 2, 3):
                parts = cut(segment, rows, count, frozenset(segment.live), number)
                for target in segment.targets:
                    found = np.concatenate([block.made[target] for block in parts if target in block.made])
                    assert sorted(set(found)) == list(range(rows[target])), f"{name} {target}"


def test_lines_around_a_block_are_needed_for_a_convolution() -> None:
    made = plan(network("pyramid").network)
    for segment in fused(Sizes(made, MACHINE)):
        for step in segment.steps:
            taps = getattr(step, "taps", None)
            if taps is None or taps.kernel[0] != 3 or taps.stride[0] != 1:
                continue
            columns = taps.made[1]
            need = demanded([step], {step.name: np.arange(columns, 2 * columns)})
            assert len(need[step.source.tensor]) == 3 * taps.size[1]
            return
    raise AssertionError("the network has such a convolution")


def test_segments_with_a_stream_of_their_own_go_together() -> None:
    """The merged patches lie in a stream that only the norm behind reads."""
    sizes = Sizes(plan(network("merged").network), MACHINE)
    apart, together = segments(sizes), fused(sizes)
    assert len(together) < len(apart)
    assert [step.name for part in together for step in part.steps] == [step.name for step in sizes.plan.steps]
    merged = next(stream for part in apart for stream in part.live if "norm.rows" in stream)
    assert not any(merged in part.kept for part in together)


def test_rows_that_changed_are_not_read_again() -> None:
    """A convolution that is added to its own stream needs the lines around a block as they were."""
    sizes = Sizes(plan(network("pyramid").network), MACHINE)
    rows = {step.name: step.rows for step in sizes.plan.steps}
    found = {stream for part in segments(sizes) for stream in overlapping(part, rows, 2)}
    assert found
    assert not any(overlapping(part, rows, 1) for part in segments(sizes))
