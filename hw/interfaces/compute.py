"""What travels inside the compute engine: beats, accumulators, steps, and what becomes of an output."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data, enum

from hw.config import AcceleratorConfig
from hw.isa import Destination


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
    ATTENTION = 4
    """Scratchpad: one channel of P queries."""


class Wait(enum.IntEnum, shape=2):
    """What must have been put into the banks before a phase may start."""

    WEIGHTS = 0
    """The next streamed weight tile."""
    ROWS = 1
    """The next held tile: queries, or tokens when roles are swapped."""
    EXPONENTIALS = 2
    """Softmax's output for the next query tile."""


def recipe_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What the drain needs to know of a step; fields as in ``step_layout``."""
    return data.StructLayout({"kind": StepKind, "gelu": 1, "mode": ParameterMode, "parameter_index": 16, "buffer": 1})


def looked_up_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Address of a token's row (gather) or its words from the tensor's base (scatter), and its gate weight."""
    return data.StructLayout({"offset": 16, "weight": 16})


def phase_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One tile against ``steps`` broadcast rows of ``words`` words, starting at scratchpad word ``row``.

    ``stationary`` is the tile's first bank word. The remaining fields fill in ``step_layout``: ``address`` is
    the first step's word and ``address_stride`` what is added a step (kind ATTENTION: 1 whenever a word's lanes are
    full). ``last`` marks a linear job's last phase.
    """
    return data.StructLayout(
        {
            "wait": Wait,
            "row": 16,
            "row_stride": 16,
            "steps": 16,
            "words": 16,
            "stationary": range(config.bank_words),
            "kind": StepKind,
            "mode": ParameterMode,
            "parameter_index": 16,
            "address": 16,
            "address_stride": 16,
            "column": range(max(2, config.columns)),
            "buffer": 1,
            "rows": range(config.elements + 1),
            "last": 1,
        }
    )


def destination_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Where a step's values go; fields as in ``step_layout``."""
    members = step_layout(config).members
    names = "kind address column weighted gate_weight attention buffer first flush rows row_stride row_last job_last"
    return data.StructLayout({name: members[name] for name in names.split()})


def beat_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One array beat; its broadcast word arrives MEMORY_LATENCY cycles later, straight from the scratchpad."""
    return data.StructLayout(
        {
            "first": 1,
            "last": 1,
            "wide": 1,
            "broadcast_unsigned": 1,
            "stationary_unsigned": 1,
            "stationary_address": range(config.bank_words),
        }
    )


def accumulators_layout(config: AcceleratorConfig) -> data.ArrayLayout:
    """P accumulators."""
    return data.ArrayLayout(signed(config.numerics.accumulator_width), config.elements)


def step_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What becomes of one step's P accumulators; issued by the engine with the step's last beat.

    ``row_last`` marks a row's last step (of the job's last tile), ``job_last`` the job's last step; neither is given
    for attention. ``address`` is the word in the destination memory, ``column`` the column in it. For SCORE it is the
    score buffer word. For ATTENTION (P queries, one channel) it is the word of query 0, ``row_stride`` the words from
    one query to the next, ``rows`` the number of valid queries, ``flush`` marks the channel that is the last lane of a
    word.
    """
    return data.StructLayout(
        {
            "kind": StepKind,
            "mode": ParameterMode,
            "parameter_index": 16,
            "address": 16,
            "column": range(max(2, config.columns)),
            "gelu": 1,
            "weighted": 1,
            "gate_weight": 16,
            "attention": 1,
            "first": 1,
            "buffer": 1,
            "flush": 1,
            "rows": range(config.elements + 1),
            "row_stride": 16,
            "row_last": 1,
            "job_last": 1,
        }
    )


def job_constants_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Requantiser constants of a job: of attention, and of the latest job with GELU."""
    return data.StructLayout({"score_multiplier": 17, "score_shift": 6, "gelu_multiplier": 17, "gelu_shift": 6})


def query_scale_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Output multiplier and right shift of one held query: its reciprocal sum times the output multiplier."""
    return data.StructLayout({"multiplier": 17, "shift": 6})


def parameter_set_layout(config: AcceleratorConfig) -> data.StructLayout:
    """One output channel's requantiser constants, as they lie in memory (8 bytes)."""
    return data.StructLayout({"bias": signed(32), "multiplier": 17, "reserved": 7, "shift": 6, "unused": 2})
