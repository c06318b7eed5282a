"""The machine in Amaranth's own simulator: a reference for the speed of ours."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from tessera.hw.accelerator import Accelerator
from tessera.hw.register_map import REGISTERS
from tessera.program.program import Program
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.settings import MemorySettings


def cycles_per_second(program: Program, frame: Frame, cycles: int) -> float:
    """Run the first ``cycles`` cycles of a frame and return the simulated cycles per second of real time.

    The time does not include making the simulator. Raises RuntimeError if the machine did not start.
    """
    machine = Accelerator(program.config)
    simulator = Simulator(machine)
    simulator.add_clock(1e-8)
    content = program.memory(frame.image)
    read = machine.read
    seen: dict[str, Any] = {"beats": 0}

    async def memory(ctx: Any) -> None:
        """Answer reads in order after the default latency, one beat per cycle."""
        beats: deque[tuple[int, int, bool]] = deque()
        offered, now, width = False, 0, program.config.memory_bytes
        ctx.set(read.ar.ready, 1)
        ports = (read.ar.valid, read.ar.payload.addr, read.ar.payload.len, read.r.ready)
        async for _, _, valid, address, length, ready in ctx.tick().sample(*ports):
            now += 1
            if valid:
                due = now + MemorySettings().read_latency
                beats.extend((due, address + index * width, index == length) for index in range(length + 1))
            if offered and ready:
                beats.popleft()
                seen["beats"] += 1
            offered = bool(beats) and beats[0][0] <= now
            ctx.set(read.r.valid, offered)
            if offered:
                _, start, last = beats[0]
                ctx.set(
                    read.r.payload.data, int.from_bytes(np.asarray(content[start : start + width]).tobytes(), "little")
                )
                ctx.set(read.r.payload.last, last)

    async def host(ctx: Any) -> None:
        """Set the registers, start the machine, and measure the time."""
        for name, value in {**program.registers(frame.task), "control": 1}.items():
            await _write(ctx, machine.control, REGISTERS[name].offset, value)
        start = time.perf_counter()
        await ctx.tick().repeat(cycles)
        seen["seconds"] = time.perf_counter() - start

    simulator.add_testbench(memory, background=True)
    simulator.add_testbench(host)
    simulator.run()
    if not seen["beats"]:
        raise RuntimeError("the machine read nothing: it did not start")
    return cycles / seen["seconds"]


async def _write(ctx: Any, bus: Any, address: int, value: int) -> None:
    """Write a register over AXI4-Lite."""
    ctx.set(bus.aw.payload.addr, address)
    ctx.set(bus.w.payload.data, value)
    ctx.set(bus.w.payload.strb, 15)
    for signal in (bus.aw.valid, bus.w.valid, bus.b.ready):
        ctx.set(signal, 1)
    address_taken = data_taken = answered = False
    while not answered:
        _, _, awready, wready, bvalid = await ctx.tick().sample(bus.aw.ready, bus.w.ready, bus.b.valid)
        if awready and not address_taken:
            address_taken = True
            ctx.set(bus.aw.valid, 0)
        if wready and not data_taken:
            data_taken = True
            ctx.set(bus.w.valid, 0)
        answered = bool(bvalid)
