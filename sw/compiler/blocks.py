"""Blocks: a part of a segment's rows as a small network, whose steps count rows from the first that is on chip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import gcd

import numpy as np

from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    RowSelection,
    Step,
)
from tessera.sw.compiler.cuts import parts
from tessera.sw.compiler.demand import Demand, demanded, first_row, input_lines, own, picked
from tessera.sw.compiler.segments import Segment

_RUNS = 2
"""Runs of rows that a block of a stream in external memory may have: each is loaded and stored by its own command."""


class Uncuttable(ValueError):
    """A segment cannot go in such blocks."""


@dataclass(frozen=True, kw_only=True)
class RowBlock:
    """Some rows of a segment.

    Parameters
    ----------
    steps:
        The segment's, each with the rows that the block makes; rows are counted from the first that is on chip.
    held:
        For each tensor, the rows that are on chip, in order; not there for a tensor of which all are.
    made:
        For each tensor, the rows that the block makes.
    tag:
        What is appended to names of regions that only this block uses; empty for the one block of a segment.
    lasting:
        Tensors whose regions are the whole segment's.
    done:
        Those of them that an earlier block has made.
    places:
        For each tensor that begins a stream, the first row of its region that the block makes.
    names:
        Region of each tensor whose region has another name.
    """

    steps: tuple[Step, ...]
    held: Mapping[str, np.ndarray] = field(default_factory=dict)
    made: Mapping[str, np.ndarray] = field(default_factory=dict)
    tag: str = ""
    lasting: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    places: Mapping[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """The block's steps by name."""
        return {step.name: step for step in self.steps}

    def rows(self, name: str, first: int, count: int) -> np.ndarray:
        """Golden rows of some that are on chip."""
        held = self.held.get(name)
        return np.arange(first, first + count) if held is None else held[first : first + count]


def whole_block(segment: Segment, again: tuple[NormStep, ...]) -> RowBlock:
    """All rows of a segment, with the norms that it makes ``again``."""
    return RowBlock(steps=(*again, *segment.steps))


def cut(segment: Segment, rows: Mapping[str, int], count: int, outside: frozenset[str], number: int) -> list[RowBlock]:
    """A segment in so many blocks, or fewer.

    Parameters
    ----------
    segment:
        The segment.
    rows:
        Rows of every tensor.
    count:
        Blocks at most.
    outside:
        Streams that wait in external memory; the others lie on chip whole.
    number:
        Of the segment, for the names of regions.

    Raises
    ------
    Uncuttable
        If rows of a block do not follow each other where they must.
    """
    begun = _streams(segment, (*segment.again, *segment.steps))
    lasting, needs = _needs(segment, rows, count, outside)
    of_segment = lasting | segment.activations | {name for name, stream in begun.items() if stream not in outside}
    made = {step.name for step in (*segment.again, *segment.steps)}
    done: frozenset[str] = frozenset()
    blocks = []
    for index, (left, need) in enumerate(needs):
        held = _held(need, begun, outside, rows)
        on_chip = [name for name in need if name not in begun and (name not in made or name in done)]
        held |= {name: np.arange(rows[name]) for name in (*on_chip, *segment.activations) if name in need}
        local = [_local(step, need, held) for step in left if _makes(step, need)]
        blocks.append(
            RowBlock(
                steps=tuple(local),
                held=held,
                made=need,
                tag=f"@{number}.{index}",
                lasting=frozenset(of_segment),
                done=done,
                places={step.name: _following(step, _place(held[step.name], need[step.name])) for step in local},
            )
        )
        done = lasting
    return blocks


def _needs(
    segment: Segment, rows: Mapping[str, int], count: int, outside: frozenset[str]
) -> tuple[frozenset[str], list[tuple[list[Step], Demand]]]:
    """Tensors that the first block makes for all, and the steps and rows of each block."""
    steps = [*segment.again, *segment.steps]
    begun = _streams(segment, steps)
    targets = _targets(segment, steps, rows, count, outside, begun)
    all_of_each = [demanded(steps, target) for target in targets]
    lasting = frozenset(
        name
        for name in all_of_each[0]
        if len(targets) > 1
        and name not in begun
        and all(name in need and len(need[name]) == rows[name] for need in all_of_each)
    )
    left = [step for step in steps if step.name not in lasting]
    first = (steps, all_of_each[0])
    return lasting, [first, *((left, demanded(left, target)) for target in targets[1:])]


def targets_of(segment: Segment, rows: Mapping[str, int], count: int) -> list[dict[str, np.ndarray]]:
    """Rows of a segment's targets in each of so many blocks."""
    steps = (*segment.again, *segment.steps)
    return _targets(segment, steps, rows, count, frozenset(), _streams(segment, steps))


def most_blocks(segment: Segment, rows: Mapping[str, int]) -> int:
    """Blocks that a segment can be cut into at most, each of which makes something else."""
    if segment.whole:
        return 1
    steps = (*segment.again, *segment.steps)
    targets = segment.targets or (segment.steps[-1].name,)
    windows = _windows(steps, targets[-1], rows)
    if windows is not None:
        return int(windows.max()) + 1
    return gcd(*(rows[name] // _columns(steps, name, rows) for name in targets))


def overlapping(segment: Segment, rows: Mapping[str, int], count: int) -> frozenset[str]:
    """Streams of which a block reads rows that a block before it has changed."""
    begun = _streams(segment, (*segment.again, *segment.steps))
    changed: Demand = {}
    found = set()
    for _, need in _needs(segment, rows, count, frozenset())[1]:
        for name, stream in begun.items():
            if name in need and np.intersect1d(need[name], changed.get(stream, np.arange(0))).size:
                found.add(stream)
        for name in segment.targets:
            if name in begun and name in need:
                some = need[name]
                changed[begun[name]] = np.union1d(changed.get(begun[name], some[:0]), some)
    return frozenset(found)


def _streams(segment: Segment, steps: Sequence[Step]) -> dict[str, str]:
    """Stream of every tensor in the residual's format that a segment touches, by the name of what begins it."""
    found = {latest: stream for stream, latest in segment.live.items()}
    found |= {stream: stream for stream in segment.live}
    found = {name: stream for name, stream in found.items() if name not in segment.results}
    for step in reversed(steps):
        if step.name in found and isinstance(step, (ProductStep, ExpertsStep)) and step.onto is not None:
            found[step.onto.tensor] = found[step.name]
    return found


def _held(need: Demand, begun: Mapping[str, str], outside: frozenset[str], rows: Mapping[str, int]) -> Demand:
    """Rows that are on chip: those that are needed, or all."""
    held = {name: some for name, some in need.items() if name not in begun}
    of_stream: Demand = {}
    for name, some in need.items():
        if name in begun:
            known = of_stream.get(begun[name])
            of_stream[begun[name]] = some if known is None else np.union1d(known, some)
    for name in need:
        if name in begun:
            held[name] = of_stream[begun[name]] if begun[name] in outside else np.arange(rows[name])
    return held


# How rows are divided ----------------------------------------------------------------------------------------------


def _targets(
    segment: Segment,
    steps: Sequence[Step],
    rows: Mapping[str, int],
    count: int,
    outside: frozenset[str],
    begun: Mapping[str, str],
) -> list[dict[str, np.ndarray]]:
    """Rows of the segment's targets in each block."""
    targets = segment.targets or (segment.steps[-1].name,)
    if count == 1:
        return [{name: np.arange(rows[name]) for name in targets}]
    windows = _windows(steps, targets[-1], rows)
    if windows is not None:
        most = int(windows.max()) + 1
        size = -(-most // count)
        streams = [name for name in targets if begun.get(name) in outside]
        while size > 1 and streams and _runs(windows, size) > _RUNS:
            size -= 1
        groups = [range(first, min(first + size, most)) for first in range(0, most, size)]
        divided = [np.flatnonzero((windows >= group.start) & (windows < group.stop)) for group in groups]
        return [{name: divided[index] for name in targets} for index in range(len(groups))]
    lines = {name: rows[name] // _columns(steps, name, rows) for name in targets}
    shared = gcd(*lines.values())
    return [
        {name: np.arange(part.start * rows[name] // shared, part.stop * rows[name] // shared) for name in targets}
        for part in parts(shared, count)
    ]


def _runs(windows: np.ndarray, size: int) -> int:
    """Runs of rows, one after another, of groups of so many windows at most."""
    group = windows // size
    starts = np.flatnonzero(np.diff(group)) + 1
    return int(np.bincount(np.concatenate([group[:1], group[starts]])).max())


def _columns(steps: Sequence[Step], target: str, rows: Mapping[str, int]) -> int:
    """Rows of a line of the target's map; 1 where nothing needs lines."""
    for step in reversed(steps):
        if isinstance(step, ProductStep) and step.taps is not None:
            if step.taps.made[0] * step.taps.made[1] == rows[target]:
                return step.taps.made[1] * (2 if step.taps.enlarges else 1)
            if step.taps.size[0] * step.taps.size[1] == rows[target]:
                return step.taps.size[1]
        if isinstance(step, PatchStep) and step.grid[0] * step.grid[1] == rows[target]:
            return step.grid[1]
    return 1


def _windows(steps: Sequence[Step], target: str, rows: Mapping[str, int]) -> np.ndarray | None:
    """Window of the segment's attention that each row of the target is made of; None if there is no such thing."""
    found: dict[str, np.ndarray] = {}
    for step in steps:
        match step:
            case AttentionStep() if step.windows > 1:
                found = {step.name: np.arange(step.rows) // (step.rows // step.windows)}
            case NormStep() if step.source.tensor in found and step.source.plain:
                found[step.name] = found[step.source.tensor][step.source.rows]
            case ProductStep() if step.source.tensor in found:
                if step.swapped or step.taps is not None:
                    continue
                count = step.rows if step.onto is None else len(step.onto)
                parts_of = found[step.source.tensor][picked(step.source, np.arange(count))].reshape(count, -1)
                if (parts_of != parts_of[:, :1]).any():
                    continue
                found[step.name] = parts_of[:, 0]
                if step.onto is not None and count != step.rows:
                    del found[step.name]
            case ProductStep() if step.onto is not None and step.onto.tensor in found:
                found[step.name] = found[step.onto.tensor]
    return found.get(target)


# Steps of a block ---------------------------------------------------------------------------------------------------


def _place(held: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where rows lie among those that are on chip."""
    return np.searchsorted(held, rows)


def _following(step: Step, places: np.ndarray) -> int:
    """The first of places that follow each other."""
    if len(places) and (np.diff(places) != 1).any():
        raise Uncuttable(f"{step.name} in blocks needs rows that do not follow each other")
    return int(places[0]) if len(places) else 0


def _selected(rows: RowSelection, places: np.ndarray) -> RowSelection:
    """A selection of rows at some places."""
    if (np.diff(places) == 1).all():
        first = int(places[0])
        return replace(rows, start=first, stop=first + len(places), listed=None)
    return replace(rows, start=0, stop=len(places), listed=tuple(int(place) for place in places))


def _makes(step: Step, need: Demand) -> bool:
    """Whether a block has work for a step."""
    return step.name in need and len(own(step, need[step.name])) > 0


def _local(step: Step, need: Demand, held: Demand) -> Step:
    """A step with the rows that a block makes of its tensor."""
    made = need[step.name]
    mine = own(step, made)
    match step:
        case PatchStep():
            return replace(step, rows=len(made), grid=(len(made) // step.grid[1], step.grid[1]))
        case NormStep():
            return replace(step, rows=len(made), source=_rows_on_chip(step, step.source, made, held))
        case ProductStep():
            return _product(step, mine, held)
        case AttentionStep():
            return _attention(step, made, held)
        case ExpertsStep():
            if len(held[step.name]) != step.rows:
                raise Uncuttable(f"{step.name} routes all rows at once")
            return step
    return replace(step, rows=len(made))


def _product(step: ProductStep, mine: np.ndarray, held: Demand) -> ProductStep:
    fields: dict[str, object] = {"rows": len(mine)}
    if step.onto is not None:
        fields["rows"] = len(held[step.name])
        first = _following(step, _place(held[step.name], mine + first_row(step)))
        fields["onto"] = RowSelection(tensor=step.onto.tensor, start=first, stop=first + len(mine))
    of = held[step.source.tensor]
    if step.taps is None:
        fields["source"] = _selected(step.source, _place(of, _sources(step, mine)))
        return replace(step, **fields)  # type: ignore[arg-type]
    columns = step.taps.made[1]
    lines = range(mine[0] // columns, mine[-1] // columns + 1)
    read = input_lines(step, lines)
    size = step.taps.size[1]
    if step.taps.enlarges:
        above = read.start - lines.start // 2
    else:
        above = max(read.start - (lines.start * step.taps.stride[0] - step.taps.padding[0]), 0)
    fields["source"] = _rows_on_chip(step, step.source, np.arange(read.start * size, read.stop * size), held)
    fields["taps"] = replace(
        step.taps, size=(len(read), size), made=(len(lines), columns), padding=(above, step.taps.padding[1])
    )
    return replace(step, **fields)  # type: ignore[arg-type]


def _sources(step: ProductStep, mine: np.ndarray) -> np.ndarray:
    return picked(step.source, np.arange(len(step.source)) if step.swapped else mine)


def _attention(step: AttentionStep, made: np.ndarray, held: Demand) -> AttentionStep:
    queries, keys = step.rows // step.windows, len(step.key) // step.windows
    windows = np.unique(made // queries)
    _following(step, windows)
    of_keys = (windows[:, None] * keys + np.arange(keys)).reshape(-1)
    query, key, value = (
        _rows_on_chip(step, rows, some, held)
        for rows, some in ((step.query, made), (step.key, of_keys), (step.value, of_keys))
    )
    return replace(step, rows=len(made), windows=len(windows), query=query, key=key, value=value)


def _rows_on_chip(step: Step, rows: RowSelection, some: np.ndarray, held: Demand) -> RowSelection:
    """Some of the selected rows, which follow each other on chip."""
    places = _place(held[rows.tensor], picked(rows, some))[:: rows.split]
    first = _following(step, places)
    return RowSelection(tensor=rows.tensor, start=first, stop=first + len(places), split=rows.split)


def runs(rows: np.ndarray) -> Iterator[range]:
    """Runs of places whose rows follow each other."""
    ends = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1), len(rows)]
    for first, stop in zip(ends, ends[1:], strict=False):
        if stop > first:
            yield range(int(first), int(stop))
