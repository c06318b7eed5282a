"""What a well-formed command is: the decoder's checks, one list per opcode."""

from __future__ import annotations

from amaranth.hdl import Value
from amaranth.lib import data
from amaranth.utils import exact_log2

from tessera.hw.config import AcceleratorConfig
from tessera.hw.isa import MAX_BIAS_WORDS, Destination, Follow, Function, NormMode, Opcode, Unit, fields


def _outside(value: Value, largest: int) -> Value:
    """1 unless the value lies in 1 to ``largest``."""
    return (value == 0) | (value > largest)


def _ragged(config: AcceleratorConfig, size: Value) -> Value:
    """1 unless the size in bytes is that of one or more whole chunks."""
    return (size == 0) | (size[: exact_log2(config.chunk_bytes)] != 0)


def violations(config: AcceleratorConfig, opcode: Opcode, c: data.View) -> list[Value]:
    """Conditions under which a command with fields ``c`` is refused as BAD_FIELD.

    The rules refuse what could make a unit hang or overrun one of its own memories. Scratchpad and residual addresses
    are checked where they are used.

    Parameters
    ----------
    config:
        Sizes of the machine.
    opcode:
        Opcode of the command.
    c:
        Fields of the command (:func:`tessera.hw.sequencer.command.view`).

    Returns
    -------
    list
        One bit for each rule; 1 if the command breaks it.
    """
    rules = [*_own(config, opcode, c), *_followed(opcode, c)]
    if "stream_bytes" in fields(opcode):
        # The weight stream drops a block of no whole chunk, so its command would wait for ever.
        rules.append(_ragged(config, c.stream_bytes))
    if "stored" in fields(opcode):
        # What a STORE has not written yet must not be read.
        rules.append(c.stored & ((c.after & Unit.STORE) == 0))
    return rules


def _followed(opcode: Opcode, c: data.View) -> list[Value]:
    """Only rows that the unit can follow may be named: it would read any others too early."""
    if opcode == Opcode.LINEAR:
        # With swapped roles every token is held before the first step, so there is no row to wait for. A list names
        # rows in any order.
        return [(c.swapped | c.gather) & (c.follow != Follow.NOTHING)]
    if opcode in (Opcode.LAYERNORM, Opcode.GATE):
        return [(c.follow != Follow.NOTHING) & (c.follow != Follow.ENGINE)]
    return [c.follow != Follow.NOTHING]


def _convolution(config: AcceleratorConfig, c: data.View) -> list[Value]:
    """Rules of CONVOLUTION: counters that count down to 1 must not begin at 0."""
    counts = (c.steps, c.tap_words, c.taps_y, c.taps_x, c.stride_y, c.stride_x)
    sizes = (c.input_rows, c.input_columns, c.output_columns)
    return [
        *(count == 0 for count in (*counts, *sizes)),
        _outside(c.words, config.weight_tile_words),
        _outside(c.stationary_rows, config.parameter_entries),
        (c.destination > max(Destination)) | (c.destination == Destination.SCORE),
    ]


def _own(config: AcceleratorConfig, opcode: Opcode, c: data.View) -> list[Value]:
    """Rules of one opcode's own fields."""
    match opcode:
        case Opcode.LINEAR:
            # Gate logits of every token must fit into the score buffer, which has two tiles of scores else.
            gate_rows = config.elements * (config.score_words // config.max_tokens)
            return [
                c.steps == 0,
                c.stationary_rows == 0,
                (c.windows == 0) | (~c.swapped & (c.windows != 1)),
                _outside(c.words, config.weight_tile_words),
                c.channels > config.parameter_entries,
                c.destination > max(Destination),
                c.gather & c.scatter,
                (c.gather | c.scatter) & (c.swapped | (c.list + c.steps > config.list_entries)),
                (c.destination == Destination.SCORE)
                & ((c.steps > config.max_tokens) | (c.stationary_rows > gate_rows) | (c.windows != 1)),
            ]
        case Opcode.CONVOLUTION:
            return _convolution(config, c)
        case Opcode.ATTENTION:
            # The exponentials of a query lie behind each other in one attention buffer of the bank.
            return _attention(config, c)
        case Opcode.LAYERNORM:
            row_channels = c.words << exact_log2(config.lanes)
            return [
                c.rows == 0,
                _outside(row_channels, config.layernorm_channels),
                (c.channels == 0) | (c.channels > row_channels),
                (c.mode == NormMode.RECTIFIED_COPY) & c.wide,
            ]
        case Opcode.GATE:
            return [
                _outside(c.tokens, config.max_tokens),
                _outside(c.experts, config.max_experts),
                _outside(c.top_k, config.max_top_k),
                c.top_k > c.experts,
            ]
        case Opcode.EXPERTS:
            return [
                _outside(c.experts, config.max_experts),
                _outside(c.source_words, config.weight_tile_words),
                _outside(c.hidden_words, config.weight_tile_words),
                # Neither of an expert's two blocks may be empty.
                _ragged(config, c.first_bytes) | (c.first_bytes >= c.stream_bytes),
                c.function == Function.NONE,
                c.hidden_channels > config.parameter_entries,
                c.channels > config.parameter_entries,
            ]
        case Opcode.LOAD_IMAGE:
            # The loader multiplies by the patch with a shift.
            return [c.patch == 0, (c.patch & (c.patch - 1)) != 0, c.grid_rows == 0, c.grid_columns == 0]
        case Opcode.STORE:
            return [c.rows == 0, c.words == 0]
        case Opcode.STAGE | Opcode.LOAD_RESIDUAL:
            return [c.words == 0]
        case Opcode.LIST:
            return [c.words == 0, c.destination_base + c.words > config.list_entries]
        case _:
            return []


def _attention(config: AcceleratorConfig, c: data.View) -> list[Value]:
    """Rules of ATTENTION: what is held must fit the stationary banks, and a tile of scores its buffer."""
    # Queries may be any number, because only a tile of them is on chip.
    exponential_words = (c.keys + (config.lanes - 1)) >> exact_log2(config.lanes)
    return [
        _outside(c.keys, config.max_tokens),
        exponential_words > config.exponential_words,
        c.queries == 0,
        c.heads == 0,
        c.windows == 0,
        (c.head_words == 0) | (c.head_words + c.bias_words > config.query_words),
        c.value_words == 0,
        c.bias_words > MAX_BIAS_WORDS,
    ]
