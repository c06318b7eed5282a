"""Ports of the on-chip memories and stationary banks: read ports, words and writes."""

from __future__ import annotations

from amaranth.hdl import ShapeLike, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import ADDRESS_WIDTH

BLOCK_LATENCY = 2
"""Cycles from the address of a block RAM to its data: the block and the register behind it."""

MEMORY_LATENCY = 4
"""Cycles from an on-chip memory's read address to its data. A large memory needs a cycle more on the way to its blocks
and one on the way back (``tessera.hw.memory.rows``). A small one has more time for its address."""

RESIDUAL_LATENCY = MEMORY_LATENCY + 1
"""Cycles from a unit's request for a residual word to the word: its readers are placed far from each other."""

BEYOND_LATENCY = 2
"""Cycles from the use of an address beyond a memory's last word to the report."""

STORED_BITS = 32
"""Bits of a residual value in external memory, where it is sign-extended."""


class MemoryRead(wiring.Signature):
    """Read port of a memory that is read in some cycles, from the reader's side.

    Parameters
    ----------
    address:
        Shape of an address.
    word:
        Shape of a word.

    Members
    -------
    enable: Out(1)
        A word is read in this cycle.
    address: Out(address)
        Number of the word.
    data: In(word)
        The word, a fixed number of cycles later: MEMORY_LATENCY, or RESIDUAL_LATENCY for the residual memory's readers.
    """

    def __init__(self, address: ShapeLike, word: ShapeLike) -> None:
        super().__init__({"enable": Out(1), "address": Out(address), "data": In(word)})


class TableRead(wiring.Signature):
    """Read port of a memory that is read in every cycle, from the reader's side.

    Parameters
    ----------
    address:
        Shape of an address.
    word:
        Shape of a word.

    Members
    -------
    address: Out(address)
        Number of the word.
    data: In(word)
        The word, MEMORY_LATENCY cycles later.
    """

    def __init__(self, address: ShapeLike, word: ShapeLike) -> None:
        super().__init__({"address": Out(address), "data": In(word)})


def lanes_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """One scratchpad or bank word: T lanes of A bits, lane 0 in the low bits. The reader decides about signs."""
    return data.ArrayLayout(unsigned(config.numerics.activation_width), config.lanes)


def residual_lanes_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """One residual word: T lanes in the residual's format."""
    return data.ArrayLayout(signed(config.numerics.residual_width), config.lanes)


def residual_read(config: AcceleratorConfig) -> MemoryRead:
    """Read port of the residual memory."""
    return MemoryRead(ADDRESS_WIDTH, residual_lanes_layout(config))


def score_read(config: AcceleratorConfig) -> MemoryRead:
    """Read port of the score buffer."""
    return MemoryRead(range(config.score_words), score_word_layout(config))


def scratch_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A write into the scratchpad, of whole columns of P lanes."""
    return data.StructLayout(
        {
            "address": ADDRESS_WIDTH,  # number of the word
            "columns": config.columns,  # mask of the columns to write, a bit each
            "data": lanes_layout(config),  # the word; lanes of other columns are ignored
        }
    )


def residual_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A write into the residual memory, of whole columns of P lanes."""
    return data.StructLayout(
        {
            "address": ADDRESS_WIDTH,  # number of the word
            "columns": config.columns,  # mask of the columns to write, a bit each
            "data": residual_lanes_layout(config),  # the word; lanes of other columns are ignored
        }
    )


def score_word_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """P scores in octaves (18 bits, 10 fraction bits)."""
    return data.ArrayLayout(signed(config.numerics.score.width), config.elements)


def score_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A write into the score buffer: P scores of one key, or P logits of one token."""
    return data.StructLayout(
        {
            "address": ADDRESS_WIDTH,  # number of the word
            "attention": 1,  # scores of attention; else logits of the gate
            "buffer": 1,  # attention buffer of the query tile
            "first": 1,  # the tile's first key: maxima start anew
            "data": score_word_layout(config),  # the scores, element 0 in the low bits
        }
    )


def bank_fill_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A write of weights into the banks: a word for each of G elements."""
    return data.StructLayout(
        {
            "group": range(max(2, config.elements // config.words_per_chunk)),  # first element, divided by G
            "address": range(config.bank_words),  # number of the bank word, the same in all G banks
            "data": data.ArrayLayout(lanes_layout(config), config.words_per_chunk),  # the words, element by element
        }
    )


def bank_hold_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A write of a held row into the banks: queries, or tokens when roles are swapped."""
    return data.StructLayout(
        {
            "element": range(config.elements),  # element whose bank is written
            "address": range(config.bank_words),  # number of the bank word
            "data": lanes_layout(config),  # the word
        }
    )


def bank_exponentials_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A write of softmax's exponentials into the banks: a lane for each of E elements."""
    return data.StructLayout(
        {
            "group": range(max(2, config.elements // config.exponential_lanes)),  # first element, divided by E
            "address": range(config.bank_words),  # number of the bank word, the same in all E banks
            "lane": range(config.lanes),  # lane that is written
            "clear": 1,  # a word's first lane: its other lanes become 0
            "data": data.ArrayLayout(unsigned(config.numerics.activation_width), config.exponential_lanes),  # all
            # fraction bits; element by element
        }
    )
