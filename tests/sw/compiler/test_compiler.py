"""Layout, capacity checks, packing and the program file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tessera.golden.config import M3VIT_BACKBONE, NANO, ModelConfig, TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import COMMAND_BYTES, Opcode, decode
from tessera.hw.presets import PRESETS, preset
from tessera.program.commands import CommandKind
from tessera.program.program import Program
from tessera.sw.compiler.allocation import alive
from tessera.sw.compiler.compile import CapacityError, compile_model
from tessera.sw.compiler.fit import Fit, fit
from tessera.sw.compiler.weights import StreamBuilder, parameter_bytes, spread, tile_bytes
from tessera.sw.cycles import bound
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.models import UNEVEN, random_geometry
from tests.helpers.networks import network_of
from tests.helpers.random_model import random_image, random_model


def fitted(model: ModelConfig, config: AcceleratorConfig) -> Fit:
    return fit(network_of(model), config)


@pytest.mark.parametrize(
    "model, name",
    [(NANO, "tiny"), (NANO, "ecp5-wide"), (NANO, "edge"), (M3VIT_BACKBONE, "ecp5-85f"), (M3VIT_BACKBONE, "edge")],
)
def test_models_fit_their_presets(model, name):
    assert fitted(model, preset(name)).problems() == []


def meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two lives share a time."""
    return one[0] <= other[1] and other[0] <= one[1]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("seed", range(5))
def test_live_buffers_do_not_overlap(name, seed):
    made = fitted(random_geometry(seed, preset(name)), preset(name))
    used = {space for space, table in made.tables.items() if table}
    assert used == {"scratchpad", "residual"}, "whole streams stay on chip where there is room"
    for table in made.tables.values():
        for i, a in enumerate(table):
            for b in table[:i]:
                if any(meet(a.lives[task], b.lives[task]) for task in a.lives.keys() & b.lives.keys()):
                    first, second = made.bases[a.region.name], made.bases[b.region.name]
                    assert first + a.words <= second or second + b.words <= first, f"seed {seed}: {a} {b}"


def test_allocation_reuses_memory():
    made = fitted(M3VIT_BACKBONE, preset("ecp5-wide"))
    table, peak = made.tables["scratchpad"], made.allocations["scratchpad"].peak
    assert peak < sum(buffer.words for buffer in table) / 10
    assert peak <= 1.1 * alive(table)
    assert made.allocations["residual"].peak == 129 * 192 // preset("ecp5-wide").lanes, "the streams are one"


def test_a_model_too_large_is_refused_with_a_way_out():
    with pytest.raises(CapacityError) as error:
        compile_model(random_model(M3VIT_BACKBONE, preset("tiny").numerics, 0), preset("tiny"))
    message = str(error.value)
    for part in (
        "scratchpad words: needs",
        "residual stream in words: needs 6192, has 4096",
        "layer01.norm2.wide: 12384 words",
    ):
        assert part in message
    assert "nearest preset that fits: 'ecp5-85f'" in message


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"max_tokens": 64}, "keys: needs 129, has 64 (max_tokens)"),
        ({"max_experts": 4}, "experts: needs 8, has 4"),
        ({"max_top_k": 1}, "experts a token: needs 2, has 1"),
        ({"parameter_entries": 128}, "parameter sets of an expert: needs 192, has 128"),
        ({"residual_words": 512}, "residual stream in words: needs 774, has 512"),
        ({"scratchpad_words": 2000}, "scratchpad words: needs"),
        ({"bank_words": 64}, "reduction of residual in words: needs 24, has 16"),
    ],
)
def test_every_limit_is_named(changes, message):
    with pytest.raises(CapacityError) as error:
        fitted(NANO, replace(preset("edge"), **changes)).check()
    assert message in str(error.value)


def test_impossible_models_are_refused():
    config = preset("tiny")
    narrow = replace(NANO, patch=2, image_height=8, image_width=18)
    assert any("bus width" in line for line in fitted(narrow, config).problems())
    huge = replace(NANO, dim=96 * 64)
    with pytest.raises(CapacityError, match="no preset fits"):
        fitted(huge, config).check()
    with pytest.raises(ValueError, match="quantise it again"):
        compile_model(random_model(NANO, config.with_activation_width(12).numerics, 0), config)
    with pytest.raises(CapacityError, match="max_commands"):
        compile_model(random_model(NANO, config.numerics, 0), replace(config, max_commands=16))


def test_heads_without_a_norm_read_a_copy_of_the_stream():
    config, model = preset("tiny"), replace(UNEVEN, final_norm=False)
    quantised, image = random_model(model, config.numerics, 3), random_image(model, 4)
    program, integer = compile_model(quantised, config), IntegerModel(quantised, config.numerics)
    assert [c.op for c in program.commands if c.kind == CommandKind.NORM][-1] == "LAYERNORM"
    for task in range(2):
        golden, result = integer.run(image, task), emulator.run(program, image, task)
        assert verify(program, golden, result.traces, task).passed
        assert np.array_equal(program.output(result.memory, task), integer.result(golden, task))


def test_tiles_hold_words_of_all_elements_in_turn():
    config = preset("ecp5-wide")
    weight = np.arange(16 * 32).reshape(16, 32).astype(np.int8)
    data = tile_bytes(weight, config).view(np.int8)
    tile, word, element, lane = 1, 1, 5, 3
    position = ((tile * 2 + word) * config.elements + element) * config.lanes + lane
    assert data[position] == weight[tile * config.elements + element, word * config.lanes + lane]


def test_wide_weights_take_two_lanes_low_byte_first():
    config = preset("ecp5-wide")
    weight = np.arange(8 * 16).reshape(8, 16).astype("<i2") * -321
    data = tile_bytes(weight, config)
    assert data[config.lanes * 3 + 4] == weight[3, 2] & 0xFF and data[config.lanes * 3 + 5] == weight[3, 2] >> 8 & 0xFF


def test_parameter_sets_are_packed_and_checked():
    data = parameter_bytes(np.array([-2]), np.array([65536]), np.array([63])).tobytes()
    assert int.from_bytes(data, "little") == 0xFFFFFFFE | 65536 << 32 | 63 << 56
    for values, name in (((2**31, 1, 1), "bias"), ((0, 65537, 1), "multiplier"), ((0, 1, 64), "shift")):
        with pytest.raises(ValueError, match=name):
            parameter_bytes(*(np.array([value]) for value in values))


def test_heads_are_spread_apart():
    assert spread(np.arange(1, 7), 0, 3, 4).tolist() == [1, 2, 3, 0, 4, 5, 6, 0]


def test_blocks_start_on_64_bytes():
    stream = StreamBuilder()
    assert stream.append(np.ones(3, np.uint8)) == 0
    assert stream.append(np.ones(65, np.uint8)) == 64
    assert stream.append(np.ones(1, np.uint8)) == 192 and stream.size == len(stream.content()) == 193


def test_macs_and_ideal_cycles_of_the_reference_model():
    config = preset("edge")
    program = compile_model(random_model(M3VIT_BACKBONE, config.numerics, 0), config)
    work = bound.total(program, 0)
    assert work.macs == 782_719_488
    # The published bound of this mapping, plus the gates' second pass at half rate and V's padded token tiles.
    assert work.ideal_cycles == 3_111_768 + 6 * 129 * 12 + 12 * 12 * 12 * (144 - 129)


def test_commands_are_well_formed_and_named():
    config = preset("ecp5-wide")
    program = compile_model(random_model(NANO, config.numerics, 0), config)
    assert program.map.program_bytes == COMMAND_BYTES * len(program.commands)
    for command in program.commands:
        opcode, fields = decode(program.command_bytes(command.index))
        assert opcode.name == command.op and fields["task_mask"] == command.task_mask
        if "stream_address" in fields:
            assert fields["stream_address"] % 64 == 0 and fields["stream_bytes"] % config.chunk_bytes == 0
            assert fields["stream_address"] + command.stream_bytes <= program.map.weights_bytes
        if opcode == Opcode.EXPERTS:
            assert fields["first_bytes"] % config.chunk_bytes == 0 and fields["experts"] == NANO.experts
    names = [command.name for command in program.commands]
    assert len(set(names)) == len(names) and names[-1] == "end" and "layer03.attention" in names
    gates = [c for c in program.commands if c.kind == CommandKind.GATE and c.place == "layer01" and c.op == "LINEAR"]
    assert [c.name for c in gates] == ["layer01.experts.gate.segmentation", "layer01.experts.gate.depth"]
    assert [c.task_mask for c in gates] == [1, 2] and gates[1].runs(1) and not gates[1].runs(0)


def test_heads_that_do_not_fit_are_stored_in_passes():
    config = replace(preset("ecp5-wide"), residual_words=800)
    model = replace(NANO, tasks=(TaskConfig(name="fine", kind="segmentation", channels=8, cells=4),))
    quantised = random_model(model, config.numerics, 2)
    program = compile_model(quantised, config)
    assert sum(command.name == "store.fine" for command in program.commands) == 2
    image = random_image(model, 3)
    golden = IntegerModel(quantised, config.numerics).run(image, 0)
    result = emulator.run(program, image, 0)
    assert verify(program, golden, result.traces, 0).passed
    assert np.array_equal(program.output(result.memory, 0), golden["head.fine"])


def test_a_program_survives_the_disk(tmp_path):
    config = preset("tiny").with_activation_width(12)
    model = random_geometry(4, config)
    program = compile_model(random_model(model, config.numerics, 4), config)
    path = tmp_path / "program.safetensors"
    program.save(path)
    loaded = Program.load(path)
    assert np.array_equal(loaded.content, program.content)
    assert loaded.commands == program.commands and loaded.map == program.map and loaded.outputs == program.outputs
    assert loaded.model == program.model and loaded.config == program.config


def test_a_foreign_file_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(ValueError, match="tessera compile"):
        Program.load(tmp_path / "x.safetensors")


def test_a_program_of_another_version_is_refused(tmp_path, monkeypatch):
    config = preset("tiny")
    path = tmp_path / "program.safetensors"
    monkeypatch.setattr("tessera.program.program.FORMAT", 1)
    compile_model(random_model(NANO, config.numerics, 4), config).save(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="another version; make it again with `tessera compile`"):
        Program.load(path)


def test_wrong_images_and_tasks_are_refused():
    config = preset("tiny")
    program = compile_model(random_model(NANO, config.numerics, 0), config)
    with pytest.raises(ValueError, match="takes uint8"):
        program.memory(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="tasks 0 to 1"):
        program.registers(2)
