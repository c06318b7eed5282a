"""take_job and hand_over: when a job begins, what stays of it, and which transfers are one."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.sim import Simulator

from tessera.hw.blocks.jobs import hand_over, take_job
from tessera.hw.interfaces.strobe import Work

JOB = data.StructLayout({"rows": 8, "words": 4})


class Taker(wiring.Component):
    """A unit that only takes jobs."""

    def __init__(self, keep_until_next: bool) -> None:
        self._keep = keep_until_next
        super().__init__({"job": In(stream.Signature(JOB)), "done": In(1), "work": Out(Work(JOB))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        connect(m, take_job(m, self.job, self.done, keep_until_next=self._keep), flipped(self.work))
        return m


@pytest.mark.parametrize("keep_until_next", [False, True])
def test_a_job_begins_a_cycle_after_it_was_taken_and_is_stable_until_done(keep_until_next):
    taker = Taker(keep_until_next)

    async def bench(ctx):
        for number in range(1, 4):
            await ctx.tick().repeat(number)
            assert ctx.get(taker.job.ready) and not ctx.get(taker.work.start)
            ctx.set(taker.job.valid, 1)
            ctx.set(taker.job.payload, {"rows": number, "words": number})
            await ctx.tick()
            assert ctx.get(taker.work.start) and not ctx.get(taker.job.ready)
            # The next job is offered at once, and has to wait.
            ctx.set(taker.job.payload, {"rows": 100, "words": 0})
            for _ in range(number):
                assert ctx.get(taker.work.job.rows) == number and not ctx.get(taker.job.ready)
                await ctx.tick()
                assert not ctx.get(taker.work.start)
            ctx.set(taker.job.valid, 0)
            ctx.set(taker.done, 1)
            await ctx.tick()
            ctx.set(taker.done, 0)
            await ctx.tick()
            assert (ctx.get(taker.work.job.rows) == number) == keep_until_next

    simulator = Simulator(taker)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


class Joined(wiring.Component):
    """Two streams that are one, apart from the payload."""

    def __init__(self) -> None:
        super().__init__({"source": In(stream.Signature(JOB)), "target": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        hand_over(m, self.source, self.target)
        m.d.comb += self.target.payload.eq(self.source.payload.rows)
        return m


def test_streams_that_are_handed_over_transfer_together():
    joined = Joined()

    async def bench(ctx):
        ctx.set(joined.source.payload, {"rows": 17, "words": 3})
        for valid, ready in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ctx.set(joined.source.valid, valid)
            ctx.set(joined.target.ready, ready)
            assert (ctx.get(joined.target.valid), ctx.get(joined.source.ready)) == (valid, ready)
            assert ctx.get(joined.target.payload) == 17
            await ctx.delay(1e-9)

    simulator = Simulator(joined)
    simulator.add_testbench(bench)
    simulator.run()
