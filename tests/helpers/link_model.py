"""A board in a few lines of Python, to test the driver without a simulation; and a line that spoils bytes.

``tests/sw/driver/test_driver.py`` runs the same tests on it and on the simulated board, which keeps it honest.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from tessera.hw.config import AcceleratorConfig
from tessera.hw.control.control import IDENTITY, INTERFACE_VERSION, configuration_word
from tessera.hw.isa import ErrorCode
from tessera.hw.protocol import PAYLOAD_BYTES, REQUEST_MARKER, Identity, Operation, Reply, Status
from tessera.hw.register_map import REGISTERS, Access
from tessera.sw.driver.errors import LinkLost
from tests.helpers.emulator import Emulator

_HEADER = struct.Struct("<BBHI")


class ModelBoard:
    """A transport with a board at its end.

    Members: ``memory``; ``registers`` by offset; ``starts`` how often a run was started; ``requests`` received right.
    Set ``broken`` to lose the line after so many more bytes.
    """

    name = "model"

    def __init__(self, config: AcceleratorConfig, memory_bytes: int = 1 << 20) -> None:
        self.config = config
        self.memory = np.zeros(memory_bytes, np.uint8)
        self.registers: dict[int, int] = {}
        self.identity = Identity.of(config, clock_hz=100_000_000, build="model")
        self.starts, self.requests = 0, 0
        self.writes: list[tuple[str, int, bytes]] = []
        self.broken: int | None = None
        self._in, self._out, self._last = bytearray(), bytearray(), None
        fixed = {"identity": IDENTITY, "version": INTERFACE_VERSION, "configuration": configuration_word(config)}
        for name, value in fixed.items():
            self.registers[REGISTERS[name].offset] = value

    def write(self, content: bytes) -> None:
        if self.broken is not None:
            self.broken -= len(content)
            if self.broken < 0:
                raise LinkLost("the model's line is cut")
        self._in += content
        while self._frame():
            pass

    def read(self, seconds: float) -> bytes:
        content = bytes(self._out)
        self._out.clear()
        if not content:
            self._in.clear()  # silence: the device gives an unfinished frame up
        return content

    def close(self) -> None:
        pass

    def _frame(self) -> bool:
        """Take one frame, or what is not one, from the input; whether there may be more."""
        start = self._in.find(REQUEST_MARKER)
        if start < 0 or len(self._in) < start + 10:
            return False
        del self._in[:start]
        sequence, operation, length, address = _HEADER.unpack_from(self._in, 2)
        writes = operation & 1
        if length > PAYLOAD_BYTES or (writes and not length):
            del self._in[:10]
            self._reply(sequence, operation, Status.BAD_LENGTH)
            return True
        end = 10 + (length if writes else 0)
        if len(self._in) < end + 4:
            return False
        body, check = bytes(self._in[2:end]), bytes(self._in[end : end + 4])
        del self._in[: end + 4]
        if zlib.crc32(body).to_bytes(4, "little") != check:
            self._reply(sequence, operation, Status.BAD_CRC)
            return True
        self.requests += 1
        self._execute(sequence, operation, length, address, body[8:], check)
        return True

    def _reply(self, sequence: int, operation: int, status: int, payload: bytes = b"") -> None:
        self._out += Reply(sequence, operation, status, payload).encode()

    def _execute(self, sequence: int, operation: int, length: int, address: int, payload: bytes, check: bytes) -> None:
        if operation == Operation.IDENTIFY:
            self._last = None
            return self._reply(sequence, operation, Status.OK, self.identity.encode())
        on_memory = operation >> 1 == Operation.READ_MEMORY >> 1
        if not on_memory and operation >> 1 != Operation.READ_REGISTERS >> 1:
            return self._reply(sequence, operation, Status.BAD_OPERATION)
        word = self.config.memory_bytes if on_memory else 4
        if not length or length % word:
            return self._reply(sequence, operation, Status.BAD_LENGTH)
        if address % word or address + length > (1 << 32 if on_memory else 256):
            return self._reply(sequence, operation, Status.BAD_ADDRESS)
        again, self._last = self._last == (sequence, check), (sequence, check)
        status, found = Status.OK, b""
        if on_memory:
            status, found = self._memory(operation, address, length, payload)
        elif operation == Operation.READ_REGISTERS:
            words = (self.registers.get(at, 0) for at in range(address, address + length, 4))
            found = b"".join(value.to_bytes(4, "little") for value in words)
        elif not again:
            for at in range(0, length, 4):
                self._register(address + at, int.from_bytes(payload[at : at + 4], "little"))
        return self._reply(sequence, operation, status, found)

    def _memory(self, operation: int, address: int, length: int, payload: bytes) -> tuple[Status, bytes]:
        if address + length > len(self.memory):
            return Status.BUS_ERROR, b""
        if operation == Operation.READ_MEMORY:
            return Status.OK, self.memory[address : address + length].tobytes()
        self.memory[address : address + length] = np.frombuffer(payload, np.uint8)
        self.writes.append(("memory", address, payload))
        return Status.OK, b""

    def _register(self, offset: int, value: int) -> None:
        self.writes.append(("register", offset, value.to_bytes(4, "little")))
        if offset == REGISTERS["control"].offset:
            if value & 1:
                self._run()
        elif REGISTERS_BY_OFFSET[offset].access is not Access.READ_ONLY:
            self.registers[offset] = value

    def _run(self) -> None:
        self.starts += 1
        settings = {name: self.registers.get(register.offset, 0) for name, register in REGISTERS.items()}
        status, code = 2, ErrorCode.NONE
        try:
            Emulator(self.config, self.memory, settings).run()
        except ValueError:  # of the emulator: an opcode that there is not
            status, code = 4, ErrorCode.BAD_OPCODE
        for name, value in {"status": status, "error_code": code, "cycles": 1000}.items():
            self.registers[REGISTERS[name].offset] = value


REGISTERS_BY_OFFSET = {register.offset: register for register in REGISTERS.values()}


class Noise:
    """A transport through which bytes are dropped, doubled and changed.

    ``spoil`` is called with direction ("out" or "in") and the bytes, and returns what arrives.
    """

    def __init__(self, inner, spoil) -> None:
        self._inner, self._spoil = inner, spoil
        self.name = inner.name

    def write(self, content: bytes) -> None:
        self._inner.write(self._spoil("out", content))

    def read(self, seconds: float) -> bytes:
        content = self._inner.read(seconds)
        return self._spoil("in", content) if content else content

    def close(self) -> None:
        self._inner.close()
