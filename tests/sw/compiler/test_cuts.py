"""Models that do not fit on chip at once: cut by heads and tokens, still bit by bit the golden model's tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tessera.golden.config import DEIT_SMALL, ModelConfig, TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES, decode, encode
from tessera.hw.presets import preset
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.compiler.compile import CapacityError, compile_model
from tessera.sw.compiler.cuts import parts, sizes
from tessera.sw.compiler.fit import fit
from tessera.sw.cycles import bound
from tessera.sw.cycles.predict import predict, queue_lengths
from tessera.sw.verifier.readback import residual_streams
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.networks import network_of
from tests.helpers.random_model import random_image, random_model

BASE = ModelConfig(
    name="base",
    image_height=24,
    image_width=32,
    patch=4,
    dim=45,
    heads=3,
    layers=3,
    mlp_hidden=20,
    expert_layers=(1,),
    experts=4,
    expert_hidden=12,
    top_k=2,
    tasks=(
        TaskConfig(name="depth", kind="depth", channels=1, cells=2),
        TaskConfig(name="classes", kind="classification", channels=5, cells=1),
    ),
)
"""49 tokens, so that a last block is smaller; heads of 15 channels, so that words have padding."""
HIDDEN = replace(BASE, name="hidden", dim=12, heads=1, mlp_hidden=330)
HEADS = replace(BASE, name="heads", dim=50, heads=5, expert_layers=())
PIXELS = replace(BASE, name="pixels", patch=8, image_height=56, image_width=64, dim=24, expert_layers=())
EVERYTHING = replace(PIXELS, name="everything", dim=45, mlp_hidden=260, expert_layers=(1,))

CASES = [(HIDDEN, 0.8), (HIDDEN, 0.35), (HEADS, 0.9), (HEADS, 0.6), (PIXELS, 0.9), (PIXELS, 0.7), (EVERYTHING, 0.7)]
"""Models, and the part of the scratchpad that they need uncut which there is."""


def narrowed(model: ModelConfig, config: AcceleratorConfig, share: float) -> AcceleratorConfig:
    """The configuration with only a part of the scratchpad that the model takes if it is not cut."""
    whole = fit(network_of(model), config)
    assert whole.context.cuts.none and not whole.problems()
    return replace(config, scratchpad_words=int(share * whole.allocations["scratchpad"].peak))


def checked(program: Program, model: IntegerModel, image: np.ndarray) -> None:
    for task in range(len(program.model.tasks)):
        result, golden = emulator.run(program, image, task), model.run(image, task)
        verdict = verify(program, golden, result.traces, task)
        assert verdict.passed, str(verdict)
        assert np.array_equal(program.output(result.memory, task), model.result(golden, task))
        for layer, rows in residual_streams(program, result.traces, task):
            assert np.array_equal(rows, golden[f"{layer}.residual"])


@pytest.mark.parametrize("name", ["tiny", "ecp5-wide", "edge"])
@pytest.mark.parametrize(("model", "share"), CASES, ids=lambda value: getattr(value, "name", str(value)))
def test_every_cut_is_bit_exact(model: ModelConfig, share: float, name: str) -> None:
    config = narrowed(model, preset(name), share)
    made = fit(network_of(model), config)
    assert made.problems() == [] and not made.context.cuts.none
    quantised = random_model(model, config.numerics, 1)
    checked(compile_model(quantised, config), IntegerModel(quantised, config.numerics), random_image(model, 2))


def test_each_kind_of_cut_is_made() -> None:
    made = {
        (model.name, share): fit(network_of(model), narrowed(model, preset("tiny"), share)) for model, share in CASES
    }
    cuts = {case: one.context.cuts for case, one in made.items()}
    assert {one.blocks for one in cuts["hidden", 0.35].segments} == {1, 3}
    assert {one.head_groups for one in cuts["heads", 0.6].segments} == {1, 5}
    assert cuts["pixels", 0.9].pixels_apart
    everything = cuts["everything", 0.7]
    assert everything.pixels_apart and max(one.head_groups for one in everything.segments) == 3
    assert max(one.blocks for one in everything.segments) == 2


def test_a_heads_result_in_anothers_place_is_found() -> None:
    """Heads lie side by side in the rows of one buffer: what is between a group's words is not its own."""
    model, share = CASES[-1]
    config = narrowed(model, preset("tiny"), share)
    quantised, image = random_model(model, config.numerics, 1), random_image(model, 2)
    program = compile_model(quantised, config)
    command = next(command for command in program.commands if command.name == "layer00.attention.head1")
    opcode, fields = decode(program.command_bytes(command.index))
    del fields["opcode"]
    fields["destination_base"] -= 1
    at = program.map.program + command.index * COMMAND_BYTES
    program.content[at : at + COMMAND_BYTES] = np.frombuffer(encode(opcode, **fields), np.uint8)
    golden = IntegerModel(quantised, config.numerics).run(image, 0)
    verdict = verify(program, golden, emulator.run(program, image, 0).traces, 0)
    assert verdict.first is not None and verdict.first.command == command.index
    assert verdict.first.reason == "a write outside the command's tensors"


def test_blocks_of_tokens_read_the_same_weights() -> None:
    model, share = CASES[0]
    config = narrowed(model, preset("tiny"), share)
    quantised = random_model(model, config.numerics, 1)
    program, whole = compile_model(quantised, config), compile_model(quantised, preset("tiny"))
    assert program.map.weights_bytes == whole.map.weights_bytes
    read = [sum(command.stream_bytes for command in made.commands) for made in (program, whole)]
    assert read[0] > read[1]


@pytest.mark.parametrize("stall", [0, 30])
def test_the_machine_does_so_in_the_cycles_predicted(stall: int) -> None:
    """Compiled for less scratchpad than the machine has, on whose simulator other tests run too."""
    model, share = CASES[-1]
    machine = preset("tiny")
    config = narrowed(model, machine, share)
    quantised = random_model(model, config.numerics, 1)
    program = replace(compile_model(quantised, config), config=machine)
    image, integer = random_image(model, 2), IntegerModel(quantised, config.numerics)
    frames = [Frame(task=task, image=image) for task in range(len(model.tasks))]
    settings = MemorySettings(stall=stall)
    for task, result in enumerate(run_machine(program, frames, memory_settings=settings)):
        golden = integer.run(image, task)
        verdict = verify(program, golden, result.traces, task)
        assert verdict.passed, str(verdict)
        if not stall:
            expected = predict(program, task, loads=queue_lengths(program, golden))
            assert expected.cycles == pytest.approx(result.cycles, rel=0.03)


@pytest.mark.parametrize(
    ("name", "dim", "groups", "blocks"),
    [("edge", 192, 1, 1), ("ecp5-wide", 192, 3, 2), ("ecp5-85f", 192, 3, 2), ("edge", 384, 6, 2)],
)
def test_deit_keeps_the_array_busy(name: str, dim: int, groups: int, blocks: int) -> None:
    """DeiT-Tiny and DeiT-Small with their heads, by the cycle model."""
    classes = TaskConfig(name="classes", kind="classification", channels=1000, cells=1)
    sizes = {"dim": dim, "heads": dim // 64, "mlp_hidden": 4 * dim}
    model, config = replace(DEIT_SMALL, name="deit", tasks=(classes,), final_norm=True, **sizes), preset(name)
    cuts = fit(network_of(model), config).context.cuts.segments
    assert max(one.head_groups for one in cuts) == groups and max(one.blocks for one in cuts) == blocks
    program = compile_model(random_model(model, config.numerics, 1), config)
    macs = bound.total(program, 0).macs
    assert macs > 0.9 * predict(program, 0).cycles * config.elements * config.lanes


def test_what_fits_is_not_cut() -> None:
    for model in (BASE, HIDDEN, HEADS, PIXELS, EVERYTHING):
        assert fit(network_of(model), preset("tiny")).context.cuts.none


@pytest.mark.parametrize("count", [1, 5, 49, 197])
def test_parts_cover_everything_once(count: int) -> None:
    found = sizes(count)
    assert found[0] == 1 and found == sorted(set(found))
    for number in found:
        made = parts(count, number)
        assert [item for part in made for item in part] == list(range(count)) and len(made) == number
        assert max(map(len, made)) == len(made[0])


def test_what_fits_with_no_cuts_is_refused_with_the_fewest_parts_that_need_the_least() -> None:
    config = replace(preset("edge"), scratchpad_words=300)
    with pytest.raises(CapacityError) as error:
        compile_model(random_model(EVERYTHING, config.numerics, 1), config)
    message = str(error.value)
    assert "scratchpad words: needs 585, has 300 (scratchpad_words)" in message, message
    assert "buffers with heads in 3 parts (3 times), rows in 4 parts (2 times)" in message
    assert "layer01.norm2.wide: 342 words" in message and "layer02.hidden: 255 words" in message
