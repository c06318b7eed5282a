"""What travels between a board's serial link and its memory: frames, headers, accesses, lights."""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.protocol import PAYLOAD_BYTES


def lights_layout() -> data.StructLayout:
    """One bit per light, light 0 first.

    Members
    -------
    heartbeat:
        Half a second on, half a second off: the clock runs and nothing is held in reset.
    initialised:
        The memory may be used.
    link_activity:
        A good frame came over the serial line.
    link_error:
        Something that came over the serial line was not right.
    busy:
        The accelerator computes.
    done:
        The latest run reached its end.
    failed:
        It was halted by an error.
    saturated:
        A residual value saturated in it.
    """
    return data.StructLayout(
        {
            "heartbeat": 1,
            "initialised": 1,
            "link_activity": 1,
            "link_error": 1,
            "busy": 1,
            "done": 1,
            "failed": 1,
            "saturated": 1,
        }
    )


def request_header_layout() -> data.StructLayout:
    """Header of a request, as it arrives.

    Members
    -------
    sequence:
        Number that the host gave the request.
    operation:
        A ``tessera.hw.protocol.Operation``.
    length:
        Bytes to write or read.
    address:
        First byte in memory, or in the register file.
    """
    return data.StructLayout({"sequence": 8, "operation": 8, "length": 16, "address": 32})


def received_frame_layout() -> data.StructLayout:
    """A request; the fields of :func:`request_header_layout`, and what is known of the frame.

    Members
    -------
    check:
        CRC of the frame.
    slot:
        Payload slot that holds its payload.
    status:
        OK, BAD_CRC or BAD_LENGTH of ``tessera.hw.protocol.Status``.
    """
    return data.StructLayout({**dict(request_header_layout().members), "check": 32, "slot": 1, "status": 3})


def reply_header_layout() -> data.StructLayout:
    """Header of a reply, as it leaves.

    Members
    -------
    sequence, operation:
        Fields of the request.
    status:
        A ``tessera.hw.protocol.Status``.
    length:
        Bytes of the payload.
    """
    return data.StructLayout({"sequence": 8, "operation": 8, "status": 8, "length": 16})


def payload_byte_layout(depth: int) -> data.StructLayout:
    """A byte of a payload on its way into a buffer of ``depth`` bytes.

    Members
    -------
    address:
        Place in the buffer.
    data:
        The byte.
    """
    return data.StructLayout({"address": range(depth), "data": 8})


def access_layout() -> data.StructLayout:
    """One access to registers or memory.

    Members
    -------
    write:
        1 to write, 0 to read.
    address:
        First byte; a multiple of the word that is accessed.
    length:
        Length in bytes; a multiple of the word that is accessed.
    """
    return data.StructLayout({"write": 1, "address": 32, "length": range(PAYLOAD_BYTES + 1)})


class BytePort(wiring.Signature):
    """Accesses as bytes, from the side that asks.

    Members
    -------
    access:
        One at a time: the next only after ``done``.
    given, taken:
        Bytes written, and bytes read.
    done, failed:
        Pulse at the end; with it, whether the bus answered any of it with an error.
    """

    def __init__(self) -> None:
        byte = stream.Signature(8)
        super().__init__(
            {
                "access": Out(stream.Signature(access_layout())),
                "given": Out(byte),
                "taken": In(byte),
                "done": In(1),
                "failed": In(1),
            }
        )
