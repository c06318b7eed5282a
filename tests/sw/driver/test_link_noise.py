"""One byte of a frame is dropped, doubled or changed, at every place: nothing wrong is written, and the link recovers.

Requests go to the hardware (and to the model of it); replies come from the model, because only the driver reads them.
Every request writes, or asks for, something of its own, so that the log of writes shows what was carried out.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tessera.hw.presets import preset
from tessera.hw.protocol import (
    IDENTITY_BYTES,
    REPLY_OVERHEAD,
    REQUEST_MARKER,
    REQUEST_OVERHEAD,
    Operation,
    Reply,
    ReplyParser,
    Request,
    Status,
)
from tessera.hw.register_map import REGISTERS
from tessera.sim.board.board import SimulatedBoard
from tessera.sw.driver.device import Device
from tessera.sw.driver.transport import SerialTransport
from tests.helpers.link_model import ModelBoard, Noise

CONFIG = preset("tiny")
REGISTER = REGISTERS["output_address"].offset
PAYLOADS = {Operation.WRITE_REGISTERS: 4, Operation.WRITE_MEMORY: 8}
FAULTS = {
    "dropped": lambda byte: b"",
    "doubled": lambda byte: bytes([byte, byte]),
    "low bit": lambda byte: bytes([byte ^ 1]),
    "high bit": lambda byte: bytes([byte ^ 0x80]),
}


class OneFault:
    """Spoils one byte of the next frame in one direction."""

    def __init__(self) -> None:
        self.direction, self.place, self.fault = "", -1, FAULTS["dropped"]

    def arm(self, direction, place, fault):
        self.direction, self.place, self.fault = direction, place, FAULTS[fault]

    def __call__(self, direction, content):
        if direction != self.direction or self.place < 0:
            return content
        place, self.place = self.place, self.place - len(content)
        return content if place >= len(content) else content[:place] + self.fault(content[place]) + content[place + 1 :]


def frame_bytes(operation, direction):
    """Length of the frames that the sweep sends and gets."""
    if direction == "out":
        return REQUEST_OVERHEAD + PAYLOADS.get(operation, 0)
    payload = {Operation.IDENTIFY: IDENTITY_BYTES, Operation.READ_REGISTERS: 4, Operation.READ_MEMORY: 8}
    return REPLY_OVERHEAD + payload.get(operation, 0)


def sweep(transport, directions, answer_seconds):
    """Every place of every kind of frame; returns the writes that there should have been."""
    fault = OneFault()
    device = Device(Noise(transport, fault), answer_seconds=answer_seconds)
    identity, wanted, number, parsed = device.identity, [], 0, 0
    for direction in directions:
        for operation in Operation:
            for place in range(frame_bytes(operation, direction)):
                for name in FAULTS:
                    number += 1
                    payload = number.to_bytes(4, "little")
                    address = 0x1000 + 8 * number
                    fault.arm(direction, place, name)
                    where = (direction, operation.name, place, name)
                    if operation == Operation.IDENTIFY:
                        assert device.identify() == identity, where
                    elif operation == Operation.READ_REGISTERS:
                        assert device.registers["identity"] == 0x54455353, where
                    elif operation == Operation.WRITE_REGISTERS:
                        device.link.call(operation, REGISTER, payload=payload)
                        wanted.append(("register", REGISTER, payload))
                    elif operation == Operation.WRITE_MEMORY:
                        device.write(address, 2 * payload)
                        wanted.append(("memory", address, 2 * payload))
                    else:
                        assert device.read(0x200, 8) == bytes(8), where
                    parsed += fault.place < 0
    assert number == parsed and device.link.resent >= number / 3
    return wanted


def check(wanted, found):
    """Registers were written exactly as wanted, memory the same but for repetitions."""
    registers = [entry for entry in found if entry[0] == "register"]
    assert registers == [entry for entry in wanted if entry[0] == "register"]
    memory = [entry for entry in found if entry[0] == "memory"]
    assert list(dict.fromkeys(memory)) == [entry for entry in wanted if entry[0] == "memory"]


def logged(path: Path):
    """The accesses that the simulated board noted, as ``ModelBoard.writes``."""
    found = []
    for line in path.read_text().splitlines():
        kind, *values = line.split()
        if kind == "register":
            found.append((kind, int(values[0]), int(values[1]).to_bytes(4, "little")))
        elif kind == "memory":
            found.append((kind, int(values[0]), b""))
        else:
            where, address, before = found.pop()
            found.append((where, address, before + int(values[0], 16).to_bytes(CONFIG.memory_bytes, "little")))
    return found


def test_both_ways_on_the_model():
    board = ModelBoard(CONFIG)
    wanted = sweep(board, ("out", "in"), 0.0)
    check(wanted, board.writes)


def test_every_request_on_the_hardware(tmp_path, monkeypatch):
    monkeypatch.setattr("tessera.sw.driver.link.ATTEMPTS", 100)  # impatient, so that a fault costs little time
    log = tmp_path / "accesses"
    with SimulatedBoard(CONFIG, accesses=log) as board:
        wanted = sweep(SerialTransport(board.port, 3_000_000), ("out",), 0.05)
    check(wanted, logged(log))


def test_rubbish_does_nothing_to_the_hardware(tmp_path):
    log = tmp_path / "accesses"
    generator = random.Random(5)
    good = Request(9, Operation.WRITE_MEMORY, 64, 0x100, bytes(range(64))).encode()
    with SimulatedBoard(CONFIG, accesses=log) as board:
        transport = SerialTransport(board.port, 3_000_000)
        for _ in range(40):
            start, end = sorted(generator.sample(range(len(good)), 2))
            transport.write(good[start : end - 1] + generator.randbytes(20) + REQUEST_MARKER * generator.randrange(3))
        with Device(transport, answer_seconds=0.5) as device:
            assert device.identity.preset == "tiny" and device.read(0x100, 64) == bytes(64)
    assert logged(log) == []


# The driver's side of it, alone


def test_replies_are_found_in_anything():
    generator = random.Random(6)
    wanted, line = [], b""
    for number in range(200):
        reply = Reply(number, Operation.READ_MEMORY, Status.OK, generator.randbytes(generator.randrange(40)))
        wanted.append(reply)
        line += generator.choice((b"", b"\x5a", b"\x5a\x2d", generator.randbytes(9))) + reply.encode()
    parser, found = ReplyParser(), []
    while line:
        size = generator.randrange(1, 30)
        found, line = found + parser.feed(line[:size]), line[size:]
    assert [reply for reply in found + parser.silence() if reply in wanted] == wanted
    assert parser.discarded > 0 and parser.silence() == []


@pytest.mark.parametrize("place", range(REPLY_OVERHEAD + 3))
def test_a_spoilt_reply_costs_itself_only(place):
    first = Reply(1, Operation.READ_MEMORY, Status.OK, b"abc")
    second = Reply(2, Operation.READ_MEMORY, Status.OK, b"def")
    for fault in FAULTS.values():
        content = first.encode()
        spoilt = content[:place] + fault(content[place]) + content[place + 1 :]
        parser = ReplyParser()
        found = parser.feed(spoilt + second.encode()) + parser.silence()
        assert second in found and set(found) <= {first, second}
