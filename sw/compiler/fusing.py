"""Segments that go together: a stream that only they use is then never stored.

Blocks of the whole must not make much more than there is: rows around a block, and rows that all blocks need, are made
again in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tessera.sw.compiler.blocks import most_blocks, targets_of
from tessera.sw.compiler.demand import demanded
from tessera.sw.compiler.segments import Segment, segment_of, segments
from tessera.sw.compiler.sizes import Sizes

_BLOCKS = 4
_MOST = 1.2
"""Of what there is, how much that many blocks of segments that go together may make."""
_ENOUGH = 14
"""Blocks that segments that go together must be able to make, if one of them alone can."""
_LONGEST = 4
"""Segments that go together at most."""


def fused(sizes: Sizes) -> list[Segment]:
    """The segments of a network, of which those with streams of their own go together."""
    plan, parts = sizes.plan, segments(sizes)
    rows = {step.name: step.rows for step in plan.steps}
    channels = {step.name: step.channels for step in plan.steps}
    groups = [[number] for number in range(len(parts))]
    for first, last in _lives(parts):
        inside = [group for group in groups if group[-1] >= first and group[0] <= last]
        together = [number for group in inside for number in group]
        if len(inside) < 2 or len(together) > _LONGEST or any(parts[number].whole for number in together):
            continue
        whole = segment_of(plan, _steps(parts, together))
        single = [segment_of(plan, _steps(parts, group)) for group in inside]
        grows = max(1.0, *(_grows(one, rows, channels) for one in single))
        finest = max(most_blocks(one, rows) for one in single)
        if _grows(whole, rows, channels) <= _MOST * grows and most_blocks(whole, rows) >= min(finest, _ENOUGH):
            groups = sorted([group for group in groups if group not in inside] + [together])
    return [segment_of(plan, _steps(parts, group)) for group in groups]


def _steps(parts: Sequence[Segment], group: Sequence[int]) -> range:
    first = sum(len(part.steps) for part in parts[: group[0]])
    return range(first, first + sum(len(parts[number].steps) for number in group))


def _lives(parts: Sequence[Segment]) -> list[tuple[int, int]]:
    """First and last segment of every stream that is not a result, shortest first."""
    found: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        for stream in part.live:
            found[stream] = (found.get(stream, (number, number))[0], number)
    kept = parts[-1].kept
    return sorted((life for stream, life in found.items() if stream not in kept), key=lambda life: life[1] - life[0])


def _grows(segment: Segment, rows: Mapping[str, int], channels: Mapping[str, int]) -> float:
    """How much a segment makes in blocks, of what it makes as a whole."""
    steps = (*segment.again, *segment.steps)
    names = [step.name for step in segment.steps]
    made = [demanded(steps, target) for target in targets_of(segment, rows, _BLOCKS)]
    whole = sum(rows[name] * channels[name] for name in names)
    return sum(len(need[name]) * channels[name] for need in made for name in names if name in need) / whole
