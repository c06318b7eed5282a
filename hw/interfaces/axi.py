"""AXI4 and AXI4-Lite as signatures of channels, and the bursts that units ask for.

Each channel is a stream whose payload has the fields of the AXI standard, by their names there without the channel's:
``bus.ar.payload.addr`` is ARADDR. ``tessera.hw.bus.flat_axi`` gives a bus the standard's flat names.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig

INCREMENTING = 1
"""Burst kind INCR: each beat lies behind the one before it."""
OKAY, DECERR = 0b00, 0b11
"""Responses: done, and no memory at this address. Bit 1 is set in every response that reports an error."""


def beat_run_layout() -> data.StructLayout:
    """A run of beats in memory, which takes any number of bursts.

    Members
    -------
    address:
        First byte, a multiple of the bus width.
    beats_minus_one:
        Length in beats, less one.
    """
    return data.StructLayout({"address": 32, "beats_minus_one": 32})


def read_request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A burst that a client asks the read master for. It does not cross 4 KiB, and the client has room for it.

    Members
    -------
    address:
        First byte, a multiple of the bus width.
    beats_minus_one:
        Length in beats, less one: 1 to 256 beats.
    """
    return data.StructLayout({"address": 32, "beats_minus_one": 8})


def burst_layout() -> data.StructLayout:
    """Payload of AR and AW: one burst.

    Members
    -------
    addr:
        First byte.
    len:
        Length in beats, less one.
    size:
        Log2 of the bytes per beat.
    burst:
        Burst kind; always ``INCREMENTING`` here.
    """
    return data.StructLayout({"addr": 32, "len": 8, "size": 3, "burst": 2})


def read_beat_layout(width: int) -> data.StructLayout:
    """Payload of R in AXI4: one beat of ``width`` bits.

    Members
    -------
    data:
        The bytes, lowest address in the low bits.
    resp:
        Response to this beat.
    last:
        1 in a burst's last beat.
    """
    return data.StructLayout({"data": width, "resp": 2, "last": 1})


def write_beat_layout(width: int) -> data.StructLayout:
    """Payload of W in AXI4: one beat of ``width`` bits.

    Members
    -------
    data:
        The bytes, lowest address in the low bits.
    strb:
        One bit per byte: 1 if the byte is written.
    last:
        1 in a burst's last beat.
    """
    return data.StructLayout({"data": width, "strb": width // 8, "last": 1})


def response_layout() -> data.StructLayout:
    """Payload of B: ``resp``, the response to a whole burst (AXI4) or a word (AXI4-Lite)."""
    return data.StructLayout({"resp": 2})


class Axi4Read(wiring.Signature):
    """The read channels of AXI4 from the master's side: one ID, INCR bursts of full-width beats.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus.

    Members
    -------
    ar:
        Bursts; :func:`burst_layout`.
    r:
        Their beats, in order; :func:`read_beat_layout`.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(
            {
                "ar": Out(stream.Signature(burst_layout())),
                "r": In(stream.Signature(read_beat_layout(8 * config.memory_bytes))),
            }
        )


class Axi4Write(wiring.Signature):
    """The write channels of AXI4 from the master's side: one ID, INCR bursts of full-width beats.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus.

    Members
    -------
    aw:
        Bursts; :func:`burst_layout`.
    w:
        Their beats, in order; :func:`write_beat_layout`.
    b:
        One response per burst; :func:`response_layout`.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__(
            {
                "aw": Out(stream.Signature(burst_layout())),
                "w": Out(stream.Signature(write_beat_layout(8 * config.memory_bytes))),
                "b": In(stream.Signature(response_layout())),
            }
        )


class Axi4Lite(wiring.Signature):
    """AXI4-Lite for the control registers, from the master's side (use ``In(Axi4Lite())`` on the slave).

    Members
    -------
    aw, ar:
        Byte address ``addr`` of a register to write, and of one to read.
    w:
        The word ``data`` to write, and ``strb`` with one bit per byte.
    b:
        One response per write; :func:`response_layout`.
    r:
        The word ``data`` that was read, and its response ``resp``.
    """

    def __init__(self) -> None:
        address = stream.Signature(data.StructLayout({"addr": 8}))
        super().__init__(
            {
                "aw": Out(address),
                "w": Out(stream.Signature(data.StructLayout({"data": 32, "strb": 4}))),
                "b": In(stream.Signature(response_layout())),
                "ar": Out(address),
                "r": In(stream.Signature(data.StructLayout({"data": 32, "resp": 2}))),
            }
        )


def any_valid(bus: wiring.PureInterface) -> Value:
    """1 while a channel of an ``Axi4Lite`` has a transfer to make: an access is under way."""
    return Cat(channel.valid for channel in (bus.aw, bus.w, bus.ar, bus.b, bus.r)).any()
