"""A board with a Tessera on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tessera.common.progress import Progress, silent, within
from tessera.hw.control.control import IDENTITY, INTERFACE_VERSION, configuration_word
from tessera.hw.isa import CycleCause, ErrorCode
from tessera.hw.protocol import PAYLOAD_BYTES, VERSION, Identity, Operation, Request, configuration_digest
from tessera.hw.register_map import REGISTERS
from tessera.program.program import Program
from tessera.sw.driver.errors import (
    LinkLost,
    MachineHalted,
    WrongConfiguration,
    WrongContent,
    WrongDevice,
)
from tessera.sw.driver.link import ANSWER_SECONDS, Link
from tessera.sw.driver.transport import Transport

COUNTERS = ("cycles", *(cause.counter for cause in CycleCause), "read_bytes", "write_bytes")
"""What :meth:`Device.counters` reads, besides status and error."""
RUN_SECONDS = 60.0
"""How long a frame may take."""
WATCHDOG_CYCLES = 1_000_000
_START, _ABORT = 1, 2
_BUSY, _DONE, _ERROR = 1, 2, 4
_LAST_REGISTER = max(register.offset for register in REGISTERS.values())


@dataclass(frozen=True, kw_only=True)
class BoardFrame:
    """Members: ``output`` int32 (rows, channels) in the residual's format; ``counters`` by register name."""

    output: np.ndarray
    counters: dict[str, int]


class BoardRegisters:
    """The registers of ``tessera.hw.register_map`` by name: ``registers["task"] = 1``; KeyError if unknown."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __getitem__(self, name: str) -> int:
        return int.from_bytes(self._link.call(Operation.READ_REGISTERS, REGISTERS[name].offset, 4), "little")

    def __setitem__(self, name: str, value: int) -> None:
        self._link.call(Operation.WRITE_REGISTERS, REGISTERS[name].offset, payload=value.to_bytes(4, "little"))

    def all(self) -> dict[str, int]:
        """Every register, in one request."""
        content = self._link.call(Operation.READ_REGISTERS, 0, _LAST_REGISTER + 4)
        return {
            name: int.from_bytes(content[register.offset : register.offset + 4], "little")
            for name, register in REGISTERS.items()
        }


class Device:
    """A board on a line; a context manager that closes the line.

    Parameters
    ----------
    transport:
        The line.
    answer_seconds:
        As of :class:`tessera.sw.driver.link.Link`; a simulated board needs more.

    Members
    -------
    identity:
        What the device says that it is.
    registers:
        Of the accelerator.
    link:
        The protocol, for its statistics.

    Raises
    ------
    NoAnswer, LinkLost
        Nothing answers; also from every method.
    WrongDevice
        What answers is no Tessera of these versions.
    """

    def __init__(self, transport: Transport, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.link = Link(transport, answer_seconds=answer_seconds)
        self.registers = BoardRegisters(self.link)
        try:
            self.identity = self.identify()
            self._width = 1 << (self.registers["configuration"] >> 8 & 0xF)
        except BaseException:
            transport.close()
            raise

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the line."""
        self.link.transport.close()

    def identify(self) -> Identity:
        """Ask who is there, and check that host and device understand each other."""
        name = self.link.transport.name
        identity = Identity.decode(self.link.call(Operation.IDENTIFY))
        if identity.version != VERSION or identity.payload_bytes < PAYLOAD_BYTES:
            raise WrongDevice(
                f"the device on {name} speaks version {identity.version} of the link with frames of "
                f"{identity.payload_bytes} bytes, this driver version {VERSION} with {PAYLOAD_BYTES}; use the driver "
                f"of its bitstream (build '{identity.build}') or load a newer bitstream"
            )
        found, version = self.registers["identity"], self.registers["version"]
        if found != IDENTITY:
            raise WrongDevice(
                f"the device on {name} has identity register {found:#010x}, a Tessera has {IDENTITY:#010x}; "
                "is this the right board and bitstream?"
            )
        if version != INTERFACE_VERSION:
            raise WrongDevice(
                f"the accelerator on {name} has interface version {version}, this driver needs {INTERFACE_VERSION}; "
                f"its bitstream is build '{identity.build}': load one of this version"
            )
        return identity

    def check(self, program: Program) -> None:
        """Raise WrongConfiguration unless the program was compiled for this very machine."""
        config, identity = program.config, self.identity
        if identity.digest != configuration_digest(config):
            device, wanted = self.registers["configuration"], configuration_word(config)
            alike = "; they differ in sizes of memories or limits only" if device == wanted else ""
            raise WrongConfiguration(
                f"the bitstream (build '{identity.build}') is of configuration '{identity.preset}' ({device:#010x}), "
                f"the program of '{config.name}' ({wanted:#010x}){alike}; compile the program with --preset "
                f"{identity.preset}, or load a bitstream of {config.name}"
            )

    def read(self, address: int, length: int, on_progress: Progress = silent) -> bytes:
        """Bytes from the board's memory, of any alignment.

        Raises
        ------
        LinkLost
            Says how far it came.
        RequestRefused
            There is no such memory.
        """
        first = address // self._width * self._width
        end = -(-(address + length) // self._width) * self._width
        parts = self._transfer(Operation.READ_MEMORY, first, end - first, b"", on_progress)
        return b"".join(parts)[address - first :][:length]

    def write(self, address: int, content: bytes, on_progress: Progress = silent) -> None:
        """Bytes into the board's memory, of any alignment; errors as of :meth:`read`."""
        before = address % self._width
        after = -(address + len(content)) % self._width
        if before:
            content = self.read(address - before, before) + content
        if after:
            content += self.read(address - before + len(content), after)
        self._transfer(Operation.WRITE_MEMORY, address - before, len(content), content, on_progress)

    def _transfer(
        self, operation: Operation, first: int, length: int, content: bytes, on_progress: Progress
    ) -> list[bytes]:
        """Cut at multiples of a frame's payload, so that no request crosses a page."""
        starts = [first, *range(first // PAYLOAD_BYTES * PAYLOAD_BYTES + PAYLOAD_BYTES, first + length, PAYLOAD_BYTES)]
        pieces = [
            (start, end - start)
            for start, end in zip(starts, [*starts[1:], first + length], strict=True)
            if end > start
        ]
        requests = [Request(0, operation, size, at, content[at - first :][:size]) for at, size in pieces]
        done = 0

        def count(request: Request) -> None:
            nonlocal done
            done += request.length
            on_progress("transfer", done / length, "")

        try:
            return list(self.link.exchange(requests, count))
        except LinkLost as error:
            raise LinkLost(
                f"{error}. {done:,} of {length:,} bytes {'were written' if content else 'were read'}; once the board "
                "answers again, start over: nothing that was begun has to be undone"
            ) from None

    def load(self, program: Program, *, verify: bool = False, on_progress: Progress = silent) -> None:
        """Bring a program and its weights into the board's memory.

        Parameters
        ----------
        program:
            Compiled for this board's configuration.
        verify:
            Read everything back and compare. Every frame has a CRC anyway; this also checks the memory.
        on_progress:
            Callback for the stage ``load board``, of both ways together; the detail has bytes and kB/s.

        Raises
        ------
        WrongConfiguration
            See :meth:`check`.
        WrongContent
            The first byte that differs.
        """
        self.check(program)
        content = program.content.tobytes()
        whole = len(content) * (2 if verify else 1)
        began = time.perf_counter()

        def told(stage: str, fraction: float, detail: str) -> None:
            done = round(fraction * whole)
            rate = done / max(time.perf_counter() - began, 1e-9) / 1000
            on_progress("load board", fraction, f"{done:,} of {whole:,} bytes, {rate:,.0f} kB/s")

        self.write(0, content, within(told, "write", stop=len(content) / whole))
        if not verify:
            return
        found = self.read(0, len(content), within(told, "read back", start=0.5))
        if found != content:
            differing = np.flatnonzero(np.frombuffer(found, np.uint8) != program.content)
            at = int(differing[0])
            raise WrongContent(
                f"{len(differing):,} of {len(content):,} bytes read back are not what was written, first at {at:#x}: "
                f"{found[at]:#04x} instead of {content[at]:#04x}; the board's memory is faulty or too fast"
            )

    def run(self, program: Program, task: int, image: np.ndarray, *, seconds: float = RUN_SECONDS) -> BoardFrame:
        """Run a picture, uint8 (3, H, W), through a loaded program.

        Raises
        ------
        MachineHalted
            With the ErrorCode, or after ``seconds``.
        ValueError
            The picture or the task is not one of the model's.
        """
        region = program.map
        self.write(region.image, program.picture(image).tobytes())
        for name, value in (program.registers(task) | {"watchdog_limit": WATCHDOG_CYCLES}).items():
            self.registers[name] = value
        self.registers["control"] = _START
        limit = time.monotonic() + seconds
        while not (status := self.registers["status"]) & (_DONE | _ERROR):
            if time.monotonic() > limit:
                command = self.registers["command_index"]
                self.registers["control"] = _ABORT
                raise MachineHalted(f"no result after {seconds:.0f} s; the machine was at command {command}; aborted")
        counters = self.counters()
        if status & _ERROR:
            code = counters["error_code"]
            name = ErrorCode(code).name if code in list(ErrorCode) else f"error {code}"
            self.registers["control"] = _ABORT
            raise MachineHalted(
                f"the machine halted with {name} at command {counters['error_command']}, address "
                f"{counters['error_address']:#x}; load the program again and retry"
            )
        output = program.outputs[task]
        content = self.read(region.output, output.shape[0] * output.row_bytes)
        return BoardFrame(output=output.read(np.frombuffer(content, np.uint8)), counters=counters)

    def counters(self) -> dict[str, int]:
        """Status, error and what the last run's cycles went into."""
        found: Mapping[str, int] = self.registers.all()
        return {name: found[name] for name in ("status", "error_code", "error_command", "error_address", *COUNTERS)}
