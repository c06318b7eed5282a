"""What travels between a board's serial link and its memory: frames, headers, accesses, lights."""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.protocol import PAYLOAD_BYTES


def lights_layout() -> data.StructLayout:
    """One bit a light, light 0 first.

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
    names = "heartbeat initialised link_activity link_error busy done failed saturated"
    return data.StructLayout({name: 1 for name in names.split()})


def request_header_layout() -> data.StructLayout:
    """Header of a request, as it arrives."""
    return data.StructLayout({"sequence": 8, "operation": 8, "length": 16, "address": 32})


def received_frame_layout() -> data.StructLayout:
    """A request: ``status`` is OK, BAD_CRC or BAD_LENGTH; ``check`` its CRC; its payload lies in buffer ``slot``."""
    return data.StructLayout({**dict(request_header_layout().members), "check": 32, "slot": 1, "status": 3})


def reply_header_layout() -> data.StructLayout:
    """Header of a reply, as it leaves."""
    return data.StructLayout({"sequence": 8, "operation": 8, "status": 8, "length": 16})


def access_layout() -> data.StructLayout:
    """Write or read ``length`` bytes from ``address`` on, both whole words of what is accessed."""
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
