"""What travels inside the compute engine: phases, beats, accumulators, steps, and what becomes of an output."""

from __future__ import annotations

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.config import AcceleratorConfig
from tessera.hw.formats import Numerics
from tessera.hw.interfaces.memory import TableRead
from tessera.hw.interfaces.strobe import Strobe
from tessera.hw.isa import ADDRESS_WIDTH, COUNT_WIDTH, POSITION_WIDTH, Destination

COORDINATE_WIDTH = POSITION_WIDTH + 1
"""Bits of a tap's line or position, which may lie outside the input on both sides."""


class Wait(enum.IntEnum, shape=2):
    """What must have been put into the banks before a phase may start."""

    WEIGHTS = 0
    """The next streamed weight tile."""
    ROWS = 1
    """The next held tile: queries, or tokens when roles are swapped."""
    EXPONENTIALS = 2
    """Softmax's output for the next query tile."""


class ParameterMode(enum.IntEnum, shape=2):
    """Where an output's bias, multiplier and shift come from."""

    ELEMENT = 0
    """Parameter set ``parameter_index + element``."""
    STEP = 1
    """Parameter set ``parameter_index`` for all elements."""
    SCORE = 2
    """No bias; the attention command's score multiplier and shift."""
    QUERY = 3
    """No bias; softmax's multiplier and shift of each held query."""


class StepKind(enum.IntEnum, shape=3):
    """Where a step's P outputs go: the Destinations of LINEAR, and attention's output."""

    ACTIVATION = int(Destination.ACTIVATION)
    RESIDUAL_ADD = int(Destination.RESIDUAL_ADD)
    RESIDUAL_SET = int(Destination.RESIDUAL_SET)
    SCORE = int(Destination.SCORE)
    RESIDUAL_MULTIPLY = int(Destination.RESIDUAL_MULTIPLY)
    ATTENTION = 5
    """Scratchpad: one channel of P queries."""


class Stalls(wiring.Signature):
    """Why a cycle of a job has no beat; exactly one is 1 in such a cycle.

    Members
    -------
    weights: Out(1)
        A weight tile or parameter sets have not come.
    activations: Out(1)
        Held rows or broadcast rows have not come.
    softmax: Out(1)
        Exponentials have not come.
    drain: Out(1)
        The drain has no room; also start-up, looked-up rows, and the end of attention.
    """

    def __init__(self) -> None:
        super().__init__({"weights": Out(1), "activations": Out(1), "softmax": Out(1), "drain": Out(1)})


class StepProgress(wiring.Signature):
    """What has become of the steps, from write-back's side.

    Members
    -------
    score_written: Out(1)
        Pulse: one word of attention scores has been written.
    job_written: Out(1)
        Pulse: a step with ``job_last`` is being written. It can be read two cycles later.
    idle: Out(1)
        Every step issued so far has been written and can be read. Rises two cycles after the last write, falls in the
        cycle after a step.
    """

    def __init__(self) -> None:
        super().__init__({"score_written": Out(1), "job_written": Out(1), "idle": Out(1)})


class ParameterAccount(wiring.Signature):
    """How many parameter sets there are, from the side of their user.

    Members
    -------
    level: In(COUNT_WIDTH)
        Sets that have come and not been given back.
    release: Out(Strobe(COUNT_WIDTH))
        Number of the oldest sets that are given back.
    """

    def __init__(self) -> None:
        super().__init__({"level": In(COUNT_WIDTH), "release": Out(Strobe(COUNT_WIDTH))})


def parameter_set_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One output channel's requantiser constants, as they lie in memory (8 bytes)."""
    return data.StructLayout(
        {
            "bias": signed(config.numerics.bias.width),  # in units of the accumulator
            "multiplier": config.numerics.multiplier_width,  # at most 65536
            "reserved": 7,  # ignored
            "shift": config.numerics.shift_width,  # rounding right shift of the product
            "unused": 2,  # ignored
        }
    )


def parameter_read(config: AcceleratorConfig) -> TableRead:
    """Read port of the parameter store: the aligned group of R sets that contains a set."""
    return TableRead(COUNT_WIDTH, data.ArrayLayout(parameter_set_layout(config), config.requantise_lanes))


def job_constants_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Constants of a job: of attention, of the latest job with a Function or RESIDUAL_MULTIPLY, of a convolution."""
    return data.StructLayout(
        {
            "score_multiplier": config.numerics.multiplier_width,  # factor of attention scores
            "score_shift": config.numerics.shift_width,  # rounding right shift of their products
            "function": 2,  # the Function
            "multiplies": 1,  # its results, or values without one, are multiplied by the residual
            "function_multiplier": config.numerics.multiplier_width,  # factor of the Function's results
            "function_shift": config.numerics.shift_width,  # rounding right shift of their products
            "padding": config.numerics.activation_width,  # lanes of a tap outside the input
        }
    )


def activation_settings_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What an activation function is to do: the same for all lanes."""
    numerics = config.numerics
    return data.StructLayout(
        {
            "identity": 1,  # no function: the argument itself
            "flat": 1,  # no function, or ReLU: the difference is 0
            "loaded": 1,  # the difference is that of the table that was loaded, else GELU's
            "step": 1,  # the table is that of a step
            "multiplies": 1,  # results are multiplied by the residual, else by the multiplier
            "zero_point": 16,  # added to results, 14 fraction bits; 1 if they are multiplied by the residual
            "multiplier": numerics.multiplier_width,  # factor of results with their zero point
            "correction": numerics.multiplier_width,  # the multiplier; 0 if results are multiplied by the residual
            "shift": numerics.shift_width,  # rounding right shift of the products
        }
    )


def table_entry_layout() -> data.StructLayout:
    """A segment of an activation function's table (``tessera.hw.tables.ActivationTable.entries``)."""
    return data.StructLayout(
        {
            "base": 18,  # difference at the segment's start, 18 fraction bits
            "slope": 13,  # signed change to its end
        }
    )


def table_write_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Entries of one chunk of a table."""
    return data.StructLayout(
        {
            "address": ADDRESS_WIDTH,  # number of the chunk
            "entries": data.ArrayLayout(table_entry_layout(), config.chunk_bytes // 4),  # in order
        }
    )


def factors_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """Residual values that R outputs are multiplied by."""
    return data.ArrayLayout(signed(config.numerics.residual_width), config.requantise_lanes)


def query_scale_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Requantiser constants of one held query: its reciprocal sum times the output multiplier."""
    return data.StructLayout(
        {
            "multiplier": Numerics.multiplier_width,  # factor of the query's outputs
            "shift": Numerics.shift_width,  # rounding right shift of their products
        }
    )


def query_scales_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """Scales of the queries of both attention buffers, at index ``buffer * P + element``."""
    return data.ArrayLayout(query_scale_layout(config), 2 * config.elements)


def looked_up_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A token of an expert's queue, turned into a row; or a tap of a convolution."""
    return data.StructLayout(
        {
            "offset": ADDRESS_WIDTH,  # address of row (gather) or tap, or words from the tensor's base to it (scatter)
            "weight": config.numerics.gate_weight.width,  # gate weight, unsigned, all bits fraction bits
            "padded": 1,  # the tap lies outside the input: its words are padding
            "new_row": 1,  # first tap of a step: the step begins a row of outputs, but not the first
        }
    )


def kernel_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Where the first tap of a step of a convolution lies."""
    return data.StructLayout(
        {
            "address": ADDRESS_WIDTH,  # scratchpad word of the nearest position inside the input
            "y": COORDINATE_WIDTH,  # its line, modulo 2**COORDINATE_WIDTH: negative ones lie above the input
            "x": COORDINATE_WIDTH,  # its position in the line
            "new_row": 1,  # the step begins a row of outputs, but not the first
        }
    )


def phase_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One tile of stationary rows against some broadcast rows. The fields from ``kind`` on fill in ``step_layout``."""
    return data.StructLayout(
        {
            "wait": Wait,  # what must be in the banks before the phase starts
            "row": ADDRESS_WIDTH,  # scratchpad word of the first broadcast row
            "row_stride": ADDRESS_WIDTH,  # words from one broadcast row to the next
            "steps": COUNT_WIDTH,  # broadcast rows, at least 1
            "words": COUNT_WIDTH,  # words of a row, with bias, at least 1
            "bias_words": 3,  # the last words of each row, which come from the table of bias
            "bias_again": 1,  # the phase begins the table anew; else it goes on where the last one was
            "stationary": range(config.bank_words),  # first bank word of the tile
            "kind": StepKind,
            "mode": ParameterMode,
            "parameter_index": COUNT_WIDTH,  # of the first step
            "address": ADDRESS_WIDTH,  # of the first step
            "address_stride": ADDRESS_WIDTH,  # words from a step's address to the next; ATTENTION: to the next word's
            "column": range(max(2, config.columns)),
            "buffer": 1,
            "rows": range(config.elements + 1),
            "last": 1,  # a linear job's last phase
        }
    )


def beat_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One array beat; its broadcast word comes MEMORY_LATENCY cycles later, straight from the scratchpad."""
    return data.StructLayout(
        {
            "first": 1,  # first beat of its step: accumulators start anew
            "last": 1,  # last beat of its step: accumulators are handed over
            "wide": 1,  # operands are 16-bit values, two lanes each
            "broadcast_unsigned": 1,  # lanes of the broadcast word are unsigned
            "padded": 1,  # padding takes the place of the broadcast word
            "stationary_unsigned": 1,  # lanes of the stationary words are unsigned
            "stationary_address": range(config.bank_words),  # bank word
        }
    )


def accumulators_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """P accumulators."""
    return data.ArrayLayout(signed(config.numerics.accumulator_width), config.elements)


def step_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What becomes of one step's P accumulators; issued by the engine with the step's last beat."""
    return data.StructLayout(
        {
            "kind": StepKind,  # where the outputs go
            "mode": ParameterMode,  # how the outputs are requantised
            "parameter_index": COUNT_WIDTH,  # parameter set, if the mode needs one
            "address": ADDRESS_WIDTH,  # word in the destination memory; ATTENTION: that of query 0
            "column": range(max(2, config.columns)),  # column of the word
            "activated": 1,  # outputs go through the activation function, or are multiplied by the residual
            "weighted": 1,  # outputs are multiplied by the gate weight
            "gate_weight": config.numerics.gate_weight.width,  # unsigned, all bits fraction bits
            "attention": 1,  # the step belongs to an attention job
            "first": 1,  # first step of its phase
            "buffer": 1,  # attention buffer of the query tile
            "flush": 1,  # ATTENTION: the channel is the last lane of its word
            "rows": range(config.elements + 1),  # ATTENTION: number of valid queries
            "row_stride": ADDRESS_WIDTH,  # ATTENTION: words from one query to the next
            "row_last": 1,  # last step of its row, that of the job's last tile; 0 for attention
            "job_last": 1,  # last step of its job; 0 for attention
        }
    )


def recipe_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What the drain needs to know of a step: fields of ``step_layout``."""
    members = step_layout(config).members
    return data.StructLayout(
        {name: members[name] for name in ("kind", "activated", "mode", "parameter_index", "buffer")}
    )


def destination_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Where a step's values go: all fields of ``step_layout`` but those that only the drain needs."""
    members = step_layout(config).members
    where = ("kind", "address", "column", "weighted", "gate_weight", "attention", "buffer", "first", "flush")
    when = ("rows", "row_stride", "row_last", "job_last")
    return data.StructLayout({name: members[name] for name in (*where, *when)})


def group_layout(config: AcceleratorConfig) -> data.StructLayout:
    """R values of a step behind requantiser and activation function."""
    values = data.ArrayLayout(signed(config.numerics.residual_width), config.requantise_lanes)
    return data.StructLayout(
        {
            "value": values,  # sign-extended to the residual's width; zero-extended after a Function
            "last": 1,  # the step's last group
        }
    )


def values_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """P values of a step, in the residual's width."""
    return data.ArrayLayout(signed(config.numerics.residual_width), config.elements)


def residual_request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A column of the residual memory that is about to change."""
    return data.StructLayout(
        {
            "add": 1,  # the values are added to what is there; else they replace it
            "address": ADDRESS_WIDTH,  # number of the word
            "column": range(max(2, config.columns)),  # column of P lanes in it
        }
    )


def channel_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One channel of attention's output for P queries, on its way to be transposed."""
    return data.StructLayout(
        {
            "data": data.ArrayLayout(
                unsigned(config.numerics.activation_width), config.elements
            ),  # an activation per query
            "flush": 1,  # the channel is the last lane of its word: the words are written
            "rows": range(config.elements + 1),  # queries that are written
            "address": ADDRESS_WIDTH,  # scratchpad word of query 0
            "row_stride": ADDRESS_WIDTH,  # words from one query to the next
        }
    )
