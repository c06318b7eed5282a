"""What is cut where a network's tensors do not fit on chip at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import AttentionStep, ProductStep


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """What of a frame is on chip at once, where the scratchpad does not hold it all.

    Parameters
    ----------
    head_groups:
        Groups of heads of each attention: Q, K and V of one are made and used up before those of the next. Every weight
        is still read once.
    token_blocks:
        Blocks of tokens that go through a dense MLP one after the other. Each reads all of its weights.
    pixels_apart:
        The first norm waits until the patch embedding has read all pixels, and may take their place.
    """

    head_groups: int = 1
    token_blocks: int = 1
    pixels_apart: bool = False

    def heads(self, attention: AttentionStep) -> list[range]:
        """The heads of each group; none has more than the first."""
        return parts(attention.heads, self.head_groups)

    def tokens(self, rows: int) -> list[range]:
        """The tokens of each block; none has more than the first."""
        return parts(rows, self.token_blocks)

    def describe(self) -> str:
        """The cuts in words."""
        return f"with heads in {self.head_groups} and the dense MLP's tokens in {self.token_blocks} parts"


def parts(count: int, wanted: int) -> list[range]:
    """``count`` things in at most ``wanted`` parts of one size, of which the last may be smaller."""
    size = -(-count // wanted)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def mlps(plan: Plan) -> list[tuple[ProductStep, ProductStep]]:
    """Both products of every MLP: the first goes through a function, and nothing but the second reads it."""
    found = []
    for step in plan.of_kind(ProductStep):
        readers = plan.readers[step.name]
        if step.positive and len(readers) == 1 and isinstance(readers[0], ProductStep):
            second = readers[0]
            if (
                second.onto is not None
                and second.inputs is None
                and second.source.plain
                and step.taps is second.taps is None
                and len(second.source) == step.rows == len(second.onto)
            ):
                found.append((step, second))
    return found


def all_cuts(plan: Plan) -> Iterator[Cuts]:
    """All cuts that differ from the others in their largest part: fewest first, of those cheaper ones."""
    heads = {step.heads for step in plan.of_kind(AttentionStep)} or {1}
    rows = {first.rows for first, _ in mlps(plan)} or {1}
    groups, blocks = (sorted({size for count in counts for size in _sizes(count)}) for counts in (heads, rows))
    for cut in sorted(product(groups, blocks, (False, True)), key=lambda cut: (sum(cut), cut[1])):
        yield Cuts(head_groups=cut[0], token_blocks=cut[1], pixels_apart=cut[2])


def _sizes(count: int) -> set[int]:
    """Numbers of parts, each the least for the size of its largest part."""
    return {-(-count // size) for size in range(1, count + 1)}
