"""The host link's protocol: every constant and layout, for the hardware and the host alike.

All fields are little-endian. A request is answered by exactly one reply, in order::

    request  marker 2 | sequence 1 | operation 1 | length 2 | address 4 | payload | CRC-32 4
    reply    marker 2 | sequence 1 | operation 1 | status 1 | length 2  | payload | CRC-32 4

The CRC is that of Ethernet (``zlib.crc32``) over everything between the marker and itself. ``length`` counts the bytes
written, which are the request's payload, or those read, which are the reply's. ``docs/boards.md`` has the reasons.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from tessera.common.digest import content_digest

if TYPE_CHECKING:
    from tessera.hw.config import AcceleratorConfig

VERSION = 1
"""Raised with every change that an older host or device would misunderstand."""
PAYLOAD_BYTES = 1024
"""Most payload of a frame; a power of two."""
REGISTER_SPACE = 256
"""Bytes of the register file; a register is 4."""
REQUEST_MARKER, REPLY_MARKER = b"\xa5\xd2", b"\x5a\x2d"
"""They differ, so that an echo is no reply."""
CRC_BYTES = 4
READ_WINDOW = 2
"""Reads that the device holds: one is answered, the next is waiting."""
WRITE_WINDOW = 8
"""Writes that may be unanswered: the device works them off faster than the line brings them."""
IDLE_BYTES = 20
"""Byte times of silence after which a receiver gives an unfinished frame up, at the least."""

_REQUEST, _REPLY = struct.Struct("<BBHI"), struct.Struct("<BBBH")
REQUEST_HEADER_BYTES, REPLY_HEADER_BYTES = _REQUEST.size, _REPLY.size
"""Between marker and payload."""
REQUEST_OVERHEAD = len(REQUEST_MARKER) + REQUEST_HEADER_BYTES + CRC_BYTES
REPLY_OVERHEAD = len(REPLY_MARKER) + REPLY_HEADER_BYTES + CRC_BYTES


class Operation(IntEnum):
    """What a request asks for; odd ones bring a payload."""

    READ_REGISTERS = 2
    """``length / 4`` registers from ``address``, both multiples of 4."""
    WRITE_REGISTERS = 3
    """The same; not executed again when the frame executed last comes once more."""
    READ_MEMORY = 4
    """Bytes from ``address``, both multiples of the memory bus's width."""
    WRITE_MEMORY = 5
    """The same."""
    IDENTIFY = 6
    """An :class:`Identity`; address and length are 0. The device forgets the frame executed last."""

    @property
    def writes(self) -> bool:
        """Whether the request has the payload, rather than the reply."""
        return bool(self & 1)


class Status(IntEnum):
    """How a request went. Only with OK is there a payload; only BUS_ERROR may have had an effect."""

    OK = 0
    BAD_CRC = 1
    """Changed on the way; sequence and operation are what arrived."""
    BAD_LENGTH = 2
    """Zero, more than a frame holds, or no whole words."""
    BAD_OPERATION = 3
    BAD_ADDRESS = 4
    """No multiple of the word, or beyond the register file or the address space."""
    BUS_ERROR = 5
    """Registers or memory answered with an error; it may have been carried out in part."""


@dataclass(frozen=True)
class Request:
    """A frame of the host. ``length`` is that of the payload if there is one."""

    sequence: int
    operation: int
    length: int = 0
    address: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as it goes over the line."""
        body = _REQUEST.pack(self.sequence, self.operation, self.length, self.address) + self.payload
        return REQUEST_MARKER + body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")

    @property
    def reply_bytes(self) -> int:
        """Length of a good reply's frame."""
        if self.operation == Operation.IDENTIFY:
            return REPLY_OVERHEAD + IDENTITY_BYTES
        return REPLY_OVERHEAD + (0 if self.operation & 1 else self.length)


@dataclass(frozen=True)
class Reply:
    """A frame of the device."""

    sequence: int
    operation: int
    status: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as it goes over the line."""
        body = _REPLY.pack(self.sequence, self.operation, self.status, len(self.payload)) + self.payload
        return REPLY_MARKER + body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


class ReplyParser:
    """Finds replies in what comes over the line, whatever else is in it.

    A frame that is not right costs its marker only: the search goes on behind it, so that no good frame is lost.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.discarded = 0
        """Bytes that belonged to no good frame."""

    def feed(self, content: bytes) -> list[Reply]:
        """Add bytes and return the replies that they complete."""
        self._bytes += content
        found: list[Reply] = []
        while (reply := self._next()) is not None:
            found += reply
        return found

    def silence(self) -> list[Reply]:
        """Nothing came for a while: an unfinished frame will not be finished; return what is behind its marker."""
        found: list[Reply] = []
        while self._bytes:
            self._drop(1)
            found += self.feed(b"")
        return found

    def _drop(self, count: int) -> None:
        self.discarded += count
        del self._bytes[:count]

    def _next(self) -> list[Reply] | None:
        """At most one reply; None if more bytes are needed to go on."""
        start = self._bytes.find(REPLY_MARKER)
        if start < 0:
            self._drop(max(0, len(self._bytes) - (1 if self._bytes.endswith(REPLY_MARKER[:1]) else 0)))
            return None
        self._drop(start)
        header = len(REPLY_MARKER) + REPLY_HEADER_BYTES
        if len(self._bytes) < header:
            return None
        sequence, operation, status, length = _REPLY.unpack_from(self._bytes, len(REPLY_MARKER))
        end = header + length + CRC_BYTES
        if length > PAYLOAD_BYTES:
            self._drop(1)
            return []
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[len(REPLY_MARKER) : end - CRC_BYTES])
        if zlib.crc32(body).to_bytes(CRC_BYTES, "little") != self._bytes[end - CRC_BYTES : end]:
            self._drop(1)
            return []
        del self._bytes[:end]
        return [Reply(sequence, operation, status, body[REPLY_HEADER_BYTES:])]


_IDENTITY = struct.Struct("<HHI8s16s32s")
IDENTITY_BYTES = _IDENTITY.size


@dataclass(frozen=True)
class Identity:
    """What a device says that it is.

    Parameters
    ----------
    clock_hz:
        Core clock.
    digest:
        8 bytes that stand for the accelerator's whole configuration, name included (:func:`configuration_digest`).
    preset:
        Its name, at most 16 ASCII characters.
    build:
        Where the bitstream comes from, such as a git id: at most 32 ASCII characters.
    version, payload_bytes:
        Of the protocol.

    Raises
    ------
    ValueError
        A text is too long, or not ASCII.
    """

    clock_hz: int
    digest: bytes
    preset: str
    build: str
    version: int = VERSION
    payload_bytes: int = PAYLOAD_BYTES

    def __post_init__(self) -> None:
        for name, room in (("preset", 16), ("build", 32)):
            text = getattr(self, name)
            if len(text) > room or not text.isascii():
                raise ValueError(f"{name} of the identity is '{text}'; choose at most {room} ASCII characters")

    @classmethod
    def of(cls, config: AcceleratorConfig, *, clock_hz: int, build: str) -> Identity:
        """Identity of a build of ``config``."""
        return cls(clock_hz=clock_hz, digest=configuration_digest(config), preset=config.name[:16], build=build[:32])

    def encode(self) -> bytes:
        """Payload of the reply to IDENTIFY."""
        texts = (text.encode("ascii") for text in (self.preset, self.build))
        return _IDENTITY.pack(self.version, self.payload_bytes, self.clock_hz, self.digest, *texts)

    @classmethod
    def decode(cls, payload: bytes) -> Identity:
        """Read what :meth:`encode` made; ValueError if it cannot be."""
        if len(payload) != IDENTITY_BYTES:
            raise ValueError(f"an identity has {IDENTITY_BYTES} bytes, not {len(payload)}")
        version, room, clock, digest, *texts = _IDENTITY.unpack(payload)
        preset, build = (text.rstrip(b"\0").decode("ascii", "replace").replace("\ufffd", "?") for text in texts)
        return cls(clock_hz=clock, digest=digest, preset=preset, build=build, version=version, payload_bytes=room)


def configuration_digest(config: AcceleratorConfig) -> bytes:
    """8 bytes that differ between any two configurations."""
    return bytes.fromhex(content_digest(json.dumps(config.to_dict(), sort_keys=True).encode()))[:8]
