"""How many block RAMs of an ECP5 the machine's large memories take: arithmetic, where Yosys needs minutes."""

from __future__ import annotations

from dataclasses import dataclass

from hw.config import AcceleratorConfig
from hw.interfaces import queue_entry, score_word

_SHAPES = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
"""Words and bits of a DP16KD; the last only with one port to write and one to read."""


@dataclass(frozen=True, kw_only=True)
class LargeMemory:
    """``count`` equal memories of a unit; ``two_ports``: both ports write or read, so that no block is 36 bits wide."""

    unit: str
    count: int
    words: int
    width: int
    two_ports: bool = False

    @property
    def blocks(self) -> int:
        """Block RAMs of all of them, in the shape that takes the fewest."""
        shapes = _SHAPES[:-1] if self.two_ports else _SHAPES
        return self.count * min(-(-self.words // depth) * -(-self.width // bits) for depth, bits in shapes)


def large_memories(config: AcceleratorConfig) -> list[LargeMemory]:
    """The memories whose sizes ``config`` decides, by the unit that ``tessera synth`` counts them in.

    Parameters, buffers, tables and time stamps are not among them: 20 blocks more on ``ecp5-85f``.
    """
    column, columns, numerics = config.elements, config.columns, config.numerics
    width = column * numerics.activation_width
    return [
        LargeMemory(unit="scratchpad", count=columns, words=config.scratchpad_words, width=width, two_ports=True),
        LargeMemory(
            unit="residual", count=columns, words=config.residual_words, width=column * numerics.residual_width
        ),
        LargeMemory(
            unit="array", count=column, words=config.bank_words, width=config.lanes * numerics.activation_width
        ),
        LargeMemory(unit="softmax", count=1, words=config.score_words, width=score_word(config).size),
        LargeMemory(unit="gate", count=1, words=config.max_experts * config.max_tokens, width=queue_entry(config).size),
    ]
