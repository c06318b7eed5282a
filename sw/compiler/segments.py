"""Segments: runs of steps between which nothing but the residual streams is kept.

A segment can go through its steps in blocks of rows, one block after the other, because nothing that it makes on the
way is read by another. Streams may then wait in external memory. A norm is cheap: whoever reads it in a later segment
makes its rows again. Activations that several steps read, as if they were a stream, stay on chip whole if they are
small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tessera.golden.integer.plan import Plan
from tessera.golden.integer.steps import ExpertsStep, NormStep, ProductStep, Step, StreamStep
from tessera.sw.compiler.sizes import Sizes


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Steps that can go in blocks of rows.

    Parameters
    ----------
    steps:
        In order.
    again:
        Norms of earlier segments that some of them read.
    targets:
        The streams that it leaves for others: the last step that adds to each; and the activations.
    live:
        Streams that it touches or that are kept meanwhile, by the step that begins each: the step whose tensor each is
        at first.
    kept:
        Those of them that later segments or the results need.
    activations:
        Activations that later segments read.
    results:
        Those of its steps that are nothing but a task's result, of which each block is stored as it is made.
    """

    steps: tuple[Step, ...]
    again: tuple[NormStep, ...] = ()
    targets: tuple[str, ...] = ()
    live: Mapping[str, str] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    activations: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether some step needs all rows at once: a mixture, or one that makes channels of rows, or rows of parts."""
        return any(
            isinstance(step, ExpertsStep)
            or getattr(step, "swapped", False)
            or (isinstance(step, NormStep) and step.source.split > 1)
            for step in self.steps
        )


def streams(plan: Plan) -> dict[str, str]:
    """The step that begins the stream of each tensor that has the residual stream's format."""
    found: dict[str, str] = {}
    for step in plan.steps:
        if in_stream(step):
            onto = step.onto if isinstance(step, (ProductStep, ExpertsStep)) else None
            found[step.name] = step.name if onto is None else found[onto.tensor]
    return found


def in_stream(step: Step) -> bool:
    """Whether a step's tensor lies in the residual memory."""
    return isinstance(step, (StreamStep, ExpertsStep)) or (isinstance(step, ProductStep) and step.residual)


def is_result(plan: Plan, step: Step) -> bool:
    """Whether a step is nothing but a task's result."""
    if not isinstance(step, ProductStep) or not step.residual or step.onto is not None or plan.readers[step.name]:
        return False
    results = [rows for rows in plan.results if rows.tensor == step.name]
    return bool(results) and all(len(rows) == plan.by_name[step.name].rows for rows in results)


def segments(sizes: Sizes) -> list[Segment]:
    """The shortest segments of a network."""
    plan = sizes.plan
    begun, small = streams(plan), _small(sizes)
    found, first = [], 0
    for index in range(len(plan.steps)):
        if index + 1 == len(plan.steps) or _apart(plan, begun, small, index + 1):
            found.append(range(first, index + 1))
            first = index + 1
    return [segment_of(plan, part) for part in found]


def _reads(steps: Sequence[Step]) -> set[str]:
    return {rows.tensor for step in steps for rows in step.reads}


def _small(sizes: Sizes) -> set[str]:
    """Activations that can stay on chip whole, of those that several steps read."""
    plan, most = sizes.plan, sizes.config.scratchpad_words // _SHARE
    return {
        step.name
        for step in plan.of_kind(ProductStep)
        if not step.residual and len(plan.readers[step.name]) > 1 and step.rows * sizes.row_words(step.name) <= most
    }


_SHARE = 4
"""Part of the scratchpad that such an activation may take."""


def _apart(plan: Plan, begun: Mapping[str, str], small: set[str], cut: int) -> bool:
    """Whether a segment may end before step ``cut``: all that is kept are streams, norms that can be made again, and
    small activations.
    """
    before, behind = plan.steps[:cut], plan.steps[cut:]
    if before[-1].name not in small and (not in_stream(before[-1]) or isinstance(before[-1], StreamStep)):
        return False
    kept, place = _reads(behind), {step.name: number for number, step in enumerate(plan.steps)}
    for step in before:
        if step.name not in kept or in_stream(step) or step.name in small:
            continue
        if not isinstance(step, NormStep) or step.wide:
            return False
        stream, made = begun[step.source.tensor], place[step.name]
        last = max(number for number, reader in enumerate(plan.steps) if step.name in _reads([reader]))
        if any(begun.get(other.name) == stream for other in plan.steps[made + 1 : last]):
            return False
    return True


def segment_of(plan: Plan, part: range) -> Segment:
    """The segment of some steps, by their places."""
    begun = streams(plan)
    steps, behind = plan.steps[part.start : part.stop], plan.steps[part.stop :]
    mine = {step.name for step in steps}
    outside = _reads(steps) - mine
    again = tuple(step for step in plan.steps[: part.start] if step.name in outside and isinstance(step, NormStep))
    later = _reads(behind) | {rows.tensor for rows in plan.results}
    # A norm that is made again reads its stream again.
    later |= {step.source.tensor for step in plan.steps if isinstance(step, NormStep) and step.name in _reads(behind)}
    kept = {begun[name] for name in later if name in begun}
    last = {begun[step.name]: step.name for step in steps if in_stream(step)}
    latest = {begun[step.name]: step.name for step in plan.steps[: part.stop] if in_stream(step)}
    touched = {begun[name] for name in mine | outside | _reads(again) if name in begun}
    known = set(latest)
    activations = [
        step.name
        for step in steps
        if isinstance(step, ProductStep) and not step.residual and step.name in _reads(behind)
    ]
    return Segment(
        steps=steps,
        again=again,
        targets=(*activations, *(last[stream] for stream in last if stream in kept)),
        activations=frozenset(activations),
        live={stream: latest[stream] for stream in latest if stream in touched | (kept & known)},
        kept=frozenset(kept & known),
        results=frozenset(step.name for step in steps if is_result(plan, step)),
    )
