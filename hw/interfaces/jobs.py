"""Jobs: what the sequencer hands to the units, whose it is, and the state of a run.

A *word address* counts words of T lanes in an on-chip memory; a *stride* is the distance of two rows, in words. A field
of a job that is named like a field of ``tessera.hw.isa`` holds the value of that field.
"""

from __future__ import annotations

from amaranth.lib import data, enum

from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import (
    ADDRESS_WIDTH,
    BYTE_ADDRESS_WIDTH,
    COMMAND_INDEX_WIDTH,
    COUNT_WIDTH,
    FIELDS,
    POSITION_WIDTH,
    Opcode,
)

SEQUENCER_FIELDS = ("opcode", "after", "follow", "task_mask", "stream_address", "stream_bytes")
"""Fields of a command that only the sequencer reads."""


def gate_job_layout() -> data.StructLayout:
    """Job of the gate: one GATE command."""
    return data.StructLayout(
        {
            "tokens": COUNT_WIDTH,  # tokens whose logits lie in the score buffer
            "experts": 8,  # experts that a token chooses from
            "top_k": 8,  # experts that each token chooses
        }
    )


def image_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Job of the image loader: one LOAD_IMAGE command."""
    return data.StructLayout(
        {
            "destination_base": ADDRESS_WIDTH,  # scratchpad word of patch 0
            "destination_stride": ADDRESS_WIDTH,  # words per patch
            "patch": 8,  # edge of a patch in pixels, a power of two
            "grid_rows": COUNT_WIDTH,  # patches from top to bottom
            "grid_columns": COUNT_WIDTH,  # patches from left to right
            "row_bytes": BYTE_ADDRESS_WIDTH,  # bytes from one image row to the next
            "plane_bytes": BYTE_ADDRESS_WIDTH,  # bytes from one colour plane to the next
            "offset": BYTE_ADDRESS_WIDTH,  # bytes from the image's base to patch 0
            "image_base": BYTE_ADDRESS_WIDTH,  # byte address of the image, from the registers
        }
    )


def layernorm_job_layout() -> data.StructLayout:
    """Job of LayerNorm: one LAYERNORM command without ``SEQUENCER_FIELDS``; ``tessera.hw.isa`` describes each field."""
    fields = FIELDS[Opcode.LAYERNORM]
    return data.StructLayout({field.name: field.width for field in fields if field.name not in SEQUENCER_FIELDS})


def store_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Job of the store unit: one STORE command."""
    return data.StructLayout(
        {
            "source_base": ADDRESS_WIDTH,  # residual word of the first row
            "source_stride": ADDRESS_WIDTH,  # words from one row to the next
            "rows": COUNT_WIDTH,  # rows to store
            "words": COUNT_WIDTH,  # words per row; a lane takes 4 bytes in memory
            "offset": BYTE_ADDRESS_WIDTH,  # bytes from the output base to the first row
            "output_base": BYTE_ADDRESS_WIDTH,  # byte address of the output region, from the registers
        }
    )


def _convolution_members() -> dict[str, int]:
    """Fields of an engine job that make a convolution of it."""
    return {
        "convolution": 1,  # the broadcast row of a step is made of taps, ``broadcast_stride`` words per position
        "tap_words": 8,  # words of a tap
        "taps_y": 4,  # lines of the kernel
        "taps_x": 4,  # taps of a line
        "stride_y": 4,  # lines from one output row to the next
        "stride_x": 4,  # positions from one output to the next
        "pad_top": 3,  # lines of the first output's kernel above the input
        "pad_left": 3,  # taps of the first output's kernel before the input
        "padding": ADDRESS_WIDTH,  # lanes of a tap outside the input, in the low bits
        "clamp": 1,  # such a tap reads the nearest position inside instead
        "line_stride": ADDRESS_WIDTH,  # words from one line of the input to the next
        "destination_jump": ADDRESS_WIDTH,  # words from the last output of a row to the first of the next
        "input_rows": POSITION_WIDTH,  # lines of the input
        "input_columns": POSITION_WIDTH,  # positions of a line
        "output_columns": POSITION_WIDTH,  # outputs of a row
        "group_words": 8,  # words from the input of one group to that of the next
        "group_tiles": 5,  # tiles of a group; 0 stands for 32
    }


def engine_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Job of the compute engine: one LINEAR or CONVOLUTION command, one matrix of one expert, or one ATTENTION command.

    A linear job multiplies ``steps`` broadcast rows by a matrix of ``stationary_rows`` output channels. When roles are
    swapped, tokens are stationary and the rows of the matrix are broadcast. A convolution is a linear job whose
    broadcast rows are made of taps; it uses the fields from ``convolution`` to ``group_tiles`` as well. An attention
    job uses the fields from ``query_base`` on, and ``destination_base`` and ``destination_stride``.
    """
    multiplier, shift = config.numerics.multiplier_width, config.numerics.shift_width
    return data.StructLayout(
        {
            "attention": 1,  # the job is attention, else linear
            "broadcast_base": ADDRESS_WIDTH,  # scratchpad word of the first broadcast row
            "broadcast_stride": ADDRESS_WIDTH,  # words from one broadcast row to the next
            "steps": COUNT_WIDTH,  # broadcast rows: tokens, or output channels when roles are swapped
            "words": COUNT_WIDTH,  # words of a row: the length of the reduction
            "stationary_base": ADDRESS_WIDTH,  # swapped: scratchpad word of the first token
            "stationary_stride": ADDRESS_WIDTH,  # swapped: words from one token to the next
            "stationary_window": ADDRESS_WIDTH,  # swapped: words from a window's first token to the next one's
            "stationary_rows": COUNT_WIDTH,  # output channels (padded), or tokens of a window when roles are swapped
            "channels": COUNT_WIDTH,  # parameter sets that are released when the job is done
            "destination_base": ADDRESS_WIDTH,  # word of the first output row, in the memory of ``destination``
            "destination_stride": ADDRESS_WIDTH,  # words from one output row to the next
            "windows": 8,  # attention, swapped: windows of as many rows, one after the other
            "destination_window": ADDRESS_WIDTH,  # attention, swapped: words from a window's outputs to the next one's
            "destination": 4,  # a Destination: the memory of the outputs
            "function": 2,  # a Function: what outputs pass through
            "swapped": 1,  # roles are swapped
            "wide": 1,  # weights and inputs have 16 bits, one value in two lanes
            "broadcast_unsigned": 1,  # broadcast lanes are unsigned: pixels, or values behind a Function
            "function_multiplier": multiplier,  # scales the output of the Function to an activation
            "function_shift": shift,  # right shift after that multiplication
            "gather": 1,  # the broadcast row of step s is the one that entry s of a list names
            "scatter": 1,  # output row s is the one that this entry names
            "list": range(config.list_entries),  # number of the list's first entry
            "routed": 1,  # the list is an expert's queue: entries are tokens, and scattered rows are weighted
            **_convolution_members(),
            "query_base": ADDRESS_WIDTH,  # scratchpad word of query 0
            "query_stride": ADDRESS_WIDTH,  # words from one query to the next
            "query_window": ADDRESS_WIDTH,  # words from a window's queries to the next one's
            "key_base": ADDRESS_WIDTH,  # scratchpad word of key 0
            "key_stride": ADDRESS_WIDTH,  # words from one key to the next
            "key_window": ADDRESS_WIDTH,  # words from a window's keys to the next one's
            "value_base": ADDRESS_WIDTH,  # scratchpad word of channel 0 of V transposed
            "value_stride": ADDRESS_WIDTH,  # words from one channel of V to the next
            "value_window": ADDRESS_WIDTH,  # words from a window's columns of V transposed to the next one's
            "queries": COUNT_WIDTH,  # queries of a window, any number
            "keys": COUNT_WIDTH,  # keys of a window, at most max_tokens
            "heads": 8,  # heads
            "head_words": 6,  # words of one head's channels of a query and of a key
            "value_words": 7,  # words of one head's channels of V, and of the result
            "bias_words": 3,  # words of bias behind those of a key, and of factors behind those of a query
            "bias_base": ADDRESS_WIDTH,  # scratchpad word of the factors of element 0; bias lies behind all factors
            "bias_shared": 1,  # all heads have the same bias
            "score_multiplier": multiplier,  # scales an accumulator to octaves
            "score_shift": shift,  # right shift after that multiplication
            "output_multiplier": multiplier,  # factor of every query's reciprocal sum
            "output_shift": shift,  # right shift, without that of the reciprocal
        }
    )


ATTENTION_FIELDS = tuple(
    field.name
    for field in FIELDS[Opcode.ATTENTION]
    if field.name not in (*SEQUENCER_FIELDS, *(common.name for common in FIELDS[Opcode.LINEAR]))
)
"""Fields of an engine job that only attention uses; in other jobs they hold anything."""

CONVOLUTION_FIELDS = tuple(
    field.name
    for field in FIELDS[Opcode.CONVOLUTION]
    if field.name not in (*SEQUENCER_FIELDS, *(common.name for common in FIELDS[Opcode.LINEAR]))
)
"""Fields of an engine job that only a convolution uses; in other jobs they hold anything."""

EXPERT_FIELDS = (
    "broadcast_base",
    "broadcast_stride",
    "steps",
    "words",
    "stationary_rows",
    "channels",
    "destination_base",
    "destination_stride",
    "destination",
    "function",
    "broadcast_unsigned",
    "function_multiplier",
    "function_shift",
    "gather",
    "scatter",
    "list",
    "routed",
)
"""Fields of an engine job that a matrix of an expert uses; the others are 0."""


def expert_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """The part of an engine job that a matrix of an expert uses; fields as in :func:`engine_job_layout`."""
    members = engine_job_layout(config).members
    return data.StructLayout({name: members[name] for name in EXPERT_FIELDS})


def softmax_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Job of softmax: turn one tile of scores into exponentials in the stationary banks."""
    return data.StructLayout(
        {
            "buffer": 1,  # score buffer that holds the tile, and attention buffer of the banks that is filled
            "keys": COUNT_WIDTH,  # scores of each query
            "output_multiplier": config.numerics.multiplier_width,  # factor of every query's reciprocal sum
            "output_shift": config.numerics.shift_width,  # right shift, without that of the reciprocal
        }
    )


def place_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Place in the program that a job, a write or an error belongs to."""
    return data.StructLayout(
        {
            "command": COMMAND_INDEX_WIDTH,  # index of the command
            "expert": 15,  # expert of an EXPERTS command, else 0
            "second_matrix": 1,  # the job is the expert's second matrix
        }
    )


class StreamKind(enum.IntEnum, shape=3):
    """What a block of the weight stream is for."""

    WEIGHTS = 0
    """Parameter sets, then tiles for the stationary banks."""
    STAGE = 1
    """Words of weights, for the scratchpad."""
    RESIDUAL = 2
    """Lanes of 4 bytes, for the residual memory."""
    SHIFTS = 3
    """LayerNorm's channel shifts."""
    TABLE = 4
    """Table of an activation function."""
    LIST = 7
    """Rows, one in a chunk, for the token queues."""


def stream_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Job of the weight stream: deliver one block.

    A block of kind WEIGHTS is delivered as soon as there is room. Any other block waits for the stream's ``permit``,
    which says that its command is the current one.
    """
    return data.StructLayout(
        {
            "kind": StreamKind,  # what the block is for
            "address": BYTE_ADDRESS_WIDTH,  # byte address of the block in memory
            "bytes": BYTE_ADDRESS_WIDTH,  # bytes of the block, a multiple of the chunk size
            "channels": COUNT_WIDTH,  # WEIGHTS: parameter sets; SHIFTS, TABLE: bytes that count
            "tiles": COUNT_WIDTH,  # WEIGHTS: tiles of P output channels that follow the parameter sets
            "words": COUNT_WIDTH,  # WEIGHTS: words per row of a tile; else words of the block, or entries
            "base": ADDRESS_WIDTH,  # STAGE, RESIDUAL, LIST: address of the first word or entry
            "wide": 1,  # WEIGHTS: a weight has 16 bits
        }
    )


def run_state_layout() -> data.StructLayout:
    """State of the accelerator, and the outcome of its latest run: the bits of the register ``status``."""
    return data.StructLayout(
        {
            "busy": 1,  # a run is under way
            "done": 1,  # the latest run has reached its end
            "error": 1,  # the machine has halted because of an error
            "saturated": 1,  # a residual was clipped in the latest run
        }
    )
