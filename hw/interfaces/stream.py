"""What travels inside the weight stream: blocks of memory, where their chunks go, and the ports that deliver them."""

from __future__ import annotations

from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.compute import parameter_set_layout, table_write_layout
from tessera.hw.interfaces.gate import list_write_layout
from tessera.hw.interfaces.jobs import StreamKind, stream_job_layout
from tessera.hw.interfaces.layernorm import shift_write_layout
from tessera.hw.interfaces.memory import bank_fill_layout, residual_write_layout, scratch_write_layout
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import ADDRESS_WIDTH


class ChunkKind(enum.IntEnum, shape=3):
    """What a chunk is: the kinds of block, the two parts of a WEIGHTS block, and padding."""

    FILL = 0
    """Weights for the stationary banks."""
    STAGE = int(StreamKind.STAGE)
    """Words for the scratchpad."""
    RESIDUAL = int(StreamKind.RESIDUAL)
    """A part of a word for the residual memory."""
    SHIFTS = int(StreamKind.SHIFTS)
    """LayerNorm's channel shifts."""
    TABLE = int(StreamKind.TABLE)
    """Entries of an activation function's table."""
    PARAMETERS = 5
    """Parameter sets of the requantiser."""
    PADDING = 6
    """What is left of a block behind its contents; dropped."""
    LIST = int(StreamKind.LIST)
    """A row for the token queues."""


class WeightTiles(wiring.Signature):
    """Weight tiles in the banks, from the side of the engine.

    Members
    -------
    filled: In(1)
        Pulse: another tile is complete in the banks.
    freed: Out(1)
        Pulse: the oldest tile has been read for the last time.
    """

    def __init__(self) -> None:
        super().__init__({"filled": In(1), "freed": Out(1)})


class ChunkDelivery(wiring.Signature):
    """Ports through which chunks leave the weight stream.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    fill: Out(stream(bank_fill))
        G words for elements ``group * G`` onwards, to weight buffer b at ``b * weight_tile_words``. Tiles alternate
        between the buffers, from buffer 0 after reset and on across blocks.
    parameters: Out(stream(parameter sets))
        Requantiser parameter sets, ``entries_per_chunk`` at a time.
    scratch_write: Out(stream(scratch_write))
        STAGE words: sign-extended bytes.
    residual_write: Out(stream(residual_write))
        RESIDUAL words: the low bits of 4-byte lanes.
    shift_write: Out(Strobe(shift_write))
        SHIFTS.
    table_write: Out(Strobe(table_write))
        TABLE.
    list_write: Out(stream(list_write))
        LIST entries.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        entries = data.ArrayLayout(parameter_set_layout(config), config.entries_per_chunk)
        super().__init__(
            {
                "fill": Out(stream.Signature(bank_fill_layout(config))),
                "parameters": Out(stream.Signature(entries)),
                "scratch_write": Out(stream.Signature(scratch_write_layout(config))),
                "residual_write": Out(stream.Signature(residual_write_layout(config))),
                "shift_write": Out(Strobe(shift_write_layout(config))),
                "table_write": Out(Strobe(table_write_layout(config))),
                "list_write": Out(stream.Signature(list_write_layout(config))),
            }
        )


def chunks_per_residual_word(config: AcceleratorConfig) -> int:
    """Chunks that hold one residual word of T 4-byte lanes."""
    return 4 * config.lanes // config.chunk_bytes


def block_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A block of the weight stream, without its address. Fields but ``chunks`` are those of ``stream_job_layout``."""
    given = stream_job_layout(config).members
    return data.StructLayout(
        {
            "kind": given["kind"],  # what the block is for
            "chunks": given["bytes"] - exact_log2(config.chunk_bytes),  # length in chunks, at least 1
            "channels": given["channels"],  # WEIGHTS: parameter sets; SHIFTS, TABLE: bytes
            "tiles": given["tiles"],  # WEIGHTS: tiles
            "words": given["words"],  # WEIGHTS: words of a tile per element; STAGE, RESIDUAL, LIST: words
            "base": given["base"],  # STAGE, RESIDUAL, LIST: address of the first word
            "wide": given["wide"],  # WEIGHTS: 16-bit weights
        }
    )


def chunk_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Destination of one chunk."""
    parts = max(2, config.elements // config.words_per_chunk, chunks_per_residual_word(config))
    return data.StructLayout(
        {
            "kind": ChunkKind,  # what the chunk is
            "part": range(parts),  # FILL: group of elements; RESIDUAL: part of the word
            "address": ADDRESS_WIDTH,  # word of a memory or bank; SHIFTS, TABLE: number of the chunk
            "words": range(config.words_per_chunk + 1),  # STAGE: words of the chunk that count
            "wide": 1,  # FILL: 16-bit weights
            "tile_last": 1,  # last chunk of a tile
            "block_last": 1,  # last chunk of a block that reports when it is done
        }
    )
