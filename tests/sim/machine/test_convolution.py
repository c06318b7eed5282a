"""CONVOLUTION on the whole machine: every write against the emulator, every value against a plain convolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import Destination, ErrorCode, Opcode
from tessera.hw.presets import preset
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings
from tests.helpers import emulator
from tests.helpers.convolutions import Case, Places, add_convolution
from tests.helpers.hand_program import HandProgram, same_writes
from tests.helpers.models import LEAST

NO_IMAGE = np.zeros((3, 1, 1), np.uint8)
MACHINES = {
    "least": replace(LEAST, bank_words=256),
    "tiny": preset("tiny"),
    "tiny12": preset("tiny").with_activation_width(12),
    "ecp5-wide": preset("ecp5-wide"),
}

CASES = (
    Case(rows=5, columns=7, words=2, outputs=2, kernel=(3, 3), stride=(2, 2), pad=(1, 1, 1, 1)),
    Case(rows=4, columns=4, words=1, outputs=1, kernel=(1, 1)),
    Case(rows=6, columns=5, words=3, outputs=1, kernel=(1, 1), stride=(2, 2)),
    Case(rows=1, columns=1, words=1, outputs=2, kernel=(3, 3), pad=(1, 1, 1, 1)),
    Case(rows=3, columns=4, words=1, outputs=1, kernel=(2, 3), pad=(2, 0, 1, 0), unsigned=True, padding=17),
    Case(rows=7, columns=7, words=1, outputs=1, kernel=(7, 7), stride=(4, 4), pad=(3, 3, 3, 3), padding=-3),
    Case(rows=8, columns=8, words=1, outputs=1, kernel=(4, 4), stride=(4, 4), gelu=True),
    Case(rows=5, columns=4, words=4, outputs=4, kernel=(3, 3), pad=(1, 1, 1, 1), groups=2),
    Case(rows=5, columns=6, words=3, outputs=3, kernel=(3, 3), stride=(2, 1), pad=(1, 1, 1, 1), groups=-1),
    Case(rows=4, columns=4, words=2, outputs=2, kernel=(2, 2), pad=(1, 0, 1, 0), groups=-1, clamp=True, spread=(2, 2)),
    Case(rows=3, columns=5, words=1, outputs=1, kernel=(2, 2), pad=(0, 1, 0, 1), clamp=True),
    Case(rows=4, columns=3, words=2, outputs=1, kernel=(3, 1), destination=Destination.RESIDUAL_SET),
    Case(rows=4, columns=3, words=1, outputs=2, kernel=(1, 3), pad=(1, 1, 0, 0), destination=Destination.RESIDUAL_ADD),
)


def written(config: AcceleratorConfig, records: np.ndarray, bits: int) -> np.ndarray:
    """Words that a command's writes leave, in the order of their addresses; signed values."""
    words: dict[int, np.ndarray] = {}
    for record in records:
        word = words.setdefault(int(record["address"]), np.zeros(config.lanes, np.int64))
        mask = np.repeat([int(record["columns"]) >> c & 1 for c in range(config.columns)], config.elements) == 1
        word[mask] = record["data"][mask]
    values = np.stack([words[address] for address in sorted(words)]) & ((1 << bits) - 1)
    return values - ((values >> (bits - 1)) << bits)


def make_program(name: str, seed: int) -> tuple[HandProgram, list[tuple[Case, int, np.ndarray]]]:
    """Every case, one after the other."""
    config, random = MACHINES[name], np.random.default_rng(seed)
    program, places, expected = HandProgram(config), Places(), []
    for case in CASES:
        places, one = add_convolution(program, case, places, random)
        expected.append(one)
    program.add(Opcode.END)
    return program, expected


@pytest.mark.parametrize("name", MACHINES)
def test_the_emulator_convolves(name: str) -> None:
    program, expected = make_program(name, 3)
    numerics = program.config.numerics
    records = emulator.run(program, NO_IMAGE, 0).traces.records
    for case, command, values in expected:
        space = "scratchpad" if case.destination == Destination.ACTIVATION else "residual"
        bits = numerics.activation_width if space == "scratchpad" else numerics.residual_width
        got = written(program.config, records[space][records[space]["command"] == command], bits)
        want = values - ((values >> (bits - 1) & 1) << bits) if case.gelu else values
        assert np.array_equal(got, want), case
        assert len(np.unique(values)) > min(10, values.size // 4), f"{case}: degenerate"


@pytest.mark.parametrize(("name", "stall"), [("least", 0), ("tiny", 60)])
def test_the_machine_convolves(name: str, stall: int) -> None:
    program, _ = make_program(name, 5)
    numerics = program.config.numerics
    expected = emulator.run(program, NO_IMAGE, 0).traces.records
    frame = Frame(task=0, image=NO_IMAGE)
    result = run_machine(program, [frame], memory_settings=MemorySettings(stall=stall, seed=2))[0]
    assert result.error == ErrorCode.NONE
    for space, bits in (("scratchpad", numerics.activation_width), ("residual", numerics.residual_width)):
        assert same_writes(program.config, expected[space], result.traces.records[space], bits), space
