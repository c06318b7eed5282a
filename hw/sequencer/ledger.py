"""Ledger: what is under way in the units, and how far the rows of a command that others follow have come."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tessera.hw.blocks.checks import check
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import place_layout
from tessera.hw.isa import COUNT_WIDTH, Follow, Unit

UNITS = tuple(Unit)
"""Units in the order of their bits."""
ENGINE, NORM, GATE, IMAGE, STREAM, STORE = range(len(UNITS))
FOLLOWERS = (ENGINE, NORM, GATE)
"""Units that can follow the rows of another."""
ALL_ROWS = (1 << COUNT_WIDTH) - 1
"""Number of readable rows of a unit that follows nobody."""


class Ledger(wiring.Component):
    """Keeps account of each job from the cycle in which its unit takes it to the cycle in which it is done.

    Design: the engine has up to two jobs under way, any other unit one. A follower of the engine's rows counts the
    jobs that must be done before the followed job is the oldest. Then it sees that job's rows, and all rows once the
    job is done.

    Latency: ``busy``, ``rows_ready`` and the places change in the cycle after ``taken`` or ``done``; ``ended`` is 1 in
    the cycle of ``done``.

    Parameters
    ----------
    config:
        Sizes of the machine.

    Members
    -------
    taken: In(6)
        A unit takes a job in this cycle (bit i: ``UNITS[i]``).
    where: In(place), follow: In(2)
        Place of that job, and the ``Follow`` of its command.
    looping: In(1)
        The engine's latest command goes on: more jobs of it may come.
    done: In(6)
        The unit's oldest job is done. The engine's is never done in two cycles that follow each other.
    row_written: In(1)
        Pulse: the engine's oldest job has written a row.
    norm_rows: In(16), image_rows: In(16)
        Rows that LayerNorm and the image loader have written in their jobs.
    busy: Out(6)
        Jobs are under way.
    ended: Out(6)
        Pulse: the unit's oldest command is done.
    rows_ready: Out(16) for each of ``FOLLOWERS``
        Source rows that may be read, from the cycle after the job was taken.
    oldest: Out(place) for each unit
        Place of its oldest job, or of its last one when it has none.
    latest: Out(place)
        Place of the engine's latest job.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        count = len(UNITS)
        super().__init__(
            {
                "taken": In(count),
                "where": In(place_layout(config)),
                "follow": In(2),
                "looping": In(1),
                "done": In(count),
                "row_written": In(1),
                "norm_rows": In(COUNT_WIDTH),
                "image_rows": In(COUNT_WIDTH),
                "busy": Out(count),
                "ended": Out(count),
                "rows_ready": Out(COUNT_WIDTH).array(len(FOLLOWERS)),
                "oldest": Out(place_layout(config)).array(count),
                "latest": Out(place_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A bit for each unit but the engine; two entries for the engine; the followers' counts."""
        m = Module()
        for unit in range(len(UNITS)):
            if unit != ENGINE:
                m.d.sync += self.busy[unit].eq(self.taken[unit] | (self.busy[unit] & ~self.done[unit]))
                m.d.comb += self.ended[unit].eq(self.done[unit])
                with m.If(self.taken[unit]):
                    m.d.sync += self.oldest[unit].eq(self.where)
            check(m, self.done[unit], self.busy[unit], f"{UNITS[unit].name}: done without a job")
        left = self._engine(m)
        self._rows(m, left)
        return m

    def _engine(self, m: Module) -> Signal:
        """The engine's two entries; returns how many are left after this cycle's ``done``, without a new one."""
        under_way, left, looped = Signal(range(3)), Signal(range(3)), Signal()
        taken, done, oldest = self.taken[ENGINE], self.done[ENGINE], self.oldest[ENGINE]
        m.d.comb += [left.eq(under_way - done), self.busy[ENGINE].eq(under_way != 0)]
        m.d.sync += [under_way.eq(left + taken), looped.eq(self.looping)]
        with m.If(taken):
            m.d.sync += self.latest.eq(self.where)
        # The entries are a queue of two places: a job that finds no other becomes the oldest at once.
        with m.If(taken & (left == 0)):
            m.d.sync += oldest.eq(self.where)
        with m.Elif(done):
            m.d.sync += oldest.eq(self.latest)
        # ``same``: both jobs belong to one command. ``current``: the dispatcher is still at the oldest job's command.
        # Comparing indices takes a cycle, so two jobs must not be done in cycles that follow each other.
        same, current, done_before = Signal(), Signal(), Signal()
        with m.If(taken):
            m.d.sync += same.eq(self.where.command == Mux(done, self.latest.command, oldest.command))
        m.d.sync += [current.eq(self.where.command == oldest.command), done_before.eq(done)]
        # A command of several jobs has ended when its last one is done and no other can follow. The loop may find that
        # no expert is left only after its last job is done, so the end of the loop counts as well.
        goes_on = ((left != 0) & same) | (self.looping & current)
        loop_ended = looped & ~self.looping
        m.d.comb += self.ended[ENGINE].eq((done & ~goes_on) | (loop_ended & (under_way == 0)))
        check(m, taken, left != 2, "the engine took a third job")
        check(m, done, ~done_before, "two engine jobs were done in cycles that follow each other")
        return left

    def _rows(self, m: Module, left: Value) -> None:
        """What each follower may read."""
        rows, following_norm, following_image = Signal(COUNT_WIDTH), Signal(), Signal()
        done = self.done[ENGINE]
        m.d.sync += rows.eq(Mux(done, 0, rows + self.row_written))
        # LayerNorm and image loader have one job at a time. One bit says that the engine's latest job follows it; a
        # source that is done before the follower begins has written everything, so the bit stays 0.
        with m.If(self.taken[ENGINE]):
            m.d.sync += [
                following_norm.eq((self.follow == Follow.NORM) & self.busy[NORM] & ~self.done[NORM]),
                following_image.eq((self.follow == Follow.IMAGE) & self.busy[IMAGE] & ~self.done[IMAGE]),
            ]
        with m.Else():
            m.d.sync += [
                following_norm.eq(following_norm & ~self.done[NORM]),
                following_image.eq(following_image & ~self.done[IMAGE]),
            ]
        for index, unit in enumerate(FOLLOWERS):
            # Engine jobs that must be done until the followed one is: 0 all rows, 1 its rows so far, 2 none yet.
            ahead = Signal(range(3), name=f"ahead_of_{UNITS[unit].name.lower()}")
            ready = self.rows_ready[index]
            with m.If(self.taken[unit]):
                m.d.sync += ahead.eq(Mux(self.follow == Follow.ENGINE, left, 0))
            with m.Elif(done & (ahead != 0)):
                m.d.sync += ahead.eq(ahead - 1)
            m.d.comb += ready.eq(Mux(ahead == 0, ALL_ROWS, Mux(ahead == 1, rows, 0)))
            if unit == ENGINE:
                with m.If(following_norm):
                    m.d.comb += ready.eq(self.norm_rows)
                with m.If(following_image):
                    m.d.comb += ready.eq(self.image_rows)
