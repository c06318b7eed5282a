"""Words, writes and reads of the on-chip memories and stationary banks."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from hw.config import AcceleratorConfig

BLOCK_LATENCY = 2
"""Cycles from the address of a block RAM to its data: the block and the register behind it."""


MEMORY_LATENCY = 4
"""Cycles from an on-chip memory's read address to its data. A large memory needs a cycle more on the way to its blocks
and one on the way back (``hw.memory.rows``); a small one has more time for its address."""


RESIDUAL_LATENCY = MEMORY_LATENCY + 1
"""Cycles from a unit's asking for a residual word to its coming: the readers stand far from each other."""


def lanes_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """One scratchpad or bank word: T lanes of A bits, lane 0 in the low bits; signedness is the reader's."""
    return data.ArrayLayout(unsigned(config.numerics.activation_width), config.lanes)


def residual_lanes_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """One residual word: T lanes in the residual's format."""
    return data.ArrayLayout(signed(config.numerics.residual_width), config.lanes)


def scratch_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A write of whole columns of P lanes; ``columns`` is the mask, lanes of unwritten columns are ignored."""
    return data.StructLayout({"address": 16, "columns": config.columns, "data": lanes_layout(config)})


def residual_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """The same for the residual memory."""
    return data.StructLayout({"address": 16, "columns": config.columns, "data": residual_lanes_layout(config)})


def score_word_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """P scores in octaves (18 bits, 10 fraction bits)."""
    return data.ArrayLayout(signed(config.numerics.score.width), config.elements)


def score_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """P scores of one key. ``attention`` marks softmax's scores (else gate logits), ``first`` a tile's first key."""
    return data.StructLayout(
        {"address": 16, "attention": 1, "buffer": 1, "first": 1, "data": score_word_layout(config)}
    )


def bank_fill_layout(config: AcceleratorConfig) -> data.StructLayout:
    """G words of one reduction index for elements ``group * G`` onwards."""
    return data.StructLayout(
        {
            "group": range(max(2, config.elements // config.words_per_chunk)),
            "address": range(config.bank_words),
            "data": data.ArrayLayout(lanes_layout(config), config.words_per_chunk),
        }
    )


def bank_hold_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One word for one element: held queries, or held tokens when roles are swapped."""
    return data.StructLayout(
        {"element": range(config.elements), "address": range(config.bank_words), "data": lanes_layout(config)}
    )


def bank_exponentials_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One lane for each of E elements from ``group * E``; ``clear`` zeroes the word's other lanes (a word's first)."""
    return data.StructLayout(
        {
            "group": range(max(2, config.elements // config.exponential_lanes)),
            "address": range(config.bank_words),
            "lane": range(config.lanes),
            "clear": 1,
            "data": data.ArrayLayout(unsigned(config.numerics.activation_width), config.exponential_lanes),
        }
    )
