"""Queue and check: order, capacity, full rate, stalls; and that an assumption which fails stops the simulator."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from tessera.hw.blocks.checks import check
from tessera.hw.blocks.queue import Queue

LAYOUT = data.StructLayout({"number": 12, "flag": 1})


def run(queue: Queue, cycles: int, offer: float, take: float, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Numbers that went in and came out, and the level after each cycle."""
    random.seed(seed)
    given, taken, levels = [], [], []

    async def bench(ctx):
        number = 0
        for _ in range(cycles):
            ctx.set(queue.source.valid, random.random() < offer)
            ctx.set(queue.source.payload, {"number": number, "flag": number & 1})
            ctx.set(queue.target.ready, random.random() < take)
            if ctx.get(queue.source.valid) and ctx.get(queue.source.ready):
                given.append(number)
                number = (number + 1) % 4096
            if ctx.get(queue.target.valid) and ctx.get(queue.target.ready):
                out = ctx.get(queue.target.payload)
                assert out.flag == out.number & 1
                taken.append(out.number)
            await ctx.tick()
            levels.append(ctx.get(queue.level))
            assert levels[-1] == len(given) - len(taken)

    simulator = Simulator(queue)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return given, taken, levels


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("depth", [1, 4, 5])
@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.5, 0.5), (1.0, 0.2), (0.2, 1.0)])
def test_payloads_leave_in_order_and_none_is_lost(depth, buffered, rates):
    given, taken, levels = run(Queue(LAYOUT, depth, buffered=buffered), 400, *rates, seed=depth)
    assert taken == given[: len(taken)] and len(given) - len(taken) <= depth
    if rates[0] > rates[1]:
        assert max(levels) == depth, "it fills"
    if rates == (1.0, 1.0) and depth >= 4:
        assert len(taken) > 390, "one payload per cycle"


class Limited(wiring.Component):
    enable: In(1)
    value: In(4)

    def elaborate(self, platform):
        m = Module()
        check(m, self.enable, self.value < 9, "value {} is too large", self.value)
        return m


@pytest.mark.parametrize("enable, value, stops", [(1, 8, False), (1, 9, True), (0, 9, False)])
def test_a_check_stops_the_simulation_with_its_message(enable, value, stops):
    limited = Limited()

    async def bench(ctx):
        ctx.set(limited.enable, enable)
        ctx.set(limited.value, value)
        await ctx.tick().repeat(2)

    simulator = Simulator(limited)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    if stops:
        with pytest.raises(AssertionError, match="value 9 is too large"):
            simulator.run()
    else:
        simulator.run()
