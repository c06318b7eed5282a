"""Bundles between a bus's port, the SDRAM controller and the chip's pads."""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.strobe import Strobe

WORD_BITS = 16
"""Bits of a word of the chip."""

BANK_BITS = 2

ROW_BITS = 13

COLUMN_BITS = 9

ADDRESS_BITS = ROW_BITS + BANK_BITS + COLUMN_BITS
"""Bits of a word's address: row, bank, column from the top, so that a sequential stream goes through the banks."""

SIZE_BYTES = WORD_BITS // 8 << ADDRESS_BITS
"""Size of the chip in bytes."""

BANKS = 1 << BANK_BITS


class SdramPads(wiring.Signature):
    """The chip's pins, from the controller's side. The board makes the clock.

    Every output comes straight from a flip-flop and ``dq_i`` goes straight into one, so a board may place them in the
    pads.

    Members
    -------
    cke, cs_n, ras_n, cas_n, we_n, ba, a, dqm:
        Pins of the same names.
    dq_o, dq_oe:
        Data to the chip, and 1 while the board has to drive them.
    dq_i:
        Data from the chip.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "cke": Out(1),
                "cs_n": Out(1),
                "ras_n": Out(1),
                "cas_n": Out(1),
                "we_n": Out(1),
                "ba": Out(BANK_BITS),
                "a": Out(ROW_BITS),
                "dqm": Out(WORD_BITS // 8),
                "dq_o": Out(WORD_BITS),
                "dq_oe": Out(1),
                "dq_i": In(WORD_BITS),
            }
        )


def words_per_beat(config: AcceleratorConfig) -> int:
    """Words of the chip in a beat of the bus; raises ValueError for a bus narrower than the chip."""
    words = 8 * config.memory_bytes // WORD_BITS
    if words < 1:
        raise ValueError(f"memory_bytes is {config.memory_bytes}; the chip needs a bus of at least {WORD_BITS // 8}")
    return words


def burst_request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A burst that a port asks for.

    Members
    -------
    address:
        First word.
    words_minus_one:
        Length in words, less one.
    """
    return data.StructLayout({"address": ADDRESS_BITS, "words_minus_one": 8 + exact_log2(words_per_beat(config))})


def row_run_layout(clients: int) -> data.StructLayout:
    """Words next to each other in one row.

    Members
    -------
    column, bank, row:
        First word.
    words_minus_one:
        Length in words, less one.
    write:
        1 to write the words, 0 to read them.
    client:
        Client whose burst the run is part of.
    final:
        1 for the last run of a burst.
    """
    return data.StructLayout(
        {
            "column": COLUMN_BITS,
            "bank": BANK_BITS,
            "row": ROW_BITS,
            "words_minus_one": COLUMN_BITS,
            "write": 1,
            "client": range(max(2, clients)),
            "final": 1,
        }
    )


def write_word_layout() -> data.StructLayout:
    """A word to write.

    Members
    -------
    data:
        The word.
    mask:
        One bit per byte: 1 to leave the byte alone.
    """
    return data.StructLayout({"data": WORD_BITS, "mask": WORD_BITS // 8})


def finished_word_layout(clients: int) -> data.StructLayout:
    """Origin of a word that was read or written.

    Members
    -------
    client:
        Client whose burst it belongs to.
    last:
        1 for the last word of a burst.
    """
    return data.StructLayout({"client": range(max(2, clients)), "last": 1})


def read_word_layout(clients: int) -> data.StructLayout:
    """A word that was read; the fields of :func:`finished_word_layout`, and the word.

    Members
    -------
    data:
        The word.
    """
    return data.StructLayout({**dict(finished_word_layout(clients).members), "data": WORD_BITS})


class WordAccess(wiring.Signature):
    """Runs of words to and from a memory that executes them in order, from the side that asks.

    Parameters
    ----------
    clients:
        Number of clients that a run may belong to.

    Members
    -------
    run:
        Runs of words, each within a row. For a run that reads there must be room for all its words.
    write_data:
        Words to write, in the order of the runs that write.
    writer:
        Client whose word is wanted on ``write_data``.
    written:
        A word was written, and its origin.
    read:
        A word was read.
    """

    def __init__(self, clients: int) -> None:
        finished = finished_word_layout(clients)
        super().__init__(
            {
                "run": Out(stream.Signature(row_run_layout(clients))),
                "write_data": Out(stream.Signature(write_word_layout())),
                "writer": In(finished["client"].shape),
                "written": In(Strobe(finished)),
                "read": In(Strobe(read_word_layout(clients))),
            }
        )
