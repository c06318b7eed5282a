"""What travels inside the weight stream: blocks of memory, and where their chunks go."""

from __future__ import annotations

from amaranth.lib import data
from amaranth.utils import exact_log2

from hw.config import AcceleratorConfig
from hw.interfaces.jobs import StreamKind


def chunks_per_residual_word(config: AcceleratorConfig) -> int:
    """Chunks that hold one residual word of T 4-byte lanes."""
    return 4 * config.lanes // config.chunk_bytes


def block_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A block of the weight stream, without its address; ``chunks`` is its length."""
    return data.StructLayout(
        {
            "kind": StreamKind,
            "chunks": 32 - exact_log2(config.chunk_bytes),
            "channels": 16,
            "tiles": 16,
            "words": 16,
            "base": 16,
            "wide": 1,
        }
    )


def chunk_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Destination of one chunk.

    ``part`` is the group of elements (FILL) or the part of the word (RESIDUAL); ``words`` how many words of a STAGE
    chunk count; ``tile_last`` and ``block_last`` mark the last chunk of a tile, and of a block that reports when done.
    """
    parts = max(2, config.elements // config.words_per_chunk, chunks_per_residual_word(config))
    return data.StructLayout(
        {
            "kind": 3,
            "part": range(parts),
            "address": 16,
            "words": range(config.words_per_chunk + 1),
            "wide": 1,
            "tile_last": 1,
            "block_last": 1,
        }
    )
