"""Every memory that the RTL builds for a configuration, unit by unit, and those of a board.

Widths come from the RTL's own layouts where it has one. ``tests/sw/fpga/test_resources.py`` compares the list with what
the RTL declares: a memory that is added or changed there has to be here, too.
"""

from __future__ import annotations

from hw.boards.board import Board
from hw.boards.system import CLIENTS
from hw.bus.read_master import ReadMaster
from hw.bus.write_master import WriteMaster
from hw.compute.lookup import QueueLookup
from hw.compute.writeback import WAIT_CYCLES
from hw.config import MAX_CHANNELS, AcceleratorConfig
from hw.ecp5.platform import Ecp5
from hw.formats import Numerics
from hw.image.loader import ImageLoader
from hw.interfaces.axi import read_request_layout
from hw.interfaces.compute import destination_layout, looked_up_layout, recipe_layout
from hw.interfaces.gate import queue_entry_layout
from hw.interfaces.image import BLOCK_COLUMNS, run_tag_layout
from hw.interfaces.layernorm import row_scale_layout
from hw.interfaces.memory import lanes_layout, residual_lanes_layout, score_word_layout
from hw.interfaces.sdram import WORD_BITS
from hw.interfaces.stream import block_layout
from hw.isa import COMMAND_BITS, SHARE_BITS, CycleCause
from hw.layernorm.layernorm import LayerNorm
from hw.layernorm.output import queue_depth
from hw.link.frame_receiver import SLOTS
from hw.memory.store import ResidualReader
from hw.protocol import PAYLOAD_BYTES
from hw.sequencer.fetch import RING_COMMANDS
from hw.softmax.softmax import FIFO_DEPTH
from hw.stream.weight_stream import WeightStream
from hw.tables import (
    PiecewiseTable,
    exp2_table,
    gelu_delta_table,
    reciprocal_square_root_table,
    reciprocal_table,
)
from sw.fpga.resources.block_rams import Memory


def memories(config: AcceleratorConfig) -> list[Memory]:
    """The machine's memories. A buffered queue keeps one of its words in a register."""
    return [*_large(config), *_compute(config), *_nonlinear(config), *_traffic(config), *_control(config)]


def board_memories(board: Board, config: AcceleratorConfig) -> list[Memory]:
    """What a board has besides, in the units that ``tessera bitstream`` counts: the host link and the memory."""
    link = [
        Memory(unit="host_link", name="given", words=SLOTS * PAYLOAD_BYTES, width=8),
        Memory(unit="host_link", name="taken", words=2 * PAYLOAD_BYTES, width=8),
    ]
    bus_bits = 8 * config.memory_bytes
    depth = 1024 if bus_bits == WORD_BITS else 512
    link += [
        # With a beat goes whether it is a burst's last and has failed, or a bit for each byte of it.
        Memory(unit="memory", name="read_beats", words=depth, width=bus_bits + 2, count=CLIENTS),
        Memory(unit="memory", name="write_beats", words=depth, width=bus_bits + config.memory_bytes, count=CLIENTS),
    ]
    if isinstance(board.memory, int):
        words, bytes_ = 8 * board.memory // WORD_BITS, WORD_BITS // 8
        link.append(Memory(unit="memory", name="lane", words=words, width=8, count=bytes_))
    return link


def _large(config: AcceleratorConfig) -> list[Memory]:
    """Scratchpad and residual memory: columns of P lanes, in rows of block RAMs (``hw.memory.rows``)."""
    sizes = (
        ("scratchpad", config.scratchpad_words, config.numerics.activation_width, True),
        ("residual", config.residual_words, config.numerics.residual_width, False),
    )
    found = []
    for unit, words, bits, two_ports in sizes:
        width = config.elements * bits
        row_words = Ecp5().block_rows(words, width)
        for depth, rows in ((row_words, words // row_words), (words % row_words, 1)):
            if depth and rows:
                count = rows * config.columns
                found.append(
                    Memory(unit=unit, name="column", words=depth, width=width, count=count, two_ports=two_ports)
                )
    return found


def _compute(config: AcceleratorConfig) -> list[Memory]:
    """Of array, requantiser parameters, engine and write-back."""
    numerics, r, sets = config.numerics, config.requantise_lanes, config.entries_per_chunk
    kept = numerics.bias.width + numerics.multiplier_width + numerics.shift_width
    steps = max(4, WAIT_CYCLES * r // config.elements)
    return [
        Memory(
            unit="array", name="bank", words=config.bank_words, width=lanes_layout(config).size, count=config.elements
        ),
        Memory(
            unit="array",
            name="gathered",
            words=config.elements // config.exponential_lanes,
            width=config.exponential_lanes * lanes_layout(config).size,
            asynchronous=True,
        ),
        Memory(unit="parameters", name="part", words=config.parameter_entries // r, width=kept * sets, count=r // sets),
        Memory(unit="engine", name="lookup", words=QueueLookup.DEPTH - 1, width=looked_up_layout(config).size),
        Memory(unit="writeback", name="recipes", words=steps, width=recipe_layout(config).size, asynchronous=True),
        Memory(
            unit="writeback", name="destinations", words=steps, width=destination_layout(config).size, asynchronous=True
        ),
        _table("writeback", "gelu", gelu_delta_table(), count=r),
    ]


def _nonlinear(config: AcceleratorConfig) -> list[Memory]:
    """Of softmax, gate and LayerNorm."""
    lane_bits, tokens = config.numerics.activation_width, config.max_tokens
    shift_bits, words = Numerics.channel_shift_width, MAX_CHANNELS // config.lanes
    found = [
        Memory(unit="softmax", name="scores", words=config.score_words, width=score_word_layout(config).size),
        Memory(unit="softmax", name="queue", words=FIFO_DEPTH - 1, width=config.exponential_lanes * lane_bits),
        _table("softmax", "reciprocal", reciprocal_table()),
        _table("softmax", "exp2", exp2_table(), count=config.exponential_lanes),
        Memory(unit="gate", name="queues", words=config.max_experts * tokens, width=queue_entry_layout(config).size),
        Memory(unit="gate", name="scores", words=2 * config.max_experts, width=Numerics.score.width),
        _table("gate", "reciprocal", reciprocal_table()),
        _table("gate", "exp2", exp2_table()),
        Memory(
            unit="layernorm",
            name="shifts",
            words=MAX_CHANNELS // config.chunk_bytes,
            width=shift_bits * config.chunk_bytes,
        ),
        Memory(unit="layernorm", name="rows", words=LayerNorm.ROWS_AHEAD, width=row_scale_layout(config).size),
        # With a word: its address, and whether it is a row's last.
        Memory(unit="layernorm", name="output", words=queue_depth(config) - 1, width=lanes_layout(config).size + 17),
        _table("layernorm", "root", reciprocal_square_root_table()),
    ]
    if config.layernorm_row_buffer:
        width = residual_lanes_layout(config).size
        found.append(Memory(unit="layernorm", name="buffer", words=LayerNorm.ROWS_AHEAD * words, width=width))
    return found


def _traffic(config: AcceleratorConfig) -> list[Memory]:
    """Of weight stream, image loader, store and read master."""
    bus_bits, queues = 8 * config.memory_bytes, []
    stored_words = ResidualReader.places(config)
    for unit, name, words, width in (
        ("stream", "blocks", WeightStream.JOBS_AHEAD - 1, block_layout(config).size),
        ("image", "tags", ImageLoader.RUNS_AHEAD, run_tag_layout(config).size),
        ("image", "begun", BLOCK_COLUMNS, 8 * config.lanes),
        # Two places are registers.
        *([("store", "words", stored_words, residual_lanes_layout(config).size)] if stored_words > 2 else []),
        ("store", "lengths", WriteMaster.OUTSTANDING, 8),
        ("store", "unanswered", WriteMaster.OUTSTANDING, 32),
        # Which of three clients asked.
        ("read_master", "issued", ReadMaster.OUTSTANDING, 2 + read_request_layout(config).size),
    ):
        queues.append(Memory(unit=unit, name=name, words=words, width=width, asynchronous=True))
    return [
        *queues,
        Memory(unit="stream", name="beats", words=config.stream_beats - 1, width=bus_bits),
        Memory(unit="image", name="beats", words=ImageLoader.BEATS_AHEAD - 1, width=bus_bits),
    ]


def _control(config: AcceleratorConfig) -> list[Memory]:
    """Of sequencer and registers."""
    ring_bits = max(32, 8 * config.memory_bytes)
    shares = len(CycleCause) * SHARE_BITS + (config.max_commands - 1).bit_length() + 1
    return [
        Memory(
            unit="sequencer", name="ring", words=RING_COMMANDS * COMMAND_BITS // ring_bits, width=ring_bits, readers=2
        ),
        Memory(unit="registers", name="stamps", words=config.max_commands, width=32, count=2),
        Memory(unit="registers", name="shares", words=config.max_commands, width=shares),
    ]


def _table(unit: str, name: str, table: PiecewiseTable, count: int = 1) -> Memory:
    """The base and slope of each segment (``hw.blocks.piecewise``)."""
    words = 1 << (len(table.base) - 1).bit_length()
    return Memory(
        unit=unit, name=name, words=words, width=table.base_width + table.slope_width, count=count, constant=True
    )
