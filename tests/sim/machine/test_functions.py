"""Activation functions, element-wise products and the modes of LAYERNORM on the whole machine, against the emulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tessera.hw import tables
from tessera.hw.isa import Destination, ErrorCode, Follow, Function, NormMode, Opcode, Unit
from tessera.hw.presets import preset
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.cycles.predict import predict
from tests.helpers import emulator
from tests.helpers.bare_program import BareProgram
from tests.helpers.random_model import random_image

ROWS, WORDS = 7, 2
PRODUCTS = (
    (Destination.ACTIVATION, Function.TABLE),
    (Destination.RESIDUAL_SET, Function.NONE),
    (Destination.RESIDUAL_MULTIPLY, Function.TABLE),
    (Destination.RESIDUAL_ADD, Function.NONE),
    (Destination.RESIDUAL_MULTIPLY, Function.NONE),
    (Destination.RESIDUAL_MULTIPLY, Function.GELU),
    (Destination.ACTIVATION, Function.RELU),
    (Destination.ACTIVATION, Function.GELU),
)
"""One after the other; none but those of the engine itself say what they wait for."""


def _product(bare: BareProgram, random: np.random.Generator, destination: Destination, function: Function) -> None:
    """A LINEAR of random weights on the copied rows, whose results use the whole range of their format."""
    config = bare.config
    channels = WORDS * config.lanes
    bits = 8 if destination == Destination.ACTIVATION and function == Function.NONE else 14
    gain = int(np.log2(channels * 128 * 128)) - bits
    sets = np.zeros((channels, 8), np.uint8)
    sets[:, :4] = random.integers(-3000, 3000, channels).astype("<i4")[:, None].view(np.uint8)
    sets[:, 4:7] = np.uint8([0, 0, 1])  # a factor of 65536
    sets[:, 7] = 16 + gain
    weights = random.integers(-128, 128, channels * channels, np.int8)
    bare.emit(
        Opcode.LINEAR,
        **bare.block(np.concatenate([sets.reshape(-1), weights.view(np.uint8)])),
        after=Unit.NORM | Unit.STREAM,
        broadcast_base=0,
        broadcast_stride=WORDS,
        steps=ROWS,
        words=WORDS,
        stationary_base=0,
        stationary_stride=0,
        stationary_window=0,
        destination_window=0,
        windows=1,
        stationary_rows=channels,
        channels=channels,
        destination_base=64 if destination == Destination.ACTIVATION else 0,
        destination_stride=WORDS,
        destination=destination,
        function=function,
        **dict.fromkeys(("gather", "scatter", "list"), 0),
        swapped=0,
        wide=0,
        broadcast_unsigned=0,
        function_multiplier=50003,
        function_shift=13 if destination == Destination.RESIDUAL_MULTIPLY else 25,
    )


def _norm(bare: BareProgram, mode: NormMode, base: int) -> None:
    channels = WORDS * bare.config.lanes - 3
    bare.emit(
        Opcode.LAYERNORM,
        **bare.block(np.arange(WORDS * bare.config.lanes, dtype=np.uint8) % 8),
        source_base=0,
        source_stride=WORDS,
        destination_base=base,
        destination_stride=WORDS,
        wide_base=256,
        wide_stride=2 * WORDS,
        rows=ROWS,
        words=WORDS,
        channels=channels,
        wide=int(mode != NormMode.RMS),
        mode=mode,
        mean_multiplier=65536 // channels,
        mean_shift=16,
        epsilon=1000,
        scale_multiplier=65536,
        shift=22 if mode == NormMode.COPY else 14,
        wide_shift=18 if mode == NormMode.COPY else 8,
        follow=Follow.NOTHING,
    )


def _program(name: str, seed: int) -> Program:
    config, random = preset(name), np.random.default_rng(seed)
    bare, half = BareProgram(config), 1 << (config.numerics.residual_width - 1)
    stream = random.integers(-half, half, ROWS * WORDS * config.lanes).astype("<i4")
    bare.emit(Opcode.LOAD_RESIDUAL, **bare.block(stream), destination_base=0, words=ROWS * WORDS, stored=0)
    for table in (tables.silu_table(), tables.sigmoid_table()):
        entries = np.array(table.entries(), "<u4")
        bare.emit(Opcode.TABLE, **bare.block(entries))
        _norm(bare, NormMode.COPY, 0)
        for destination, function in PRODUCTS:
            _product(bare, random, destination, function)
        _norm(bare, NormMode.RMS, 128)
        _norm(bare, NormMode.LAYER, 128)
    size = ROWS * WORDS * 4 * config.lanes
    bare.emit(Opcode.STORE, source_base=0, source_stride=WORDS, rows=ROWS, words=WORDS, offset=0)
    program = bare.program()
    end = program.map.output + size + -size % 4096
    return replace(program, map=replace(program.map, output_bytes=size, limit=end))


def _by_column(records: np.ndarray, columns: int, width: int) -> dict[tuple[int, int, int], list[int]]:
    """Every write in pieces of a column, by command, address and column; the last one counts."""
    found = {}
    for record in records:
        data = (record["data"].reshape(columns, -1) & ((1 << width) - 1)).tolist()
        for column in range(columns):
            if record["columns"] >> column & 1:
                found[int(record["command"]), int(record["address"]), column] = data[column]
    return found


@pytest.mark.parametrize(("name", "stall"), [("tiny", 0), ("tiny", 60), ("edge", 0)])
def test_the_machine_does_what_the_emulator_does(name: str, stall: int) -> None:
    program = _program(name, 3 + stall)
    config, image = program.config, random_image(program.model, 1)
    want = emulator.run(program, image, 0)
    frames = [Frame(task=0, image=image)] * 2
    for result in run_machine(program, frames, memory_settings=MemorySettings(stall=stall, seed=3)):
        assert result.error == ErrorCode.NONE, result.error.name
        for space, width in (
            ("scratchpad", config.numerics.activation_width),
            ("residual", config.numerics.residual_width),
        ):
            got = _by_column(result.traces.records[space], config.columns, width)
            expected = _by_column(want.traces.records[space], config.columns, width)
            wrong = sorted(key for key in got.keys() | expected.keys() if got.get(key) != expected.get(key))
            assert not wrong, (
                f"{space}: {len(wrong)} of {len(expected)} differ, first (command, address, column) {wrong[0]}"
            )
        assert np.array_equal(result.traces.output, want.traces.output)
        if not stall:
            cycles = result.counters["cycles"]
            assert abs(predict(program, 0).cycles / cycles - 1) < 0.03, f"{cycles} cycles"
