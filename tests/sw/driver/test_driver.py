"""The driver on a board of a few lines of Python and on the simulated one: the same tests on both."""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from tessera.golden.config import ModelConfig, TaskConfig
from tessera.golden.integer.model import IntegerModel
from tessera.hw.presets import preset
from tessera.hw.protocol import Operation
from tessera.hw.register_map import REGISTERS
from tessera.hw.sdram.chip import ANY_CHIP
from tessera.sim.board.board import SimulatedBoard
from tessera.sim.machine.sdram import SdramSettings
from tessera.sw.compiler.compile import compile_model
from tessera.sw.driver import errors
from tessera.sw.driver.device import Device
from tessera.sw.driver.link import Link
from tessera.sw.driver.transport import SerialTransport
from tests.helpers.link_model import ModelBoard, Noise
from tests.helpers.models import LEAST
from tests.helpers.random_model import random_image, random_model

CONFIG = preset("tiny")
ON_CHIP_BYTES = 1 << 14
GEOMETRY = ModelConfig(
    name="linked",
    image_height=8,
    image_width=8,
    patch=4,
    dim=8,
    heads=2,
    layers=1,
    mlp_hidden=8,
    expert_layers=(0,),
    experts=3,
    expert_hidden=8,
    top_k=2,
    tasks=(
        TaskConfig(name="depth", kind="depth", channels=1, cells=2),
        TaskConfig(name="features", kind="features", channels=0, cells=0),
    ),
)
MODEL = random_model(GEOMETRY, CONFIG.numerics, seed=1)
PROGRAM = compile_model(MODEL, CONFIG)
SIMULATED_SECONDS = 20.0


@pytest.fixture(scope="module")
def simulated():
    with SimulatedBoard(CONFIG) as board:
        yield board


@pytest.fixture(params=["model", "simulated"])
def transport(request):
    if request.param == "model":
        return ModelBoard(CONFIG)
    return SerialTransport(request.getfixturevalue("simulated").port, 3_000_000)


@pytest.fixture
def device(transport):
    with Device(transport, answer_seconds=SIMULATED_SECONDS) as device:
        yield device


def expected(task: int, image: np.ndarray) -> np.ndarray:
    golden = IntegerModel(MODEL, CONFIG.numerics)
    return golden.result(golden.run(image, task), task)


def test_a_picture_is_bit_exact(device):
    progress = []
    device.load(PROGRAM, verify=True, on_progress=lambda *step: progress.append(step))
    assert progress == sorted(progress, key=lambda step: step[1])
    stage, fraction, detail = progress[-1]
    whole = 2 * len(PROGRAM.content)
    assert (stage, fraction) == ("load board", 1.0) and detail.startswith(f"{whole:,} of {whole:,} bytes, ")
    for seed, task in ((1, 0), (2, 1), (3, 0)):
        image = random_image(GEOMETRY, seed=seed)
        result = device.run(PROGRAM, task, image)
        assert np.array_equal(result.output, expected(task, image))
        assert result.counters["cycles"] > 100 and result.counters["error_code"] == 0


def test_a_picture_without_dram():
    """The smallest machine, its memory of block RAM; that ends where it should."""
    program = compile_model(MODEL, LEAST)
    with (
        SimulatedBoard(LEAST, on_chip_bytes=ON_CHIP_BYTES) as board,
        Device(SerialTransport(board.port, 3_000_000), answer_seconds=SIMULATED_SECONDS) as device,
    ):
        device.load(program, verify=True)
        for task in (0, 1):
            image = random_image(GEOMETRY, seed=4 + task)
            assert np.array_equal(device.run(program, task, image).output, expected(task, image))
        device.write(ON_CHIP_BYTES - 4, b"last")
        assert device.read(ON_CHIP_BYTES - 4, 4) == b"last"
        with pytest.raises(errors.RequestRefused, match=f"read memory at {ON_CHIP_BYTES:#x}, 4 bytes: bus error"):
            device.read(ON_CHIP_BYTES, 4)


def test_memory_of_any_alignment_comes_back(device):
    generator = np.random.default_rng(1)
    around = generator.bytes(5000)
    device.write(0x20000, around)
    for address, length in ((0x20001, 1), (0x20003, 2500), (0x20FFE, 6), (0x21000 - 3, 7)):
        content = generator.bytes(length)
        device.write(address, content)
        at = address - 0x20000
        around = (around[:at] + content + around[at + length :])[:5000]
        assert device.read(address, length) == content
    assert device.read(0x20000, 5000) == around
    assert device.read(0x20000, 0) == b""


def test_registers_by_name(device):
    device.registers["output_address"] = 0x12345678
    assert device.registers["output_address"] == 0x12345678
    assert device.registers.all()["output_address"] == 0x12345678
    assert device.registers.all()["version"] == device.registers["version"] == 2


def test_beyond_the_memory_is_refused_and_named(device):
    with pytest.raises(errors.RequestRefused, match="read memory at 0x8000000, 16 bytes: bus error"):
        device.read(0x8000000, 16)
    with pytest.raises(errors.RequestRefused, match="write memory at 0x8000000, 4 bytes: bus error"):
        device.write(0x8000000, b"1234")
    with pytest.raises(errors.RequestRefused, match="at 0xfe, 4 bytes: bad address"):
        device.link.call(Operation.READ_REGISTERS, 0xFE, 4)
    with pytest.raises(errors.RequestRefused, match="at 0xfc, 8 bytes: bad address"):
        device.link.call(Operation.WRITE_REGISTERS, 0xFC, payload=bytes(8))
    assert device.registers["identity"] == 0x54455353


def test_a_machine_that_halts_says_why_and_runs_again(device):
    broken = PROGRAM.content.copy()
    broken[PROGRAM.map.program] = 0xEE
    device.load(replace(PROGRAM, content=broken))
    with pytest.raises(errors.MachineHalted, match="halted with BAD_OPCODE at command 0"):
        device.run(PROGRAM, 0, random_image(GEOMETRY, seed=1))
    device.load(PROGRAM)
    image = random_image(GEOMETRY, seed=1)
    assert np.array_equal(device.run(PROGRAM, 0, image).output, expected(0, image))


def test_another_configuration_is_refused_by_both_names(device):
    other = compile_model(random_model(GEOMETRY, preset("ecp5-wide").numerics, seed=1), preset("ecp5-wide"))
    with pytest.raises(errors.WrongConfiguration, match=r"'tiny' \(0x12080222\).*'ecp5-wide' \(0x12080143\)"):
        device.load(other)
    same_word = replace(PROGRAM, config=replace(CONFIG, name="tiny-more", residual_words=8192))
    with pytest.raises(errors.WrongConfiguration, match="'tiny'.*'tiny-more'.*differ in sizes"):
        device.load(same_word)


# The line spoils bytes


class Spoil:
    """Every so many bytes one is dropped, doubled or changed, in both directions."""

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._random, self.count = share, random.Random(seed), 0

    def __call__(self, direction: str, content: bytes) -> bytes:
        found = bytearray()
        for byte in content:
            if self._random.random() < self._share:
                self.count += 1
                found += self._random.choice((b"", bytes([byte, byte]), bytes([byte ^ 1 << self._random.randrange(8)])))
            else:
                found.append(byte)
        return bytes(found)


def test_a_noisy_line_only_takes_longer(transport):
    spoil = Spoil(0.0005, seed=3)
    noisy = Noise(transport, spoil)
    with Device(noisy, answer_seconds=0.05 if isinstance(transport, ModelBoard) else 0.8) as device:
        device.load(PROGRAM)
        image = random_image(GEOMETRY, seed=7)
        assert np.array_equal(device.run(PROGRAM, 1, image).output, expected(1, image))
        assert spoil.count > 5 and device.link.resent > 3
        if isinstance(transport, ModelBoard):
            assert transport.starts == 1


def test_a_start_whose_reply_is_lost_is_not_executed_twice():
    board = ModelBoard(CONFIG)
    lost = []

    def spoil(direction: str, content: bytes) -> bytes:
        if direction == "in" and board.starts and not lost:
            lost.append(content)
            return b""
        return content

    with Device(Noise(board, spoil), answer_seconds=0.02) as device:
        device.load(PROGRAM)
        image = random_image(GEOMETRY, seed=7)
        assert np.array_equal(device.run(PROGRAM, 0, image).output, expected(0, image))
    assert lost and board.starts == 1 and device.link.resent == 1


# What the user should hear


class Fixed:
    """A transport that gives the same answer to everything."""

    name = "fixed"

    def __init__(self, answer=lambda content: b"") -> None:
        self._answer, self._waiting, self.closed = answer, b"", False

    def write(self, content: bytes) -> None:
        self._waiting += self._answer(content)

    def read(self, seconds: float) -> bytes:
        content, self._waiting = self._waiting, b""
        if not content:
            time.sleep(min(seconds, 0.01))
        return content

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda content: b"", "nothing came"),
        (lambda content: b"login: ", r"\d+ bytes came that make no sense"),
        (lambda content: content, r"\d+ bytes came that make no sense"),
    ],
    ids=["silence", "a terminal", "an echo"],
)
def test_nothing_that_speaks_the_protocol(answer, said):
    transport = Fixed(answer)
    with pytest.raises(errors.NoAnswer, match=f"no answer from fixed: {said} in .*bitstream.*--baud"):
        Device(transport, answer_seconds=0.02)
    assert transport.closed


def test_no_such_port_lists_those_there_are():
    with pytest.raises(errors.PortError, match="no serial port /dev/tessera-none; this computer has: "):
        SerialTransport("/dev/tessera-none", 3_000_000)


@pytest.mark.parametrize(
    ("register", "value", "said"),
    [("identity", 0xDEADBEEF, "identity register 0xdeadbeef, a Tessera has 0x54455353"), ("version", 1, "version 1")],
)
def test_wrong_device(register, value, said):
    board = ModelBoard(CONFIG)
    board.registers[REGISTERS[register].offset] = value
    with pytest.raises(errors.WrongDevice, match=said):
        Device(board)


def test_another_version_of_the_link():
    board = ModelBoard(CONFIG)
    board.identity = replace(board.identity, version=7)
    with pytest.raises(errors.WrongDevice, match="speaks version 7.*build 'model'"):
        Device(board)


def test_memory_that_forgets_is_found():
    board = ModelBoard(CONFIG)
    device = Device(board)
    read = board.read

    def forget(seconds: float) -> bytes:
        board.memory[1234] ^= 0x10 if board.memory[1234] == PROGRAM.content[1234] else 0
        return read(seconds)

    board.read = forget
    wanted, found = PROGRAM.content[1234], PROGRAM.content[1234] ^ 0x10
    with pytest.raises(errors.WrongContent, match=f"first at 0x4d2: {found:#04x} instead of {wanted:#04x}"):
        device.load(PROGRAM, verify=True)


def test_link_lost_within_a_transfer_says_how_far_it_came():
    board = ModelBoard(CONFIG)
    device = Device(board)
    board.broken = 3500
    whole = len(PROGRAM.content)
    with pytest.raises(errors.LinkLost, match=rf"[\d,]+ of {whole:,} bytes were written; once the board"):
        device.load(PROGRAM)


def test_a_port_that_goes_away_while_it_is_used():
    with SimulatedBoard(CONFIG) as board:
        device = Device(SerialTransport(board.port, 3_000_000), answer_seconds=SIMULATED_SECONDS)
        pulled = []

        def pull(stage: str, fraction: float, detail: str) -> None:
            if not pulled:
                pulled.append(int(detail.split()[0].replace(",", "")))
                board.kill()

        began = time.monotonic()
        with pytest.raises(errors.LinkLost) as caught:
            device.load(PROGRAM, on_progress=pull)
        said = re.search(r"([\d,]+) of [\d,]+ bytes were written", str(caught.value))
        assert said and int(said[1].replace(",", "")) >= pulled[0] and board.port in str(caught.value)
        assert time.monotonic() - began < 10
        device.close()


def test_the_boards_chip_keeps_checking():
    """A chip that needs more time than the controller gives it ends the simulation, and says why."""
    chip = SdramSettings(chip=replace(ANY_CHIP, rcd=31.0))
    with (
        SimulatedBoard(CONFIG, chip=chip) as board,
        Device(SerialTransport(board.port, 3_000_000), answer_seconds=SIMULATED_SECONDS) as device,
    ):
        with pytest.raises(errors.LinkLost):
            device.load(PROGRAM)
        assert "sdram_chip: tRCD violated in bank" in board.log()


def test_a_device_that_falls_silent():
    answers = ModelBoard(CONFIG)
    device = Device(answers, answer_seconds=0.02)
    device.link.transport = Fixed()
    with pytest.raises(errors.LinkLost, match="has not answered for"):
        device.read(0, 4096)


def test_requests_are_tried_a_bounded_number_of_times():
    sent = []
    link = Link(Fixed(lambda content: sent.append(content) or b""), answer_seconds=0.01)
    with pytest.raises(errors.NoAnswer):
        link.call(Operation.IDENTIFY)
    assert len(sent) == 6 and len(set(sent)) == 1
