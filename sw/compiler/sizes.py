"""Padded sizes on a configuration: rows in words of T lanes, outputs in tiles of P elements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import AttentionStep, ProductStep, RowSelection, Step
from tessera.hw.config import AcceleratorConfig


@dataclass(frozen=True)
class Sizes:
    """How rows of a network's tensors are padded on a configuration.

    A row of queries, keys or attention results has every head at a word of its own; other rows are padded at their end.
    """

    plan: Plan
    config: AcceleratorConfig

    def words(self, channels: int) -> int:
        """Words of ``channels`` without heads."""
        return -(-channels // self.config.lanes)

    def channels(self, channels: int) -> int:
        """``channels`` padded to whole words."""
        return self.words(channels) * self.config.lanes

    def tiles(self, rows: int) -> int:
        """``rows`` padded to whole tiles of P."""
        return -(-rows // self.config.elements) * self.config.elements

    def block(self, name: str) -> int | None:
        """Channels of a head of a tensor whose heads start at a word of their own; None for others."""
        step = self.plan.by_name[name]
        if isinstance(step, AttentionStep):
            return step.channels // step.heads
        for reader in self.plan.readers[name]:
            if isinstance(reader, AttentionStep):
                return step.channels // reader.heads
        return None

    def unsigned(self, name: str) -> bool:
        """Whether a tensor's integers are unsigned: pixels, and what functions leave."""
        return self.plan.by_name[name].positive

    def row_words(self, name: str) -> int:
        """Words of a row of a tensor."""
        channels, block = self.plan.by_name[name].channels, self.block(name)
        return self.words(channels) if block is None else channels // block * self.words(block)

    def whole_words(self, name: str) -> bool:
        """Whether rows of a tensor have no padding."""
        return self.row_words(name) * self.config.lanes == self.plan.by_name[name].channels

    def parts_are_rows(self, step: ProductStep) -> bool:
        """Whether the machine takes the parts of folded rows as rows: each goes through the matrix, in whole words."""
        result = step.name in {rows.tensor for rows in self.plan.results}
        return step.apart and not result and self.whole_words(step.source.tensor)

    def copied(self, steps: Iterable[Step]) -> frozenset[RowSelection]:
        """Listed rows that are copied in their order, because one of ``steps`` needs them one after another.

        Such are values, which are held, and several rows as one. All products then read the copy.
        """
        held = {step.value.tensor for step in self.plan.of_kind(AttentionStep)}
        return frozenset(
            replace(step.source, fold=1)
            for step in steps
            if isinstance(step, ProductStep)
            and step.source.listed is not None
            and (step.swapped or step.name in held or (step.source.fold > 1 and not self.parts_are_rows(step)))
        )

    def output_words(self, step: Step) -> int:
        """Words of a row of a result."""
        return self.words(step.channels)
