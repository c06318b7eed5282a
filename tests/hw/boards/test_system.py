"""What a board's system has besides accelerator, link and SDRAM: lights, and a memory of block RAM."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator

from tessera.hw.accelerator import Accelerator
from tessera.hw.boards.on_chip_memory import OnChipMemory
from tessera.hw.boards.system import System
from tessera.hw.presets import preset
from tessera.hw.protocol import Identity
from tessera.hw.sdram.chip import ANY_CHIP
from tessera.hw.sdram.memory import SdramMemory
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import BuildOptions
from tessera.sim.verilator.verilog import export_verilog
from tests.hw.sdram.sdram_models import CLOCK, SYSTEM, run

CONFIG = preset("tiny")
CLOCK_HZ = 1000
SIZE_BITS = 15


class Idle(wiring.Component):
    """Has the accelerator's members and does nothing; ``shows`` is its state."""

    def __init__(self) -> None:
        super().__init__(Accelerator(CONFIG).signature)
        self.shows = Signal.like(self.state)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.state.eq(self.shows)
        return m


def system(memory, **parameters):
    identity = Identity.of(CONFIG, clock_hz=CLOCK_HZ, build="test")
    return System(CONFIG, memory, baud=100, identity=identity, **parameters)


def test_lights():
    accelerator = Idle()
    dut = system(OnChipMemory(CONFIG, 4096, readers=2, writers=2), accelerator=accelerator)
    state = accelerator.shows

    async def bench(ctx):
        ctx.set(dut.rx, 1)
        await ctx.tick()
        lights = ctx.get(dut.lights)
        assert (lights.initialised, lights.busy, lights.done, lights.failed, lights.saturated) == (1, 0, 0, 0, 0)
        # A run of one cycle shows for 50 ms, a longer one as long as it lasts and 50 ms more.
        for cycles in (1, 70):
            ctx.set(state.busy, 1)
            await ctx.tick().repeat(cycles)
            ctx.set(state.busy, 0)
            await ctx.tick().repeat(2)  # registers on the way
            lit = 0
            while ctx.get(dut.lights.busy):
                lit += 1
                await ctx.tick()
            assert lit == CLOCK_HZ // 20
        for name, light in (("done", "done"), ("error", "failed"), ("saturated", "saturated")):
            ctx.set(state[name], 1)
            await ctx.tick()
            shown = {each: ctx.get(dut.lights[each]) for each in ("busy", "done", "failed", "saturated")}
            assert shown == {each: int(each == light) for each in shown}
            ctx.set(state[name], 0)
        # A stop bit that is missing is wrong; nothing that came was good.
        ctx.set(dut.rx, 0)
        await ctx.tick().repeat(120)
        assert ctx.get(dut.lights.link_error) and not ctx.get(dut.lights.link_activity)
        edges, before = [], ctx.get(dut.lights.heartbeat)
        for cycle in range(3 * CLOCK_HZ):
            await ctx.tick()
            if before != ctx.get(dut.lights.heartbeat):
                before = 1 - before
                edges.append(cycle)
        periods = {later - earlier for earlier, later in zip(edges, edges[1:], strict=False)}
        assert periods == {CLOCK_HZ // 2} and len(edges) in (5, 6)

    simulator = Simulator(dut)
    simulator.add_clock(1e-3)
    simulator.add_testbench(bench)
    simulator.run()


def test_a_memory_without_ports_for_both():
    with pytest.raises(ValueError, match="the memory has 1 readers; accelerator and host link need 2"):
        system(SdramMemory(CONFIG, ANY_CHIP.timing(80_000_000), writers=2))
    with pytest.raises(ValueError, match="the memory has 3 writers"):
        system(OnChipMemory(CONFIG, 4096, readers=2, writers=3))


@pytest.mark.parametrize("size", [0, 2048, 5000, 1 << 26, -4096])
def test_a_size_that_cannot_be(size):
    with pytest.raises(ValueError, match=f"size_bytes is {size}; choose a power of two from 4096 to 33554432"):
        OnChipMemory(CONFIG, size)


def block_ram(bus):
    """Two clients and the memory; ``bus`` is the preset that gives its width."""
    memory = OnChipMemory(preset(bus), 1 << SIZE_BITS, readers=2, writers=2)
    options = BuildOptions(
        top="sdram_system",
        sources=[SYSTEM],
        parameters={"BYTES": preset(bus).memory_bytes, "SIZE_BITS": SIZE_BITS},
        defines={"ON_CHIP": 1},
        main=CLOCK,
    )
    return build_simulator(export_verilog(memory, name="memory"), options)


@pytest.mark.parametrize(("bus", "pause"), [("ecp5-wide", 0), ("tiny", 100)])
def test_block_ram_under_traffic(bus, pause):
    """Random bursts of two clients against a reference, those beyond its end refused; then every word compared."""
    counted = run(block_ram(bus), {}, accesses=5000, pause=pause)
    assert counted["finished"] >= 5000 and counted["outside"] > 100


def test_block_ram_streams():
    """A word a cycle, and a cycle or two between bursts."""
    counted = run(block_ram("ecp5-wide"), {}, accesses=100, stream=256)
    assert counted["beats"] / counted["cycle"] > 0.97
