"""The command format: one definition for compiler, decoder and documentation.

A program is a sequence of 64-byte little-endian commands. Bits 0 to 7 are the opcode, bits 16 to 31 the task mask
(the command runs only if the bit of the selected task is set). Commands are handed to their units in order, and one
does not wait for another unless it says so: bits 8 to 13 name the units that must have finished all earlier commands,
bits 14 and 15 the unit whose rows it follows, reading row r as soon as that unit's latest command has written it.
The rest depends on the opcode. Addresses of on-chip memories are in words of T lanes; a *row* is one token (or one
channel, where noted) and its stride is in words. Channel counts are padded to multiples of T. Stream addresses are
bytes relative to the weight base register and multiples of the chunk size; those of a ``stored`` block are relative to
the output base register.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cache

COMMAND_BYTES = 64
COMMAND_BITS = 8 * COMMAND_BYTES
COMMAND_INDEX_WIDTH = 16
"""Bits of a command's index in its program."""
TASK_INDEX_WIDTH = 4
"""Bits of the selected task's index; a task mask has a bit for each task."""
ADDRESS_WIDTH = 16
"""Bits of an address or a stride in an on-chip memory, in words of T lanes."""
COUNT_WIDTH = 16
"""Bits of a number of rows, words, tokens or channels."""
MAX_BIAS_WORDS = 4
"""Words of bias of a key: enough for two precisions when a word has lanes for a quarter of a tile."""
POSITION_WIDTH = 9
"""Bits of the height or width of a convolution's input or output, in positions."""
BYTE_ADDRESS_WIDTH = 32
"""Bits of an address, a distance or a size in external memory, in bytes."""


class Opcode(IntEnum):
    """What a command does."""

    END = 1
    LOAD_IMAGE = 2
    LOAD_RESIDUAL = 3
    STAGE = 4
    LINEAR = 5
    ATTENTION = 6
    LAYERNORM = 7
    GATE = 8
    EXPERTS = 9
    STORE = 10
    CONVOLUTION = 11
    TABLE = 12
    LIST = 13


class Unit(IntFlag):
    """Units that run commands, as bits of ``after``. STREAM: STAGE, LIST, LOAD_RESIDUAL and TABLE; ENGINE: all
    matrix work.
    """

    ENGINE = 1
    NORM = 2
    GATE = 4
    IMAGE = 8
    STREAM = 16
    STORE = 32


EVERYTHING = Unit(63)
"""All units: a command after everything runs alone."""


class Follow(IntEnum):
    """Whose rows a LINEAR, LAYERNORM or GATE command follows."""

    NOTHING = 0
    ENGINE = 1
    """LAYERNORM, GATE or LINEAR: output rows (tokens) of the LINEAR before it."""
    NORM = 2
    """LINEAR: rows of the LAYERNORM before it."""
    IMAGE = 3
    """LINEAR: patches of the LOAD_IMAGE before it."""


class Destination(IntEnum):
    """Where a LINEAR command's outputs go."""

    ACTIVATION = 0
    """Scratchpad, saturated to a signed activation (or through a ``Function`` to an unsigned one)."""
    RESIDUAL_ADD = 1
    """Added to the residual memory, saturating."""
    RESIDUAL_SET = 2
    """Written to the residual memory (heads: logits in the residual's format)."""
    SCORE = 3
    """Score buffer, in octaves (gate logits): word ``tile * steps + step``."""
    RESIDUAL_MULTIPLY = 4
    """The residual memory's values are multiplied by outputs or by a ``Function`` of them, saturating. Waits until all
    earlier results are written."""


class Function(IntEnum):
    """Activation function of a product's outputs."""

    NONE = 0
    GELU = 1
    """Exact GELU, whose table is always there."""
    TABLE = 2
    """The function that the latest TABLE command loaded; undefined before the first."""
    RELU = 3


class NormMode(IntEnum):
    """What a LAYERNORM command takes from a row before it scales it."""

    LAYER = 0
    """The mean is subtracted, and the reciprocal deviation is a factor."""
    RMS = 1
    """The mean counts as 0, so that the deviation is that of the squares alone."""
    COPY = 2
    """Nothing: ``scale_multiplier`` and the shifts alone make activations of the residual stream."""
    RECTIFIED_COPY = 3
    """A copy whose results are unsigned: what is negative becomes 0. It has no wide output."""

    @property
    def copies(self) -> bool:
        """Whether rows need no statistics. It is bit 1 of the mode."""
        return self >= NormMode.COPY


class ErrorCode(IntEnum):
    """Why the machine halted; reported with command index and address."""

    NONE = 0
    BAD_OPCODE = 1
    BAD_FIELD = 2
    ADDRESS_WINDOW = 3
    BUS_READ = 4
    BUS_WRITE = 5
    WATCHDOG = 6
    SCRATCHPAD_RANGE = 7
    RESIDUAL_RANGE = 8


@dataclass(frozen=True)
class Field:
    """One bit field of a command: ``lsb`` counts from bit 0 of byte 0."""

    name: str
    lsb: int
    width: int
    doc: str


def _layout(*words: tuple[tuple[str, int, str], ...]) -> tuple[Field, ...]:
    """Fields packed from bit 0 of each 32-bit word, starting at word 1 of the command."""
    fields = [
        Field("opcode", 0, 8, "what to do"),
        Field("after", 8, 6, "Units that must have finished before it starts"),
        Field("follow", 14, 2, "a Follow: whose rows it reads as they come"),
        Field("task_mask", 16, 16, "runs only if the selected task's bit is set"),
    ]
    for index, word in enumerate(words, start=1):
        lsb = 32 * index
        for name, width, doc in word:
            fields.append(Field(name, lsb, width, doc))
            lsb += width
    return tuple(fields)


_STREAM = (
    (("stream_address", 32, "first byte of the weight stream block, relative to the weight base"),),
    (("stream_bytes", 32, "bytes of the block; a multiple of the chunk size"),),
)
_NO_STREAM: tuple[tuple[tuple[str, int, str], ...], ...] = ((), ())

FIELDS: dict[Opcode, tuple[Field, ...]] = {
    Opcode.END: _layout(),
    Opcode.LOAD_IMAGE: _layout(
        *_NO_STREAM,
        (("destination_base", 16, "scratchpad word of patch 0"), ("destination_stride", 16, "words per patch")),
        (("patch", 8, "edge of a patch in pixels, a power of two"),),
        (("grid_rows", 16, "patches down"), ("grid_columns", 16, "patches across")),
        (("row_bytes", 32, "bytes from one image row to the next"),),
        (("plane_bytes", 32, "bytes from one colour plane to the next"),),
        (("offset", 32, "bytes from the image base to patch 0: that of the part which is loaded"),),
    ),
    Opcode.LOAD_RESIDUAL: _layout(
        *_STREAM,
        (("destination_base", 16, "first residual word"), ("words", 16, "words to load, 4 bytes per lane")),
        (("stored", 1, "the block lies relative to the output base: what earlier STOREs of the frame wrote"),),
    ),
    Opcode.STAGE: _layout(
        *_STREAM,
        (
            ("destination_base", 16, "first scratchpad word"),
            ("words", 16, "words to load, one byte per lane, sign-extended"),
        ),
    ),
    Opcode.LIST: _layout(
        *_STREAM,
        (
            ("destination_base", 16, "first entry; entry p of expert e's queue is number e * max_tokens + p"),
            ("words", 16, "entries to load, one per chunk: a row in the first two bytes"),
        ),
    ),
    Opcode.LINEAR: _layout(
        *_STREAM,
        (
            ("broadcast_base", 16, "scratchpad word of the first broadcast row"),
            ("broadcast_stride", 16, "words per row"),
        ),
        (("steps", 16, "broadcast rows (tokens; channels when swapped)"), ("words", 16, "reduction length in words")),
        (
            ("stationary_base", 16, "swapped only: scratchpad word of the first token"),
            ("stationary_stride", 16, "words per token"),
        ),
        (
            ("stationary_rows", 16, "output channels (padded); tokens when swapped"),
            ("channels", 16, "parameter sets in the stream block"),
        ),
        (("destination_base", 16, "word of the first output row"), ("destination_stride", 16, "words per row")),
        (
            ("destination", 4, "a Destination"),
            ("function", 2, "a Function (ACTIVATION and RESIDUAL_MULTIPLY only)"),
            ("swapped", 1, "tokens are stationary, weight rows are broadcast: the output is written transposed"),
            ("wide", 1, "16-bit weights and inputs, one in two lanes"),
            ("broadcast_unsigned", 1, "broadcast lanes are unsigned (pixels, values behind a Function)"),
            ("gather", 1, "broadcast row s is the row that entry s of the list names"),
            ("scatter", 1, "output row s goes to the row that entry s of the list names, and no row is named twice"),
            ("list", 16, "first entry of the list, for gather and scatter"),
        ),
        (
            ("function_multiplier", 17, "requantises the Function's output to an activation"),
            ("function_shift", 6, "its right shift; RESIDUAL_MULTIPLY: that of the product, 13 to keep the scale"),
            ("windows", 8, "swapped: windows of stationary_rows tokens, one after the other; else 1"),
        ),
        (
            ("stationary_window", 16, "swapped: words from a window's first token to the next one's"),
            ("destination_window", 16, "swapped: words from a window's outputs to the next one's"),
        ),
    ),
    Opcode.CONVOLUTION: _layout(
        *_STREAM,
        (
            ("broadcast_base", 16, "scratchpad word of input position (0, 0)"),
            ("broadcast_stride", 8, "words per position"),
            ("tap_words", 8, "words that a tap reads of its position: input channels of the group"),
        ),
        (
            ("steps", 16, "output positions, row by row"),
            ("words", 16, "reduction length in words: taps_y x taps_x x tap_words"),
        ),
        (
            ("line_stride", 16, "words from one line of the input to the next"),
            ("destination_jump", 16, "words from the last output of a row to the first of the next, modulo 2**16"),
        ),
        (
            ("stationary_rows", 16, "output channels (padded); as many parameter sets in the stream block"),
            ("padding", 16, "what every lane of a tap outside the input reads; its low bits count"),
        ),
        (
            ("destination_base", 16, "word of the first output"),
            ("destination_stride", 16, "words from one output to the next in its row"),
        ),
        (
            ("destination", 4, "a Destination, but not SCORE"),
            ("function", 2, "a Function (ACTIVATION and RESIDUAL_MULTIPLY only)"),
            ("clamp", 1, "a tap outside the input reads the nearest position inside instead of `padding`"),
            ("broadcast_unsigned", 1, "broadcast lanes are unsigned (pixels, values behind a Function)"),
            ("taps_y", 4, "lines of the kernel"),
            ("taps_x", 4, "taps of a line"),
            ("stride_y", 4, "lines from one output row to the next"),
            ("stride_x", 4, "positions from one output to the next"),
            ("pad_top", 3, "lines of the first output's kernel above the input"),
            ("pad_left", 3, "taps of the first output's kernel before the input"),
        ),
        (
            ("function_multiplier", 17, "requantises the Function's output to an activation"),
            ("function_shift", 6, "its right shift; RESIDUAL_MULTIPLY: that of the product"),
            ("group_words", 8, "words from the input of one group to that of the next; 0 without groups"),
        ),
        (
            ("input_rows", 9, "lines of the input"),
            ("input_columns", 9, "positions of a line"),
            ("output_columns", 9, "outputs of a row"),
            ("group_tiles", 5, "tiles of P output channels of a group; 0 stands for 32"),
        ),
    ),
    Opcode.ATTENTION: _layout(
        (
            ("query_window", 16, "words from a window's queries to the next one's"),
            ("key_window", 16, "words from a window's keys to the next one's"),
        ),
        (
            ("head_words", 6, "words of one head's channels of a query and of a key"),
            ("value_words", 7, "words of one head's channels of V, and of the result"),
            ("bias_words", 3, "words of bias, 0 to 4, behind each key's"),
            ("bias_base", 16, "scratchpad word of the table of bias, which begins with each element's factors"),
        ),
        (("query_base", 16, "scratchpad word of query 0"), ("query_stride", 16, "words per query")),
        (("key_base", 16, "scratchpad word of key 0"), ("key_stride", 16, "words per key")),
        (("value_base", 16, "scratchpad word of channel 0 of V transposed"), ("value_stride", 16, "words per channel")),
        (("queries", 16, "queries of a window, any number"), ("keys", 16, "keys of a window")),
        # What LINEAR has, too, lies where LINEAR has it: the dispatcher need not choose.
        (("destination_base", 16, "scratchpad word of query 0"), ("destination_stride", 16, "words per query")),
        (
            ("score_multiplier", 17, "accumulator to octaves"),
            ("score_shift", 6, "its right shift"),
            ("heads", 8, "heads"),
            ("bias_shared", 1, "all heads of a window have the same bias, which is in the table once"),
        ),
        (
            ("output_multiplier", 17, "folded into each row's reciprocal"),
            ("output_shift", 6, "right shift, before the reciprocal's own"),
            ("windows", 8, "windows that are attended to one after the other"),
        ),
        (
            ("value_window", 16, "words from a window's columns of V transposed to the next one's"),
            ("destination_window", 16, "words from a window's results to the next one's"),
        ),
    ),
    Opcode.LAYERNORM: _layout(
        (("stream_address", 32, "one byte per channel: extra precision bits (0 to 7)"),),
        (("stream_bytes", 32, "bytes of the block; a multiple of the chunk size"),),
        (("source_base", 16, "residual word of the first row"), ("source_stride", 16, "words per row")),
        (("destination_base", 16, "scratchpad word of the first row"), ("destination_stride", 16, "words per row")),
        (("wide_base", 16, "scratchpad word of the first wide row"), ("wide_stride", 16, "words per wide row")),
        (("rows", 16, "tokens"), ("words", 16, "words per token")),
        (
            ("channels", 16, "D, unpadded"),
            ("wide", 1, "also write the 16-bit gate input"),
            ("mode", 2, "a NormMode: layer norm, RMS norm, a copy or a rectified copy"),
        ),
        (("mean_multiplier", 17, "round(2**mean_shift / D)"), ("mean_shift", 6, "right shift of the mean")),
        (("epsilon", 32, "epsilon * D**2 in squared residual units"),),
        (
            ("scale_multiplier", 17, "folded into each row's reciprocal deviation; COPY: the whole factor"),
            ("shift", 6, "right shift, before the deviation's exponent, which is 0 for COPY"),
            ("wide_shift", 6, "the same for the wide output"),
        ),
    ),
    Opcode.GATE: _layout(
        *_NO_STREAM,
        (
            ("tokens", 16, "tokens whose logits lie in the score buffer"),
            ("experts", 8, "experts"),
            ("top_k", 8, "experts per token"),
        ),
    ),
    Opcode.EXPERTS: _layout(
        (("stream_address", 32, "block of expert 0"),),
        (("stream_bytes", 32, "bytes per expert: both blocks"),),
        (("source_base", 16, "scratchpad word of token 0"), ("source_stride", 16, "words per token")),
        (
            ("hidden_base", 16, "scratchpad word of the first queue position"),
            ("hidden_stride", 16, "words per position"),
        ),
        (("destination_base", 16, "residual word of token 0"), ("destination_stride", 16, "words per token")),
        (("source_words", 16, "words of an input row"), ("hidden_channels", 16, "hidden channels (padded)")),
        (("hidden_words", 16, "words of a hidden row"), ("channels", 16, "output channels (padded)")),
        (
            ("function_multiplier", 17, "requantises the Function's output to an activation"),
            ("function_shift", 6, "its right shift"),
            ("function", 2, "a Function of the hidden channels; not NONE"),
        ),
        (("first_bytes", 32, "bytes of the first matrix's block; the second's follows"),),
        (("experts", 8, "experts"),),
    ),
    Opcode.STORE: _layout(
        *_NO_STREAM,
        (("source_base", 16, "residual word of the first row"), ("source_stride", 16, "words per row")),
        (("rows", 16, "rows"), ("words", 16, "words per row; 4 bytes per lane in memory")),
        (("offset", 32, "bytes from the output base; a multiple of the bus width and of 4 T"),),
    ),
    Opcode.TABLE: _layout(*_STREAM),
}
"""Fields of each command.

The table of bias holds ``bias_words`` words for each of P elements: the factors, which every query of the element has
behind its own words. Then it holds as many words for each head, tile of P queries, and key, in this order. A score is
the product of query and key plus the products of factors and bias. Every window begins the table anew.

Requantiser parameter sets precede the weights in a stream block: 8 bytes each (bias int32,
multiplier uint17 in bits 32 to 48, shift in bits 56 to 61), padded to whole chunks; then, for each tile of P output
channels, for each word of the reduction, P words of T bytes, element by element.

A TABLE block has the entries of :meth:`tessera.hw.tables.ActivationTable.entries`, 4 bytes each, padded to whole
chunks."""


@cache
def fields(opcode: Opcode) -> Mapping[str, Field]:
    """Fields of a command by name."""
    return {field.name: field for field in FIELDS[opcode]}


def encode(
    opcode: Opcode,
    *,
    task_mask: int = 0xFFFF,
    after: int = EVERYTHING,
    follow: int = Follow.NOTHING,
    **values: int,
) -> bytes:
    """Encode one command; every field must be given and must fit, else ValueError names it."""
    known = fields(opcode)
    values = {"opcode": int(opcode), "after": after, "follow": follow, "task_mask": task_mask, **values}
    if values.keys() != known.keys():
        missing, unknown = known.keys() - values.keys(), values.keys() - known.keys()
        raise ValueError(f"{opcode.name}: missing fields {sorted(missing)}, unknown fields {sorted(unknown)}")
    word = 0
    for name, value in values.items():
        field = known[name]
        if not 0 <= int(value) < 1 << field.width:
            raise ValueError(f"{opcode.name}: {name} is {value}; it has {field.width} bits")
        word |= int(value) << field.lsb
    return word.to_bytes(COMMAND_BYTES, "little")


def decode(command: bytes) -> tuple[Opcode, dict[str, int]]:
    """Decode one command; ValueError for an unknown opcode or a wrong length."""
    if len(command) != COMMAND_BYTES:
        raise ValueError(f"a command has {COMMAND_BYTES} bytes, got {len(command)}")
    word = int.from_bytes(command, "little")
    try:
        opcode = Opcode(word & 0xFF)
    except ValueError:
        raise ValueError(f"unknown opcode {word & 0xFF}") from None
    return opcode, {f.name: word >> f.lsb & ((1 << f.width) - 1) for f in FIELDS[opcode]}


class CycleCause(IntEnum):
    """What a cycle of a run was spent on."""

    BUSY = 0
    """The array took a beat."""
    WEIGHTS = 1
    """The engine waits for a weight tile or parameters."""
    ACTIVATIONS = 2
    """The engine waits for rows: held ones, or those of the image, LayerNorm or an earlier result."""
    SOFTMAX = 3
    """The engine waits for exponentials."""
    DRAIN = 4
    """The engine waits for room in write-back, or for its end."""
    STORE = 5
    """The engine has no job, and a STORE runs or is waited for."""
    SEQUENCER = 6
    """The engine has no job: commands are fetched, or another unit works."""

    @property
    def counter(self) -> str:
        """Register that counts these cycles of a run."""
        return "mac_busy" if self is CycleCause.BUSY else f"stall_{self.name.lower()}"

    @property
    def stamp(self) -> str:
        """Register that shows a command's share of them."""
        return f"stamp_{self.name.lower()}"


class StallSource(IntEnum):
    """What the machine was waiting for when the watchdog struck."""

    FETCH = 1
    STREAM = 2
    ENGINE = 3
    LAYERNORM = 4
    GATE = 5
    IMAGE = 6
    STORE = 7
