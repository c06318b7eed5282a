"""Lists of rows: where they lie, when they are loaded again, and that each of their entries counts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from tessera.golden.integer.model import IntegerModel
from tessera.golden.integer.parameters import QuantisedModel
from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Follow, Opcode, decode
from tessera.hw.presets import preset
from tessera.program.program import Program
from tessera.sw.compiler.compile import compile_model
from tessera.sw.compiler.lists import Lists
from tessera.sw.compiler.operations import RegionAccess
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tessera.sw.quantiser.quantise import quantise
from tessera.sw.verifier.verdict import Verdict
from tessera.sw.verifier.verify import verify
from tests.helpers import emulator
from tests.helpers.listed_networks import NETWORKS, listed_network

CONFIG = preset("tiny")


def images(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 3, 32, 64), np.uint8)


@cache
def quantised(name: str) -> QuantisedModel:
    made = network_of(listed_network(name), torch.zeros(1, 3, 32, 64), pixels=Pixels())
    return quantise(made, images(4), CONFIG.numerics)


def verdict(program: Program, name: str, task: int = 0) -> Verdict:
    """What the verifier says of the emulated program."""
    image = images(1)[0]
    golden = IntegerModel(quantised(name), program.config.numerics).run(image, task)
    return verify(program, golden, emulator.run(program, image, task).traces, task)


def fields_of(program: Program, opcode: Opcode) -> list[dict[str, int]]:
    decoded = (decode(program.command_bytes(command.index)) for command in program.commands)
    return [fields for found, fields in decoded if found == opcode]


def narrow(lanes: int, experts: int) -> AcceleratorConfig:
    """A machine whose lists have 64 rows at most, half of those of the networks, or one for experts."""
    return replace(CONFIG, name="narrow", lanes=lanes, max_experts=experts, max_tokens=128, scratchpad_words=8192)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("name", NETWORKS)
def test_lists_of_any_length_on_words_of_any_width(name: str, lanes: int):
    config = narrow(lanes, 4 if name == "experts" else 1)
    program = compile_model(quantised(name), config)
    lists = fields_of(program, Opcode.LIST)
    assert max(one["words"] for one in lists) <= config.list_entries // 2
    assert all(one["follow"] == Follow.NOTHING for one in fields_of(program, Opcode.LINEAR) if one["gather"])
    assert all(verdict(program, name, task).passed for task in range(len(program.model.tasks)))


@pytest.mark.parametrize("name", ["windows", "kept"])
def test_a_wrong_entry_is_caught_where_it_is_used(name: str):
    program = compile_model(quantised(name), CONFIG)
    for command in program.commands:
        if command.op == Opcode.LIST.name:
            fields = decode(program.command_bytes(command.index))[1]
            broken = replace(program, content=program.content.copy())
            at = broken.map.weights + fields["stream_address"] + (fields["words"] - 1) * CONFIG.chunk_bytes
            broken.content[at] ^= 1
            first = verdict(broken, name).first
            users = [one for one in program.commands[command.index :] if one.op == Opcode.LINEAR.name]
            assert first is not None and first.command_name == users[0].name


def test_alike_lists_are_loaded_once():
    """Four windows across of four rows each: their order is its own inverse, but for the shift."""
    program = compile_model(quantised("merged"), CONFIG)
    gathers = [one["list"] for one in fields_of(program, Opcode.LINEAR) if one["gather"]]
    assert len(gathers) == 5 and gathers[0] == gathers[1]
    assert len(fields_of(program, Opcode.LIST)) == len(set(gathers)) == 4


def test_queues_take_the_place_of_lists():
    program = compile_model(quantised("experts"), narrow(4, 4))
    ops = [command.op for command in program.commands]
    assert [one["words"] for one in fields_of(program, Opcode.LIST)] == [9, 9, 9]
    assert ops.index("LIST") < ops.index("GATE") < ops.index("LIST", ops.index("GATE"))


def test_lists_go_round():
    lists = Lists(16)
    assert lists.longest == 8
    first = lists.place(range(6), None)
    second = lists.place(range(8), None)
    assert (first.first, second.first) == (0, 6)
    assert lists.find(range(6), (0, 1)) == first and lists.find([5, 4], None) is None
    third = lists.place([9, 8, 7], None)
    assert third == RegionAccess(region=first.region, first=0, rows=3), "behind the second are only two entries"
    assert lists.find(range(6), None) is None and lists.find(range(8), None) == second
    lists.overwrite(RegionAccess(region=first.region, first=2, rows=4))
    assert lists.find([9, 8, 7], None) is None and lists.find(range(8), None) == second


def test_what_a_task_loads_is_not_there_for_another():
    lists = Lists(16)
    mine = lists.place([1, 2], (0, 2))
    assert lists.find([1, 2], (2,)) == mine
    assert lists.find([1, 2], (0, 1)) is None and lists.find([1, 2], None) is None
