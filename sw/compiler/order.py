"""What each operation must wait for, and how long each region is in use.

The machine hands commands to their units in order, and three things hold without any waiting: a unit does its commands
one after another; when the engine has taken a job, it has read everything for the job before; and it has written
everything for the job before that. Time is even while the engine does a job or other units wait for each other, and odd
after that and before the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tessera.hw.isa import EVERYTHING, Follow, Unit
from tessera.sw.compiler.operations import NOTHING, MachineOperation, Order, RegionAccess

"""A command after nothing starts as soon as its unit takes it."""

_FOLLOWS = {
    Unit.ENGINE: {Unit.ENGINE: Follow.ENGINE, Unit.NORM: Follow.NORM, Unit.IMAGE: Follow.IMAGE},
    Unit.NORM: {Unit.ENGINE: Follow.ENGINE},
    Unit.GATE: {Unit.ENGINE: Follow.ENGINE},
}
"""Whose rows a unit can follow."""

Life = tuple[int, int]
"""First and last time at which a region is in use, both included."""


@dataclass(eq=False)
class _Pending:
    """An operation that may not have finished yet.

    ``follows`` has finished when it has. Its row r comes after row r of each ``in_step``.
    """

    operation: MachineOperation
    follows: list[_Pending] = field(default_factory=list)
    in_step: list[_Pending] = field(default_factory=list)

    @property
    def unit(self) -> Unit:
        assert self.operation.unit is not None
        return self.operation.unit


class _Walk:
    """One task's operations in order, with what is pending at each."""

    def __init__(self) -> None:
        self.time = 0
        self.lives: dict[str, Life] = {}
        self._pending: list[_Pending] = []
        self._latest: dict[Unit, _Pending] = {}

    def visit(self, operation: MachineOperation) -> Order:
        """Order of an operation; regions live from its writes to its reads."""
        unit = operation.unit
        if unit is None:
            return Order()
        if unit == Unit.ENGINE:
            self._take_job()
        mine, follow, after = _Pending(operation), Follow.NOTHING, NOTHING
        needed = [one for one in self._pending if self._conflicts(operation, one)]
        followed = None if operation.alone else self._followed(operation, needed)
        if followed is not None:
            follow = _FOLLOWS[unit][followed.unit]
            # Only who reads all of its rows knows at the end that it has finished.
            if all(operation.reads[0].covers(one) for one in followed.operation.writes if _same(one, operation)):
                mine.follows.append(followed)
            if followed.operation.writes[0].first == operation.reads[0].first:
                mine.in_step = [followed, *followed.in_step]
        for one in needed:
            if one is not followed and not (one in mine.in_step and _only_replaces(operation, one.operation)):
                after |= one.unit
        after = EVERYTHING if operation.alone else after | operation.awaits
        over = self.time - 1 if unit == Unit.ENGINE else self.time + 1
        waited = [one for one in self._pending if one.unit in after]
        if unit != Unit.ENGINE and after & ~Unit.ENGINE:
            self._finish(waited, over)
            self._tick()
        self._use(operation, after)
        self._finish(waited, over)
        if unit != Unit.ENGINE and unit in self._latest:
            self._finish([self._latest[unit]], over)
        self._pending.append(mine)
        self._latest[unit] = mine
        return Order(after=after, follow=follow)

    def _conflicts(self, operation: MachineOperation, one: _Pending) -> bool:
        """Whether one writes what the other touches. Units but the engine settle that among their own commands."""
        other = one.operation
        if operation.unit == other.unit and operation.unit != Unit.ENGINE:
            return False
        touched = other.writes
        # What the engine reads it has read by its next job.
        if one.unit != Unit.ENGINE or (operation.unit != Unit.ENGINE and self._latest[Unit.ENGINE] is one):
            touched = (*touched, *other.reads)
        reads = any(a.overlaps(b) for a in operation.reads for b in other.writes)
        return reads or any(a.overlaps(b) for a in operation.writes for b in touched)

    def _followed(self, operation: MachineOperation, needed: Sequence[_Pending]) -> _Pending | None:
        """The one of ``needed`` whose rows the operation can follow instead of waiting for its end."""
        if not operation.row_by_row:
            return None
        read, known = operation.reads[0], _FOLLOWS.get(operation.unit or NOTHING, {})
        others = (*operation.reads[1:], *operation.writes)
        for one in needed:
            writes = one.operation.writes
            written = [access for access in writes if access.region == read.region]
            alone = not any(a.overlaps(b) for a in others for b in writes)
            # Row r of the reader needs rows up to r of the writer, no others, and replaces none yet to be read.
            in_step = bool(written) and read.first <= written[0].first and one.operation.in_rows
            replaced = [(a, b) for a in operation.writes for b in one.operation.reads if a.overlaps(b)]
            in_step = in_step and all(a.first <= b.first for a, b in replaced)
            if one.unit in known and self._latest.get(one.unit) is one and in_step and alone:
                return one
        return None

    def _take_job(self) -> None:
        """The engine takes a job: it has read all of the one before, and written all of the one before that."""
        self.time += 2
        before = self._latest.get(Unit.ENGINE)
        done = [one for one in self._pending if one.unit == Unit.ENGINE and one is not before]
        if before is not None:
            done += before.follows
            done += [before] if before.operation.settles else []
        self._finish(done, self.time - 2)

    def _tick(self) -> None:
        """Time goes on without another job: what the engine still does is in use then, too."""
        self.time += 2
        for one in self._pending:
            if one.unit == Unit.ENGINE:
                for access in (*one.operation.reads, *one.operation.writes):
                    self._extend(access, self.time)

    def _finish(self, done: Sequence[_Pending], time: int) -> None:
        """These have finished, with all that they followed; what they read was in use until ``time``."""
        for one in done:
            if one not in self._pending:
                continue
            self._pending.remove(one)
            if one.unit != Unit.ENGINE:
                for access in one.operation.reads:
                    self._extend(access, time)
            self._finish(one.follows, time)

    def _use(self, operation: MachineOperation, after: Unit) -> None:
        """Regions that it touches are in use from now on."""
        # The engine's latest job may still be reading when another unit begins to write.
        waits = operation.unit != Unit.ENGINE and Unit.ENGINE in after
        for access in (*operation.writes, *operation.reads):
            self._extend(access, self.time + waits)

    def _extend(self, access: RegionAccess, time: int) -> None:
        first, last = self.lives.get(access.region, (time, time))
        self.lives[access.region] = (min(first, time), max(last, time))

    def end(self) -> None:
        """Whatever is still pending reads until the end."""
        self._finish(list(self._pending), self.time + 1)


def _only_replaces(operation: MachineOperation, other: MachineOperation) -> bool:
    """Whether an operation touches nothing of another but the rows that it reads, row by row, to write them anew."""
    takes = any(a.overlaps(b) for a in (*operation.reads, *operation.writes) for b in other.writes)
    replaced = [(a, b) for a in operation.writes for b in other.reads if a.overlaps(b)]
    return not takes and all(a.first == b.first for a, b in replaced)


def _same(access: RegionAccess, operation: MachineOperation) -> bool:
    return access.region == operation.reads[0].region


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When operations run.

    Parameters
    ----------
    orders:
        Of every operation.
    lives:
        For each task, the life of every region that it uses.
    times:
        For each task, the time at which each operation that it runs is handed out, by the operation's index.
    """

    orders: tuple[Order, ...]
    lives: list[dict[str, Life]]
    times: list[dict[int, int]]


def schedule(operations: Sequence[MachineOperation], tasks: int) -> Schedule:
    """The schedule of operations for every task."""
    orders: list[Order | None] = [None] * len(operations)
    lives, times = [], []
    for task in range(tasks):
        walk, found = _Walk(), {}
        for index, operation in enumerate(operations):
            if operation.runs(task):
                orders[index] = _either(orders[index], walk.visit(operation))
                found[index] = walk.time
        walk.end()
        lives.append(walk.lives)
        times.append(found)
    return Schedule(orders=tuple(order or Order() for order in orders), lives=lives, times=times)


def _either(known: Order | None, order: Order) -> Order:
    """What suits both tasks: where they would follow different units, the command waits for both."""
    if known is None or known == order:
        return order
    if known.follow == order.follow:
        return Order(after=known.after | order.after, follow=order.follow)
    awaited = NOTHING
    for one in (known, order):
        awaited |= {Follow.ENGINE: Unit.ENGINE, Follow.NORM: Unit.NORM, Follow.IMAGE: Unit.IMAGE}.get(
            one.follow, NOTHING
        )
    return Order(after=known.after | order.after | awaited)
