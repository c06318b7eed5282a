"""The place of everything on chip: the fewest cuts with which a network fits a machine, and why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tessera.golden.integer.plan import plan
from tessera.golden.integer.steps import AttentionStep
from tessera.golden.network.network import Network
from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import PRESETS
from tessera.sw.compiler.allocation import Allocation, Buffer, buffers, in_use
from tessera.sw.compiler.blocks import Uncuttable, most_blocks
from tessera.sw.compiler.context import Context
from tessera.sw.compiler.cuts import Cut, Cuts, sizes
from tessera.sw.compiler.fusing import fused
from tessera.sw.compiler.limits import exceeded, others
from tessera.sw.compiler.lowering import lower
from tessera.sw.compiler.operations import MachineOperation
from tessera.sw.compiler.order import Schedule, schedule
from tessera.sw.compiler.segments import Segment, segments
from tessera.sw.compiler.sizes import Sizes

_SPACES = ("scratchpad", "residual", "memory")


class CapacityError(ValueError):
    """The model does not fit the configuration's memories; the message lists sizes and the way out."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A network's operations with the places of their regions.

    Parameters
    ----------
    context:
        What was lowered.
    places:
        The operations of each segment.
    schedule:
        When each operation runs.
    tables:
        Regions with their lives, by memory.
    allocations:
        Their addresses, by memory.
    """

    context: Context
    places: list[range]
    schedule: Schedule
    tables: dict[str, list[Buffer]]
    allocations: dict[str, Allocation]

    @property
    def operations(self) -> list[MachineOperation]:
        """What becomes a command, in order."""
        return self.context.operations

    @property
    def bases(self) -> dict[str, int]:
        """First word of every region."""
        return {name: base for made in self.allocations.values() for name, base in made.bases.items()}

    def room(self, space: str) -> int:
        """Words of an on-chip memory."""
        config = self.context.sizes.config
        return config.scratchpad_words if space == "scratchpad" else config.residual_words

    def exceeds(self, space: str) -> bool:
        """Whether an on-chip memory has too few words."""
        return self.allocations[space].peak > self.room(space)

    @property
    def excess(self) -> int:
        """Words in use beyond what the on-chip memories have."""
        return sum(max(0, self.allocations[space].peak - self.room(space)) for space in ("scratchpad", "residual"))

    def problems(self) -> list[str]:
        """One line for every limit that the network exceeds; empty if it fits."""
        network = self.context.network
        lines = [
            f"{what}: needs {self.allocations[space].peak}, has {self.room(space)} ({space}_words)"
            for space, what in (("scratchpad", "scratchpad words"), ("residual", "residual stream in words"))
            if self.exceeds(space)
        ]
        lines += [str(need) for need in exceeded(network, self.context.sizes)]
        return lines + others(network, self.context.sizes)

    def check(self) -> None:
        """Raise CapacityError if the model does not fit; it lists regions and the nearest preset that would do."""
        problems = self.problems()
        if not problems:
            return
        config, network = self.context.sizes.config, self.context.network
        kinds: dict[str, int] = {}
        for buffer in self.tables["scratchpad"]:
            name = buffer.region.name.partition("@")[0]  # of all blocks
            kinds[name] = max(kinds.get(name, 0), buffer.words)
        by_size = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
        listing = [f"  {name}: {words} words" for name, words in by_size[:_LISTED]]
        if len(by_size) > _LISTED:
            listing.append(f"  and {len(by_size) - _LISTED} smaller ones")
        cuts = "" if self.context.cuts.none else f" {self.context.cuts.describe()}"
        raise CapacityError(
            "\n".join(
                [
                    f"model '{network.name}' does not fit configuration '{config.name}':",
                    *(f"  {line}" for line in problems),
                    f"scratchpad buffers{cuts}, not all in use at once (words of {config.lanes} lanes):",
                    *listing,
                    self._way_out(),
                ]
            )
        )

    def _way_out(self) -> str:
        config = self.context.sizes.config
        size = config.elements * config.lanes
        for candidate in sorted(PRESETS.values(), key=lambda preset: abs(preset.elements * preset.lanes - size)):
            sized = replace(candidate, numerics=config.numerics)
            if not fit(self.context.network, sized).problems():
                return f"nearest preset that fits: '{candidate.name}'"
        return "no preset fits; enlarge the named fields of AcceleratorConfig, or choose a smaller model"

    # What is to be cut ------------------------------------------------------------------------------------------------

    def crowded(self, space: str) -> dict[int, float]:
        """Segments during which more is in use than a memory has, and how many times as much."""
        times = self._times()
        found: dict[int, float] = {}
        for task in {task for buffer in self.tables[space] for task in buffer.lives}:
            used = in_use(self.tables[space], task)
            for number, (begin, end) in times[task].items():
                # What was in use before a segment still is when it begins.
                before = [words for time, words in used if time <= begin][-1:]
                most = max((*before, *(words for time, words in used if begin <= time <= end)), default=0)
                found[number] = max(found.get(number, 0.0), most / self.room(space))
        return {number: share for number, share in found.items() if share > 1} or self._scattered(space)

    def _scattered(self, space: str) -> dict[int, float]:
        """Segments in which regions lie beyond a memory's end, though no more is in use at once than it has."""
        times = self._times()
        found: dict[int, float] = {}
        bases = self.allocations[space].bases
        for buffer in self.tables[space]:
            if bases[buffer.region.name] + buffer.words > self.room(space):
                for task, (first, last) in buffer.lives.items():
                    found |= {n: 1.01 for n, (begin, end) in times[task].items() if begin <= last and first <= end}
        return found

    def _times(self) -> list[dict[int, tuple[int, int]]]:
        """For each task the first and last time of every segment, as lives count them."""
        found = []
        for times in self.schedule.times:
            spans: dict[int, tuple[int, int]] = {}
            for number, place in enumerate(self.places):
                inside = [times[index] for index in place if index in times]
                if inside:
                    spans[number] = (inside[0], inside[-1] + 1)
            found.append(spans)
        return found


_LISTED = 12
"""Regions that a message lists."""


def fit(network: Network, config: AcceleratorConfig) -> Fit:
    """A network on a machine: with few cuts that fit, or, if none do, with those that need the least."""
    made = Sizes(plan(network), config)
    together = fused(made)
    whole = _cut(network, made, together, Cuts(segments=(Cut(),) * len(together)))
    assert whole is not None
    if exceeded(network, made) or others(network, made):
        return whole
    best = _refined(whole)
    for parts in (together, segments(made)):
        if not best.exceeds("residual"):
            break
        cuts = Cuts(segments=(Cut(),) * len(parts), streams_outside=True, in_pieces=True)
        found = _cut(network, made, parts, cuts)
        if found is not None:
            best = min(best, _refined(found), key=lambda one: one.excess)
    return best


def _refined(best: Fit) -> Fit:
    """A network with finer and finer cuts until it fits, needs no less, or has more commands than a machine stamps."""
    least, tried, most = best.excess, 0, best.context.sizes.config.max_commands
    while best.excess and tried < _TRIALS and len(best.operations) <= most:
        found = _finer(best, next(space for space in ("residual", "scratchpad") if best.exceeds(space)))
        if found is None:
            return best
        best, tried = found, tried + 1
        if best.excess <= least * _LESS:
            least, tried = best.excess, 0
    return best


_TRIALS, _LESS = 12, 0.9
"""Cuts that are tried at most until there is so much less excess."""


def _finer(known: Fit, space: str) -> Fit | None:
    """A network with finer cuts where a memory has too few words; None if there are none."""
    context = known.context
    crowded = known.crowded(space)
    if space == "scratchpad" and not context.cuts.pixels_apart and min(crowded, default=2) < 2:
        return _cut(context.network, context.sizes, context.segments, replace(context.cuts, pixels_apart=True))
    if space == "residual" and not context.cuts.streams_outside:
        return _cut(context.network, context.sizes, context.segments, replace(context.cuts, streams_outside=True))
    some, changed = list(context.cuts.segments), False
    for number, share in crowded.items():
        following = next(_next(context, context.segments[number], some[number], space, share), None)
        if following is not None:
            some[number], changed = following, True
    if not changed:
        return None
    return _cut(context.network, context.sizes, context.segments, replace(context.cuts, segments=tuple(some)))


def _next(context: Context, segment: Segment, known: Cut, space: str, share: float) -> Iterator[Cut]:
    """Finer cuts of a segment, the next ones first."""
    heads = max((step.heads for step in segment.steps if isinstance(step, AttentionStep)), default=1)
    windows = max((step.windows for step in segment.steps if isinstance(step, AttentionStep)), default=0)
    rows = {step.name: step.rows for step in context.sizes.plan.steps}
    groups = [count for count in sizes(heads) if count > known.head_groups]
    blocks = [count for count in sizes(most_blocks(segment, rows)) if count > known.blocks]
    likely = [count for count in blocks if count <= known.blocks * share]
    finer = [replace(known, blocks=count) for count in (likely[-1:] + [c for c in blocks if c not in likely])]
    if space == "scratchpad":
        fewer = [replace(known, head_groups=count) for count in groups]
        if known.blocks == 1 and windows:
            yield from fewer
            yield from finer
            return
        yield from finer
        yield from fewer
        return
    yield from finer
    if known.ahead:
        yield replace(known, ahead=False)


def _cut(network: Network, padded: Sizes, pieces: list[Segment], cuts: Cuts) -> Fit | None:
    """A network with some cuts; None where blocks cannot be made so."""
    context = Context(network=network, sizes=padded, segments=pieces, cuts=cuts)
    try:
        places = lower(context)
    except Uncuttable:
        return None
    made = schedule(context.operations, len(network.tasks))
    table = buffers(context.regions, made.lives)
    tables = {space: [buffer for buffer in table if buffer.region.space == space] for space in _SPACES}
    allocations = {space: Allocation.of(some) for space, some in tables.items()}
    return Fit(context=context, places=places, schedule=made, tables=tables, allocations=allocations)
