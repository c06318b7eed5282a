"""A program by hand: pixels, a convolution, products that gather and scatter by lists, a result; against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.golden.integer import functions
from tessera.hw.isa import Destination, ErrorCode, Opcode
from tessera.hw.presets import preset
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings
from tests.helpers import emulator
from tests.helpers.hand_program import HandProgram, Product, patches, same_writes

CONFIG = preset("tiny")
PATCH, ROWS, COLUMNS = 2, 6, 4
CHANNELS = 2 * CONFIG.lanes
GATHERED = [5, 0, 3, 3, 1, 4, 5, 2, 2]
SCATTERED = [3, 7, 0, 8, 5, 1]
"""Where six rows go: each to another."""
ENTRIES = CONFIG.max_tokens - 4
"""First entry of both lists: they run on into the next expert's part."""


def list_bytes(rows: list[int]) -> bytes:
    """A LIST command's block: a row per chunk; what follows the row is ignored."""
    chunks = np.full((len(rows), CONFIG.chunk_bytes), 0xA5, np.uint8)
    chunks[:, :2] = np.array(rows, "<u2").view(np.uint8).reshape(-1, 2)
    return chunks.tobytes()


def rows_of_taps(x: np.ndarray) -> np.ndarray:
    """The 3 x 3 neighbourhoods of every second position, zeros around: (positions, values)."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    starts = [(y, c) for y in range(0, ROWS, 2) for c in range(0, COLUMNS, 2)]
    return np.stack([padded[y : y + 3, c : c + 3].reshape(-1) for y, c in starts])


def make_program(random: np.random.Generator, image: np.ndarray) -> tuple[HandProgram, np.ndarray, np.ndarray]:
    """The program, the residual rows that it stores, and the activations that it scatters."""
    n, words = CONFIG.numerics, CHANNELS // CONFIG.lanes
    program = HandProgram(CONFIG, image_bytes=image.size, output_bytes=4 * CHANNELS * len(GATHERED))
    pixels = patches(image, PATCH)
    tap_words = pixels.shape[2] // CONFIG.lanes
    image_place = {"patch": PATCH, "grid_rows": ROWS, "grid_columns": COLUMNS, "destination_stride": tap_words}
    program.add(Opcode.LOAD_IMAGE, row_bytes=COLUMNS * PATCH, plane_bytes=image.size // 3, **image_place)
    kernel, first, second, third = (
        Product(CONFIG, random, (CHANNELS, inputs), shift)
        for inputs, shift in ((9 * pixels.shape[2], 25), (CHANNELS, 20), (CHANNELS, 21), (CHANNELS, 26))
    )
    convolved, scattered = 200, 400
    program.add(
        Opcode.CONVOLUTION, kernel.stream, **kernel.shape, steps=6, tap_words=tap_words, broadcast_stride=tap_words,
        line_stride=COLUMNS * tap_words, broadcast_unsigned=1, taps_y=3, taps_x=3, stride_y=2, stride_x=2, pad_top=1,
        pad_left=1, input_rows=ROWS, input_columns=COLUMNS, output_columns=COLUMNS // 2, destination_base=convolved,
        destination_stride=words, destination_jump=words,
    )  # fmt: skip
    x = functions.saturate(kernel(rows_of_taps(pixels)), n.activation)
    # Gather: rows in any order, some of them twice.
    source = {
        "broadcast_base": convolved,
        "broadcast_stride": words,
        "list": ENTRIES,
        "channels": CHANNELS,
        "windows": 1,
    }
    program.add(Opcode.LIST, list_bytes(GATHERED), destination_base=ENTRIES, words=len(GATHERED))
    residual = functions.residual_set(first(x[GATHERED]), n).values
    place = {"destination_stride": words}
    program.add(
        Opcode.LINEAR, first.stream, **first.shape, **source, **place, steps=len(GATHERED), gather=1,
        destination=Destination.RESIDUAL_SET,
    )  # fmt: skip
    # Scatter: onto the residual rows, then into the scratchpad.
    program.add(Opcode.LIST, list_bytes(SCATTERED), destination_base=ENTRIES, words=len(SCATTERED))
    program.add(
        Opcode.LINEAR, second.stream, **second.shape, **source, **place, steps=6, scatter=1,
        destination=Destination.RESIDUAL_ADD,
    )  # fmt: skip
    residual[SCATTERED] = functions.residual_add(residual[SCATTERED], second(x), n).values
    program.add(
        Opcode.LINEAR, third.stream, **third.shape, **source, **place, steps=6, scatter=1, destination_base=scattered
    )
    activations = np.zeros((len(GATHERED), CHANNELS), np.int64)
    activations[SCATTERED] = functions.saturate(third(x), n.activation)
    program.add(Opcode.STORE, rows=len(GATHERED), words=words, source_stride=words)
    program.add(Opcode.END)
    return program, residual, activations


@pytest.mark.parametrize("stall", [0, 90])
def test_lists(stall: int) -> None:
    random = np.random.default_rng(stall)
    image = random.integers(0, 256, (3, ROWS * PATCH, COLUMNS * PATCH), np.uint8)
    program, residual, activations = make_program(random, image)
    run = emulator.run(program, image, 0)
    assert np.array_equal(run.traces.output.view("<i4").reshape(residual.shape), residual)
    machine = emulator.Emulator(CONFIG, program.memory(image), program.registers(0))
    machine.run()
    words = machine.scratchpad[400 : 400 + activations.size // CONFIG.lanes].reshape(activations.shape)
    assert np.array_equal(words, activations & 0xFF) and len(np.unique(activations)) > 8
    settings = MemorySettings(stall=stall, seed=2)
    result = run_machine(program, [Frame(task=0, image=image)], memory_settings=settings)[0]
    assert result.error == ErrorCode.NONE
    assert np.array_equal(result.traces.output.view("<i4").reshape(residual.shape), residual)
    # The image loader writes pixels in an order of its own.
    for space, bits in (("scratchpad", 8), ("residual", 18)):
        expected, got = (traces.records[space] for traces in (run.traces, result.traces))
        assert same_writes(CONFIG, expected[expected["command"] > 0], got[got["command"] > 0], bits), space
