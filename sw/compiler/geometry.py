"""Padded sizes of a model on a configuration, and what is cut where its tensors do not fit on chip at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tessera.golden.config import ModelConfig
from tessera.hw.config import AcceleratorConfig


@dataclass(frozen=True)
class Geometry:
    """Sizes of a model on a configuration, in words of T lanes and in tiles of P elements."""

    model: ModelConfig
    config: AcceleratorConfig

    def words(self, channels: int) -> int:
        """Words of a row of ``channels``."""
        return -(-channels // self.config.lanes)

    def tiles(self, rows: int) -> int:
        """Tiles of P rows."""
        return -(-rows // self.config.elements)

    @property
    def patch_words(self) -> int:
        """Words of a patch's pixels."""
        return self.words(self.model.patch_inputs)

    @property
    def dim_words(self) -> int:
        """Words of a token's D channels."""
        return self.words(self.model.dim)

    @property
    def head_words(self) -> int:
        """Words of one head's channels."""
        return self.words(self.model.head_dim)

    @property
    def heads_words(self) -> int:
        """Words of a row of Q, K or the attention output: every head starts at a word."""
        return self.model.heads * self.head_words

    @property
    def token_words(self) -> int:
        """Words of one channel of V transposed."""
        return self.words(self.model.tokens)

    @property
    def hidden_words(self) -> int:
        """Words of a row of the dense MLP's hidden layer."""
        return self.words(self.model.mlp_hidden)

    @property
    def expert_words(self) -> int:
        """Words of a row of an expert's hidden layer."""
        return self.words(self.model.expert_hidden)

    @property
    def gate_channels(self) -> int:
        """Experts padded to whole tiles."""
        return self.tiles(self.model.experts) * self.config.elements

    def output_words(self, task: int) -> int:
        """Words of a row of a task's result."""
        entry = self.model.tasks[task]
        return self.dim_words if entry.kind == "features" else self.words(entry.outputs)

    def head_tokens(self, task: int) -> range:
        """Tokens that a task's head reads."""
        read = self.model.head_tokens(task)
        return range(read.start, read.stop)

    def head_rows(self, task: int) -> int:
        """Tokens of one pass of a head: as many of those it reads as the residual memory holds logits of."""
        return min(len(self.head_tokens(task)), self.config.residual_words // self.output_words(task))


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """What of a frame is on chip at once, where the scratchpad does not hold it all.

    Parameters
    ----------
    head_groups:
        Groups of heads: Q, K and V of one are made and used up before those of the next. Every weight is still read
        once.
    token_blocks:
        Blocks of tokens that go through the dense MLP one after the other. Each reads all of its weights.
    pixels_apart:
        The first LayerNorm waits until the patch embedding has read all pixels, and may take their place.
    """

    head_groups: int = 1
    token_blocks: int = 1
    pixels_apart: bool = False

    def heads(self, geometry: Geometry) -> list[range]:
        """The heads of each group; none has more than the first."""
        return _parts(geometry.model.heads, self.head_groups)

    def tokens(self, geometry: Geometry) -> list[range]:
        """The tokens of each block; none has more than the first."""
        return _parts(geometry.model.tokens, self.token_blocks)

    def describe(self) -> str:
        """The cuts in words."""
        return f"with heads in {self.head_groups} and the dense MLP's tokens in {self.token_blocks} parts"


def _parts(count: int, parts: int) -> list[range]:
    size = -(-count // parts)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def tilings(geometry: Geometry) -> Iterator[Tiling]:
    """Every tiling that differs from the others in its largest part: fewest cuts first, of those cheaper ones."""
    model = geometry.model
    dense = len(model.expert_layers) < model.layers
    cuts = product(_sizes(model.heads), _sizes(model.tokens) if dense else [1], (False, True))
    for groups, blocks, apart in sorted(cuts, key=lambda cut: (sum(cut), cut[1])):
        yield Tiling(head_groups=groups, token_blocks=blocks, pixels_apart=apart)


def _sizes(count: int) -> list[int]:
    """Numbers of parts, each the least for the size of its largest part."""
    return sorted({-(-count // size) for size in range(1, count + 1)})
