"""A program by hand: a picture in two parts, whose rows leave the chip and come back in another order."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.golden.integer import functions
from tessera.hw.isa import Destination, ErrorCode, Follow, Opcode, Unit
from tessera.hw.presets import preset
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.settings import MemorySettings
from tessera.sw.cycles.predict import predict
from tests.helpers import emulator
from tests.helpers.hand_program import HandProgram, Product, patches, same_writes

CONFIG = preset("tiny")
PATCH, COLUMNS = 2, 4
PART_ROWS = 4
"""Rows of patches in each of the picture's two parts."""
STEPS = PART_ROWS * COLUMNS
CHANNELS = 8 * CONFIG.lanes
WORDS = CHANNELS // CONFIG.lanes
BLOCK = STEPS * WORDS
"""Words of the rows of a part."""
BLOCK_BYTES = 4 * STEPS * CHANNELS
RESULT, FIRST, SECOND = 0, 3 * BLOCK_BYTES, 4 * BLOCK_BYTES
"""Bytes from the output base to the result, and to what is stored of each part."""
ACTIVATIONS = 400
IMAGE = (3, 2 * PART_ROWS * PATCH, COLUMNS * PATCH)


class Spill:
    """The program, and what it leaves in the output region."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._embed, self._project, self._first, self._second = (
            Product(CONFIG, self._random, (CHANNELS, inputs), shift)
            for inputs, shift in ((3 * PATCH**2, 20), (3 * PATCH**2, 26), (CHANNELS, 19), (CHANNELS, 20))
        )
        self.program = HandProgram(CONFIG, image_bytes=int(np.prod(IMAGE)), output_bytes=SECOND + BLOCK_BYTES)
        self._write()

    def _write(self) -> None:
        """Nothing runs alone: each command comes after what it must, so that blocks could be read too early."""
        add = self.program.add
        self._load_part(0, after=0)
        self._multiply(self._embed, follow=Follow.IMAGE)
        self._store(0, FIRST, STEPS)
        # The second part takes the place of the first.
        self._load_part(1, after=Unit.ENGINE)
        self._multiply(self._embed, follow=Follow.IMAGE, destination_base=BLOCK)
        self._multiply(self._project, destination=Destination.ACTIVATION, destination_base=ACTIVATIONS)
        self._spoil(0)
        self._store(BLOCK, SECOND, STEPS // 2)
        self._store(BLOCK + BLOCK // 2, SECOND + BLOCK_BYTES // 2, STEPS // 2)
        self._load_stored(SECOND, 0)
        self._spoil(BLOCK)
        self._load_stored(FIRST, BLOCK)
        for product, base in ((self._first, 0), (self._second, BLOCK)):
            self._multiply(
                product, after=Unit.ENGINE | Unit.STREAM, broadcast_base=ACTIVATIONS, broadcast_stride=WORDS,
                broadcast_unsigned=0, destination=Destination.RESIDUAL_ADD, destination_base=base,
            )  # fmt: skip
        # The same place once more, right behind its STORE.
        self._store(BLOCK, FIRST, STEPS)
        self._load_stored(FIRST, 2 * BLOCK)
        self._store(0, RESULT, 3 * STEPS)
        add(Opcode.END)

    def _load_part(self, part: int, after: int) -> None:
        line = COLUMNS * PATCH
        self.program.add(
            Opcode.LOAD_IMAGE, after=after, patch=PATCH, grid_rows=PART_ROWS, grid_columns=COLUMNS, row_bytes=line,
            plane_bytes=IMAGE[1] * line, offset=part * PART_ROWS * PATCH * line, destination_stride=3,
        )  # fmt: skip

    def _multiply(self, product: Product, after: int = 0, **fields: int) -> None:
        usual = {
            "broadcast_stride": 3,
            "broadcast_unsigned": 1,
            "destination": Destination.RESIDUAL_SET,
            "destination_stride": WORDS,
        }
        counts = {"steps": STEPS, "channels": CHANNELS, "windows": 1}
        self.program.add(Opcode.LINEAR, product.stream, after=after, **product.shape, **counts, **(usual | fields))

    def _store(self, base: int, offset: int, rows: int) -> None:
        place = {"source_base": base, "source_stride": WORDS, "offset": offset}
        self.program.add(Opcode.STORE, after=Unit.ENGINE | Unit.STREAM, rows=rows, words=WORDS, **place)

    def _spoil(self, base: int) -> None:
        """Overwrite a part's rows once they are stored."""
        noise = self._random.integers(-(1 << 17), 1 << 17, BLOCK * CONFIG.lanes).astype("<i4").tobytes()
        self.program.add(Opcode.LOAD_RESIDUAL, noise, after=Unit.STORE, destination_base=base, words=BLOCK)

    def _load_stored(self, offset: int, base: int) -> None:
        self.program.add(
            Opcode.LOAD_RESIDUAL, after=Unit.STORE, stored=1, stream_address=offset, stream_bytes=BLOCK_BYTES,
            destination_base=base, words=BLOCK,
        )  # fmt: skip

    def output(self, image: np.ndarray) -> np.ndarray:
        """The output region behind a frame, int32 (rows, CHANNELS)."""
        n, parts = CONFIG.numerics, patches(image, PATCH).reshape(2, STEPS, -1)
        first, second = (functions.residual_set(self._embed(part), n).values for part in parts)
        x = functions.saturate(self._project(parts[1]), n.activation)
        loaded = functions.residual_add(second, self._first(x), n).values
        last = functions.residual_add(first, self._second(x), n).values
        assert min(len(np.unique(values)) for values in (first, second, x)) > 64
        return np.concatenate([loaded, last, last, last, second])


@pytest.mark.parametrize("stall", [0, 90])
def test_spill(stall: int) -> None:
    spill, random = Spill(stall), np.random.default_rng(stall + 1)
    images = [random.integers(0, 256, IMAGE, np.uint8) for _ in range(3)]
    settings = MemorySettings(stall=stall, seed=2)
    frames = [Frame(task=0, image=image) for image in images]
    results = run_machine(spill.program, frames, memory_settings=settings)
    for image, result in zip(images, results, strict=True):
        expected = spill.output(image)
        run = emulator.run(spill.program, image, 0)
        for output in (run.traces.output, result.traces.output):
            assert np.array_equal(output.view("<i4").reshape(expected.shape), expected)
        assert result.error == ErrorCode.NONE
        for space, bits in (("scratchpad", 8), ("residual", 18)):
            records = (traces.records[space] for traces in (run.traces, result.traces))
            # Commands run beside each other, and the image loader has an order of its own.
            want, got = (written[np.lexsort((written["address"], written["command"]))] for written in records)
            assert same_writes(CONFIG, want, got, bits), space
    if not stall:
        cycles = results[0].cycles
        assert abs(predict(spill.program, 0).cycles / cycles - 1) < 0.03, f"{cycles} cycles"


def test_a_part_outside_the_window() -> None:
    program = Spill(0).program
    # The first part of each plane still fits, the second part of the last plane does not.
    first_part = 2 * IMAGE[1] * IMAGE[2] + PART_ROWS * PATCH * IMAGE[2]
    registers = {"image_address": program.map.limit - first_part}
    halted = run_machine(program, [Frame(task=0, image=np.zeros(IMAGE, np.uint8), registers=registers)])[0]
    assert (halted.error, halted.counters["error_command"]) == (ErrorCode.ADDRESS_WINDOW, 3)
    assert halted.counters["error_address"] == program.map.limit
