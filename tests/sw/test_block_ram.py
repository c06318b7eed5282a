"""Block RAMs by arithmetic are those that Yosys counts, of memories that have the sizes of the RTL's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from amaranth.back import rtlil

from hw.compute.bank import StationaryBanks
from hw.config import preset
from hw.memory.residual import ResidualMemory
from hw.memory.scratchpad import Scratchpad
from hw.nonlinear.score_buffer import ScoreBuffer
from hw.nonlinear.token_queues import TokenQueues
from sw.synthesis.block_ram import LargeMemory, large_memories

UNITS = {
    "scratchpad": Scratchpad,
    "residual": ResidualMemory,
    "array": StationaryBanks,
    "softmax": ScoreBuffer,
    "gate": TokenQueues,
}
TABLES = {"softmax": 1, "gate": 1}
"""Tables that the unit has besides."""


@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("unit", UNITS)
def test_sizes_are_the_rtls(unit: str, width: int) -> None:
    config = preset("tiny").with_activation_width(width)
    memory = next(memory for memory in large_memories(config) if memory.unit == unit)
    declared = re.findall(r"^\s*memory width (\d+) size (\d+) ", rtlil.convert(UNITS[unit](config)), re.MULTILINE)
    assert declared == [(str(memory.width), str(memory.words))] * memory.count


@pytest.mark.parametrize(("name", "column"), [("ecp5-wide", 4), ("tiny", 8)])
def test_blocks_are_those_that_yosys_counted(name: str, column: int) -> None:
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    counted = {line[0]: int(line[column]) for line in lines if len(line) == 9 and line[0] in UNITS}
    blocks = {memory.unit: memory.blocks + TABLES.get(memory.unit, 0) for memory in large_memories(preset(name))}
    assert blocks == counted


@pytest.mark.parametrize(
    ("words", "width", "two_ports", "blocks"),
    [
        (1024, 18, True, 1),
        (1025, 18, True, 2),
        (512, 36, False, 1),
        (512, 36, True, 2),
        (16384, 1, True, 1),
        (10240, 96, True, 55),  # measured with Yosys, as are the next two: ecp5-wide with 12-bit activations
        (2048, 160, False, 18),
        (512, 192, False, 6),
    ],
)
def test_the_best_shape_is_taken(words: int, width: int, two_ports: bool, blocks: int) -> None:
    assert LargeMemory(unit="any", count=3, words=words, width=width, two_ports=two_ports).blocks == 3 * blocks
