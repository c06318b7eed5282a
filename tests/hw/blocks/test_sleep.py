"""Sleeping units: registers and memories hold still, in the plain build and with the fast build's stopped clocks."""

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tessera.hw.blocks.sleep import extend_pulse, hand_over_when_awake, sleeping
from tessera.sim.bench.run import run_testbench
from tessera.sim.verilator import simplify
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions
from tessera.sim.verilator.verilog import export_verilog


class _Counter(wiring.Component):
    """Counts steps, and notes at each count what comes after it."""

    step: In(1)
    count: Out(4, init=3)
    word: Out(4)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = notes = memory.Memory(shape=4, depth=16, init=[])
        write, read = notes.write_port(), notes.read_port()
        m.d.sync += self.count.eq(self.count + self.step)
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(self.count),
            write.data.eq(self.count + self.step),
            read.addr.eq(self.count),
            self.word.eq(read.data),
        ]
        return m


class _Sleeper(wiring.Component):
    awake: In(1)
    clear: In(1)
    step: In(1)
    count: Out(4)
    word: Out(4)

    def elaborate(self, platform):
        m = Module()
        counter = _Counter()
        m.submodules.counter = ResetInserter(self.clear)(sleeping(m, platform, "counter", counter, self.awake))
        m.d.comb += [counter.step.eq(self.step), self.count.eq(counter.count), self.word.eq(counter.word)]
        return m


@pytest.mark.parametrize("optimise", [False, True])
def test_a_sleeping_unit_holds_still(optimise: bool) -> None:
    simulator = build_simulator(_Sleeper(), BuildOptions(optimise=optimise))
    run_testbench(simulator, "tests.hw.blocks.sleep_bench", seed=3)


def test_the_fast_build_stops_its_clock() -> None:
    text = simplify.stop_clocks(export_verilog(_Sleeper()).text)
    assert "always @(negedge clk) counter_open <= awake | clear | rst;" in text
    assert ".clk(counter_clk)" in text and text.count("_clk = clk & ") == 1


class _Periods(wiring.Component):
    event: In(1)
    active: Out(1)
    working: Out(1)

    def __init__(self) -> None:
        super().__init__()
        self.offered, self.job = stream.Signature(4).create(), stream.Signature(4).flip().create()
        self.done = Signal()

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.active.eq(extend_pulse(m, self.event, 3, name="event")),
            self.working.eq(hand_over_when_awake(m, self.offered, self.job, self.done, name="unit")),
            self.job.ready.eq(1),
        ]
        return m


def test_periods_of_work() -> None:
    dut = _Periods()
    seen: list[tuple[int, int]] = []
    #        event, offered, done
    inputs = [(0, 0, 0), (1, 1, 0), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 1, 1), (0, 0, 0), (0, 0, 1), (0, 0, 0)]

    async def drive(ctx):
        for event, offered, done in inputs:
            ctx.set(dut.event, event)
            ctx.set(dut.offered.valid, offered)
            ctx.set(dut.done, done)
            seen.append((ctx.get(dut.active), ctx.get(dut.working)))
            assert ctx.get(dut.job.valid) == ctx.get(dut.offered.ready & dut.offered.valid) == (offered & seen[-1][1])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    # A job offered with the pulse of the one before is work like any other.
    assert seen == [(0, 0), (1, 0), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (0, 1), (0, 0)]
