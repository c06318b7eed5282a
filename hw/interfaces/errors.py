"""How a unit reports an error, and how the control registers guard units that touch memory."""

from __future__ import annotations

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import place_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import ADDRESS_WIDTH, BYTE_ADDRESS_WIDTH


def error_record_layout() -> data.StructLayout:
    """Why the machine halts.

    Members
    -------
    code:
        An ``tessera.hw.isa.ErrorCode``.
    address:
        Address that the error concerns: bytes for memory, words for a memory on chip.
    """
    return data.StructLayout({"code": 8, "address": 32})


def window_layout() -> data.StructLayout:
    """Part of memory that the machine may touch.

    Members
    -------
    base:
        First byte address of it.
    limit:
        First byte address beyond it.
    """
    return data.StructLayout({"base": BYTE_ADDRESS_WIDTH, "limit": BYTE_ADDRESS_WIDTH})


class Guard(wiring.Signature):
    """Limits of a unit that touches memory, and its reports, from the control registers' side.

    Members
    -------
    window: Out(window)
        Where the unit may touch memory. It refuses a burst that is not inside.
    halt:
        The unit issues nothing more and delivers nothing more. It is held until ``quiescent``.
    error:
        One pulse for the unit's first refused burst or error response. From then on the unit behaves as if halted,
        until it is reset.
    quiescent:
        Nothing that the unit issued is unanswered. Once it is 1 under ``halt`` or after an error, the unit may be
        reset: no answer to an old burst can arrive any more.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "window": Out(window_layout()),
                "halt": Out(1),
                "error": In(Strobe(error_record_layout())),
                "quiescent": In(1),
            }
        )


class MemoryUse(wiring.Signature):
    """Who uses an on-chip memory in a cycle, from the side that knows it.

    Members
    -------
    writer: Out(Strobe(place))
        Place of the job that writes; valid if the memory is written.
    reader: Out(place)
        Place of the job that reads. It means something only in a cycle with such an access.
    beyond: Out(Strobe(ADDRESS_WIDTH))
        An address beyond the last word, ``tessera.hw.interfaces.memory.BEYOND_LATENCY`` cycles after its use. If a
        write and a read of one cycle are both beyond it, the write's is reported.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        place = place_layout(config)
        super().__init__({"writer": Out(Strobe(place)), "reader": Out(place), "beyond": Out(Strobe(ADDRESS_WIDTH))})
