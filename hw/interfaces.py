"""Bundles that travel between units: one definition of every struct, strobe and AXI signature.

A *strobe* is a payload with ``valid`` and no backpressure: the receiver must take it. Streams are Amaranth's
``stream.Signature`` (valid/ready/payload, payload stable until accepted). Memory reads have a fixed latency and no
valid of their own.
"""

from __future__ import annotations

from amaranth.hdl import ShapeLike, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.isa import Destination

BLOCK_LATENCY = 2
"""Cycles from the address of a block RAM to its data: the block and the register behind it."""
MEMORY_LATENCY = 4
"""Cycles from an on-chip memory's read address to its data. A large memory needs a cycle more on the way to its blocks
and one on the way back (``hw.memory.rows``); a small one has more time for its address."""
RESIDUAL_LATENCY = MEMORY_LATENCY + 1
"""Cycles from a unit's asking for a residual word to its coming: the readers stand far from each other."""

__all__ = [
    "BLOCK_LATENCY",
    "MEMORY_LATENCY",
    "RESIDUAL_LATENCY",
    "Axi4Lite",
    "Axi4Read",
    "Axi4Write",
    "Strobe",
    "In",
    "Out",
]


class Strobe(wiring.Signature):
    """``valid`` and ``payload``, no backpressure.

    Parameters
    ----------
    payload:
        Shape of the payload.
    """

    def __init__(self, payload: ShapeLike) -> None:
        super().__init__({"valid": Out(1), "payload": Out(payload)})


def lanes(config: AcceleratorConfig) -> data.ArrayLayout:
    """One scratchpad or bank word: T lanes of A bits, lane 0 in the low bits; signedness is the reader's."""
    return data.ArrayLayout(unsigned(config.numerics.activation_width), config.lanes)


def residual_lanes(config: AcceleratorConfig) -> data.ArrayLayout:
    """One residual word: T lanes in the residual's format."""
    return data.ArrayLayout(signed(config.numerics.residual_width), config.lanes)


def scratch_write(config: AcceleratorConfig) -> data.StructLayout:
    """A write of whole columns of P lanes; ``columns`` is the mask, lanes of unwritten columns are ignored."""
    return data.StructLayout({"address": 16, "columns": config.columns, "data": lanes(config)})


def residual_write(config: AcceleratorConfig) -> data.StructLayout:
    """The same for the residual memory."""
    return data.StructLayout({"address": 16, "columns": config.columns, "data": residual_lanes(config)})


def score_word(config: AcceleratorConfig) -> data.ArrayLayout:
    """P scores in octaves (18 bits, 10 fraction bits)."""
    return data.ArrayLayout(signed(config.numerics.score.width), config.elements)


def score_write(config: AcceleratorConfig) -> data.StructLayout:
    """P scores of one key. ``attention`` marks softmax's scores (else gate logits), ``first`` a tile's first key."""
    return data.StructLayout({"address": 16, "attention": 1, "buffer": 1, "first": 1, "data": score_word(config)})


def bank_fill(config: AcceleratorConfig) -> data.StructLayout:
    """G words of one reduction index for elements ``group * G`` onwards."""
    return data.StructLayout(
        {
            "group": range(max(2, config.elements // config.words_per_chunk)),
            "address": range(config.bank_words),
            "data": data.ArrayLayout(lanes(config), config.words_per_chunk),
        }
    )


def bank_hold(config: AcceleratorConfig) -> data.StructLayout:
    """One word for one element: held queries, or held tokens when roles are swapped."""
    return data.StructLayout(
        {"element": range(config.elements), "address": range(config.bank_words), "data": lanes(config)}
    )


def bank_exponentials(config: AcceleratorConfig) -> data.StructLayout:
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


def beat(config: AcceleratorConfig) -> data.StructLayout:
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


def accumulators(config: AcceleratorConfig) -> data.ArrayLayout:
    """P accumulators."""
    return data.ArrayLayout(signed(config.numerics.accumulator_width), config.elements)


class ParameterMode:
    """Where an output's bias, multiplier and shift come from."""

    ELEMENT = 0  # parameter set ``parameter_index + element``
    STEP = 1  # parameter set ``parameter_index`` for all elements
    SCORE = 2  # no bias; the attention command's score multiplier and shift
    QUERY = 3  # no bias; softmax's multiplier and shift of each held query


class StepKind:
    """Where a step's P outputs go: the Destinations of LINEAR, and attention's output."""

    ACTIVATION = int(Destination.ACTIVATION)
    RESIDUAL_ADD = int(Destination.RESIDUAL_ADD)
    RESIDUAL_SET = int(Destination.RESIDUAL_SET)
    SCORE = int(Destination.SCORE)
    ATTENTION = 4


def step(config: AcceleratorConfig) -> data.StructLayout:
    """What becomes of one step's P accumulators; issued by the engine with the step's last beat.

    ``row_last`` marks a row's last step (of the job's last tile), ``job_last`` the job's last step; neither is given
    for attention. ``address`` is the word in the destination memory, ``column`` the column in it. For SCORE it is the
    score buffer word. For ATTENTION (P queries, one channel) it is the word of query 0, ``row_stride`` the words from
    one query to the next, ``rows`` the number of valid queries, ``flush`` marks the channel that is the last lane of a
    word.
    """
    return data.StructLayout(
        {
            "kind": 3,
            "mode": 2,
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


def job_constants(config: AcceleratorConfig) -> data.StructLayout:
    """Requantiser constants of a job: of attention, and of the latest job with GELU."""
    return data.StructLayout({"score_multiplier": 17, "score_shift": 6, "gelu_multiplier": 17, "gelu_shift": 6})


def engine_job(config: AcceleratorConfig) -> data.StructLayout:
    """A job of the compute engine: one LINEAR, one matrix of one expert, or one ATTENTION command.

    Fields are named as in ``hw.isa``. Linear jobs: ``gather`` takes the broadcast row of step s from queue position s
    of ``expert``; ``scatter`` writes output row s to the token of that position, weighted by its gate weight.
    ``channels`` parameter sets are released when the job is done. Attention jobs (``attention`` set) use the second
    group.
    """
    linear = {
        name: 16
        for name in (
            "broadcast_base broadcast_stride steps words stationary_base stationary_stride stationary_rows channels "
            "destination_base destination_stride"
        ).split()
    }
    attention = {
        name: 16 for name in "query_base query_stride key_base key_stride value_base value_stride tokens".split()
    }
    return data.StructLayout(
        {
            "attention": 1,
            **linear,
            "destination": 4,
            "gelu": 1,
            "swapped": 1,
            "wide": 1,
            "broadcast_unsigned": 1,
            "gelu_multiplier": 17,
            "gelu_shift": 6,
            "gather": 1,
            "scatter": 1,
            "expert": range(config.max_experts),
            **attention,
            "heads": 8,
            "head_words": 8,
            "score_multiplier": 17,
            "score_shift": 6,
            "output_multiplier": 17,
            "output_shift": 6,
        }
    )


def softmax_job(config: AcceleratorConfig) -> data.StructLayout:
    """Drain one tile of scores: turn score buffer ``buffer`` into exponentials in attention buffer ``buffer``."""
    return data.StructLayout({"buffer": 1, "tokens": 16, "output_multiplier": 17, "output_shift": 6})


def query_scale(config: AcceleratorConfig) -> data.StructLayout:
    """Output multiplier and right shift of one held query: its reciprocal sum times the output multiplier."""
    return data.StructLayout({"multiplier": 17, "shift": 6})


def parameter_set(config: AcceleratorConfig) -> data.StructLayout:
    """One output channel's requantiser constants, as they lie in memory (8 bytes)."""
    return data.StructLayout({"bias": signed(32), "multiplier": 17, "reserved": 7, "shift": 6, "unused": 2})


def place(config: AcceleratorConfig) -> data.StructLayout:
    """A command, and where it is in its expert loop (0 outside of one): whom a write or an error belongs to."""
    return data.StructLayout({"command": 16, "expert": 15, "second_matrix": 1})


class StreamKind:
    """What a block of the weight stream is for."""

    WEIGHTS = 0  # parameter sets, then tiles for the stationary banks
    STAGE = 1  # weight words into the scratchpad
    RESIDUAL = 2  # 4-byte lanes into the residual memory
    SHIFTS = 3  # LayerNorm's channel shifts


def stream_job(config: AcceleratorConfig) -> data.StructLayout:
    """One block of the weight stream. ``address`` is absolute.

    WEIGHTS: ``channels`` parameter sets, then ``tiles`` x ``words`` x P words (``wide``: 16-bit weights). STAGE and
    RESIDUAL: ``words`` words to ``base``. SHIFTS: ``channels`` bytes. All but WEIGHTS wait for the stream unit's
    ``permit`` (their command is current).
    """
    return data.StructLayout(
        {
            "kind": 2,
            "address": 32,
            "bytes": 32,
            "channels": 16,
            "tiles": 16,
            "words": 16,
            "base": 16,
            "wide": 1,
        }
    )


def queue_entry(config: AcceleratorConfig) -> data.StructLayout:
    """One entry of an expert's token queue."""
    return data.StructLayout({"token": range(config.max_tokens), "weight": 16})


def queue_address(config: AcceleratorConfig) -> data.StructLayout:
    """Where an entry is."""
    return data.StructLayout({"position": range(config.max_tokens), "expert": range(config.max_experts)})


def read_request(config: AcceleratorConfig) -> data.StructLayout:
    """A burst that a client asks the read master for: 1 to 256 beats, not crossing 4 KiB, for which it has room."""
    return data.StructLayout({"address": 32, "beats_minus_one": 8})


class Axi4Read(wiring.Signature):
    """AXI4 read channels (one ID, INCR bursts of full-width beats), from the master's side."""

    def __init__(self, config: AcceleratorConfig) -> None:
        width = 8 * config.memory_bytes
        super().__init__(
            {
                "araddr": Out(32),
                "arlen": Out(8),
                "arsize": Out(3),
                "arburst": Out(2),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(width),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class Axi4Write(wiring.Signature):
    """AXI4 write channels (one ID, INCR bursts of full-width beats), from the master's side."""

    def __init__(self, config: AcceleratorConfig) -> None:
        width = 8 * config.memory_bytes
        super().__init__(
            {
                "awaddr": Out(32),
                "awlen": Out(8),
                "awsize": Out(3),
                "awburst": Out(2),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(width),
                "wstrb": Out(width // 8),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


def run_state() -> data.StructLayout:
    """What the accelerator does and what became of its latest run: the bits of the register ``status``."""
    return data.StructLayout({"busy": 1, "done": 1, "error": 1, "saturated": 1})


class Axi4Lite(wiring.Signature):
    """AXI4-Lite slave for the control registers, from the master's side (use ``In(Axi4Lite())`` on the slave)."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": Out(8),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(8),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )
