"""Bundles between a bus's port, the SDRAM controller and the chip's pads."""

from __future__ import annotations

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig

WORD_BITS = 16


BANK_BITS = 2


ROW_BITS = 13


COLUMN_BITS = 9


ADDRESS_BITS = ROW_BITS + BANK_BITS + COLUMN_BITS
"""Of a word: row, bank, column from the top, so that a sequential stream goes through the banks."""


SIZE_BYTES = WORD_BITS // 8 << ADDRESS_BITS


BANKS = 1 << BANK_BITS


class SdramPads(wiring.Signature):
    """The chip's pins, from the controller's side.

    Every output comes straight from a flip-flop, ``dq_i`` goes straight into one, so that a board may place them in the
    pads. ``dq_oe`` is 1 while the board has to drive ``dq_o``. The board makes the clock.
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
    """A burst that a port asks for: address of its first word, and its length."""
    return data.StructLayout({"address": ADDRESS_BITS, "words_minus_one": 8 + exact_log2(words_per_beat(config))})


def row_run_layout(clients: int) -> data.StructLayout:
    """Words next to each other in one row; ``final`` marks the last run of the burst of ``client``."""
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
    """A word to write; a byte whose ``mask`` bit is 1 is left alone."""
    return data.StructLayout({"data": WORD_BITS, "mask": WORD_BITS // 8})


def finished_word_layout(clients: int) -> data.StructLayout:
    """Whose word was read or written, and whether it is the last of its burst."""
    return data.StructLayout({"client": range(max(2, clients)), "last": 1})


def read_word_layout(clients: int) -> data.StructLayout:
    """A word that was read."""
    return data.StructLayout({"data": WORD_BITS, "origin": finished_word_layout(clients)})
