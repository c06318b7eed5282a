"""Jobs: what the sequencer hands to the units, whose it is, and the state of a run."""

from __future__ import annotations

from amaranth.lib import data

from hw.config import AcceleratorConfig
from hw.isa import FIELDS, Opcode


def gate_job_layout() -> data.StructLayout:
    """The fields of a GATE command that concern the unit."""
    return data.StructLayout({"tokens": 16, "experts": 8, "top_k": 8})


def image_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Fields of LOAD_IMAGE, and the image's address."""
    return data.StructLayout(
        {
            "destination_base": 16,
            "destination_stride": 16,
            "patch": 8,
            "grid_rows": 16,
            "grid_columns": 16,
            "row_bytes": 32,
            "plane_bytes": 32,
            "image_base": 32,
        }
    )


def engine_job_layout(config: AcceleratorConfig) -> data.StructLayout:
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


def softmax_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Drain one tile of scores: turn score buffer ``buffer`` into exponentials in attention buffer ``buffer``."""
    return data.StructLayout({"buffer": 1, "tokens": 16, "output_multiplier": 17, "output_shift": 6})


def place_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A command, and where it is in its expert loop (0 outside of one): whom a write or an error belongs to."""
    return data.StructLayout({"command": 16, "expert": 15, "second_matrix": 1})


class StreamKind:
    """What a block of the weight stream is for."""

    WEIGHTS = 0  # parameter sets, then tiles for the stationary banks
    STAGE = 1  # weight words into the scratchpad
    RESIDUAL = 2  # 4-byte lanes into the residual memory
    SHIFTS = 3  # LayerNorm's channel shifts


def stream_job_layout(config: AcceleratorConfig) -> data.StructLayout:
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


def run_state_layout() -> data.StructLayout:
    """What the accelerator does and what became of its latest run: the bits of the register ``status``."""
    return data.StructLayout({"busy": 1, "done": 1, "error": 1, "saturated": 1})


SEQUENCER_FIELDS = ("opcode", "after", "follow", "task_mask", "stream_address", "stream_bytes")


def layernorm_job_layout() -> data.StructLayout:
    """The fields of a LAYERNORM command that concern the unit."""
    fields = FIELDS[Opcode.LAYERNORM]
    return data.StructLayout({field.name: field.width for field in fields if field.name not in SEQUENCER_FIELDS})


def store_job_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Fields of STORE, and the output base address."""
    return data.StructLayout(
        {"source_base": 16, "source_stride": 16, "rows": 16, "words": 16, "offset": 32, "output_base": 32}
    )
