"""Segments that go together: a stream that only they use is then never stored.

Blocks of the whole must not make much more than there is: rows around a block, and rows that all blocks need, are made
again in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import AttentionStep, ProductStep, Step
from tessera.sw.compiler.blocks import most_blocks, targets_of
from tessera.sw.compiler.demand import demanded
from tessera.sw.compiler.segments import Segment, segment_of, segments, streams
from tessera.sw.compiler.sizes import Sizes

_BLOCKS = 8
_MOST = 1.2
"""How much work that many blocks of segments that go together may be, of what these are one by one."""
_ENOUGH = 14
"""Blocks that segments that go together must be able to make, if one of them alone can."""
_SHARE = 2
"""Part of the residual memory that streams of the smallest block of such may take."""
_LONGEST = 4
"""Segments that go together at most."""


def fused(sizes: Sizes) -> list[Segment]:
    """The segments of a network, of which those with streams of their own go together."""
    plan, parts = sizes.plan, segments(sizes)
    rows = {step.name: step.rows for step in plan.steps}
    work = {step.name: _work(plan, step) for step in plan.steps}
    groups = [[number] for number in range(len(parts))]
    room = sizes.config.residual_words // _SHARE
    for first, last in _lives(parts):
        inside = [group for group in groups if group[-1] >= first and group[0] <= last]
        together = [number for group in inside for number in group]
        if len(inside) < 2 or len(together) > _LONGEST or any(parts[number].whole for number in together):
            continue
        whole = segment_of(plan, _steps(parts, together))
        single = [segment_of(plan, _steps(parts, group)) for group in inside]
        grows = max(1.0, *(_grows(one, rows, work) for one in single))
        finest = max(most_blocks(one, rows) for one in single)
        if most_blocks(whole, rows) < min(finest, _ENOUGH) or _least(sizes, whole, rows) > room:
            continue
        if _grows(whole, rows, work) <= _MOST * grows:
            groups = sorted([group for group in groups if group not in inside] + [together])
    return [segment_of(plan, _steps(parts, group)) for group in groups]


def _steps(parts: Sequence[Segment], group: Sequence[int]) -> range:
    first = sum(len(part.steps) for part in parts[: group[0]])
    return range(first, first + sum(len(parts[number].steps) for number in group))


def _lives(parts: Sequence[Segment]) -> list[tuple[int, int]]:
    """First and last segment of every stream that is not a result, and the last that changes it; shortest first."""
    found: dict[str, tuple[int, int]] = {}
    changed: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(parts):
        for stream, latest in part.live.items():
            found[stream] = (found.get(stream, (number, number))[0], number)
            if stream not in changed or any(step.name == latest for step in part.steps):
                changed[stream] = found[stream]
    kept = parts[-1].kept
    lives = [life for stream, life in found.items() if stream not in kept]
    return sorted(dict.fromkeys([*lives, *changed.values()]), key=lambda life: life[1] - life[0])


def _least(sizes: Sizes, segment: Segment, rows: Mapping[str, int]) -> int:
    """Words of the streams that a segment makes or adds to which are on chip at once, in its smallest block."""
    begun, targets = streams(sizes.plan), targets_of(segment, rows, most_blocks(segment, rows))
    need = demanded((*segment.again, *segment.steps), targets[len(targets) // 2])
    changed = {begun[step.name] for step in segment.steps if step.name in begun}
    held: dict[str, int] = {}
    for name, some in need.items():
        if begun.get(name) in changed and name not in segment.results:
            words = len(some) * sizes.words(sizes.plan.by_name[name].channels)
            held[begun[name]] = max(held.get(begun[name], 0), words)
    return sum(held.values())


def _work(plan: Plan, step: Step) -> int:
    """Products of a row of a step; of one without any, its channels."""
    match step:
        case ProductStep():
            first, stop = step.inputs or (0, plan.by_name[step.source.tensor].channels * step.operand.fold)
            inputs = stop - first if step.taps is None else (stop - first) // step.taps.groups * step.taps.count
            return inputs * (step.matrix.stop - step.matrix.start)
        case AttentionStep():
            return 2 * step.channels * len(step.key) // step.windows
    return step.channels


def _grows(segment: Segment, rows: Mapping[str, int], work: Mapping[str, int]) -> float:
    """How much work a segment is in blocks, of what it is as a whole."""
    steps = (*segment.again, *segment.steps)
    names = [step.name for step in segment.steps]
    made = [demanded(steps, target) for target in targets_of(segment, rows, _BLOCKS)]
    whole = sum(rows[name] * work[name] for name in names)
    return sum(len(need[name]) * work[name] for need in made for name in names if name in need) / whole
