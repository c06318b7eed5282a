"""Inside the simulator: a host that loads images, starts frames, shows progress and reads results and counters.

What to do comes as bench parameters from ``sim.machine.run``; outcomes go back through ``record`` and files in the
run's directory.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import First, RisingEdge, Timer

from hw.isa import REGISTERS, CycleCause
from sim.bench.backdoor import MemoryBackdoor
from sim.bench.streams import CLOCK_PERIOD_NS, parameters, record

PROGRESS_CYCLES = 16384
BUSY = 1
RECOVERY_POLLS = 2000
START_CYCLES = 5
"""Cycles from writing the start bit to cycle 0 of the frame."""
INPUTS = (
    "frame control__awaddr control__awvalid control__wdata control__wstrb control__wvalid control__bready "
    "control__araddr control__arvalid control__rready"
).split()
COUNTERS = (
    *"status error_code error_command error_address cycles".split(),
    *(cause.counter for cause in CycleCause),
    *"read_bytes write_bytes identity version configuration".split(),
)
NOBODY = 0xFFFFFFFF
"""What ``last_owner`` and ``stamp_previous`` show when there is no command."""


class Registers:
    """AXI4-Lite master for the control registers, by register name."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self._edge = RisingEdge(dut.clk)

    async def _until(self, signal: Any) -> None:
        await self._edge
        while signal.value != 1:
            await self._edge

    async def write(self, name: str, value: int) -> None:
        """Write one register."""
        dut = self._dut
        dut.control__awaddr.value = REGISTERS[name][0]
        dut.control__wdata.value = value
        dut.control__wstrb.value = 0xF
        dut.control__awvalid.value = dut.control__wvalid.value = dut.control__bready.value = 1
        address_open = data_open = True
        while address_open or data_open:
            await self._edge
            if address_open and dut.control__awready.value == 1:
                dut.control__awvalid.value, address_open = 0, False
            if data_open and dut.control__wready.value == 1:
                dut.control__wvalid.value, data_open = 0, False
        while dut.control__bvalid.value != 1:
            await self._edge
        dut.control__bready.value = 0

    async def read(self, name: str) -> int:
        """Read one register."""
        dut = self._dut
        dut.control__araddr.value = REGISTERS[name][0]
        dut.control__arvalid.value = dut.control__rready.value = 1
        await self._until(dut.control__arready)
        dut.control__arvalid.value = 0
        while dut.control__rvalid.value != 1:
            await self._edge
        value = int(dut.control__rdata.value)
        dut.control__rready.value = 0
        return value


class ProgressFile:
    """One JSON line every ``PROGRESS_CYCLES``, for whoever follows the file."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("w", buffering=1)

    def report(self, **fields: Any) -> None:
        """Write a line."""
        self._file.write(json.dumps(fields) + "\n")


async def _recover(host: Registers) -> None:
    """Wait until a halted machine has drained what it had asked of the memory, then clear the error."""
    for _ in range(RECOVERY_POLLS):
        if not await host.read("status") & BUSY:
            await host.write("control", 2)
            return
    raise AssertionError(f"the machine halted but is still busy after {RECOVERY_POLLS} looks at its status")


async def _reset(dut: Any) -> None:
    """Reset the machine and the control of its memory, not the memory's content, and wait until that may be used."""
    dut.rst.value = 1
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(2):
        await RisingEdge(dut.clk)
    if not dut.initialised.value:
        await RisingEdge(dut.initialised)


async def _upset(dut: Any, first: int, upset: dict[str, Any]) -> None:
    """Turn bits of a memory over at a cycle of the frame that began at ``first``."""
    await Timer((first + upset["cycle"] - int(dut.cycle.value)) * CLOCK_PERIOD_NS, "ns")
    memory = dut.dut
    for name in upset["memory"].split("."):
        memory = getattr(memory, name)
    word = memory[upset["word"]]
    word.value = int(word.value) ^ upset["mask"]


async def _owners(host: Registers, last: int) -> list[list[int]]:
    """The chain of commands that owned cycles, last to first: index, then its entry by cause."""
    chain, command = [], last
    while command != NOBODY:
        await host.write("stamp_select", command)
        chain.append([command, *[await host.read(cause.stamp) for cause in CycleCause]])
        command = await host.read("stamp_previous")
    return chain


async def _frame(
    dut: Any,
    host: Registers,
    memory: MemoryBackdoor,
    frame: dict[str, Any],
    progress: ProgressFile,
    last_cycle: int | None,
) -> dict | None:
    """Run one frame to its end or its error; returns what the host can read of it, or None beyond ``last_cycle``."""
    number = frame["number"]
    for address, content in frame["patches"]:
        memory.write(address, bytes.fromhex(content))
    for name, value in frame["memory"].items():
        getattr(dut.memory, name).value = value
    if frame["image_file"]:
        memory.write(frame["image_address"], Path(frame["image_file"]).read_bytes())
    dut.frame.value = number
    for name, value in frame["registers"].items():
        await host.write(name, value)
    await host.write("interrupt_enable", 3)
    began, first = time.perf_counter(), int(dut.cycle.value) + START_CYCLES
    for upset in frame["upsets"]:
        cocotb.start_soon(_upset(dut, first, upset))
    await host.write("control", 1)
    ended = RisingEdge(dut.interrupt)
    while not dut.interrupt.value:
        pause = PROGRESS_CYCLES
        if last_cycle is not None:
            pause = min(pause, last_cycle - int(dut.cycle.value))
            if pause < 1:
                return None
        await First(ended, Timer(pause * CLOCK_PERIOD_NS, "ns"))
        spent = int(dut.cycle.value) - first
        command = int(dut.trace_place.value) & 0xFFFF
        progress.report(frame=number, cycle=spent, command=command, seconds=time.perf_counter() - began)
        if spent > frame["limit"]:
            raise AssertionError(f"frame {number}: no end after {spent} cycles; command {command} is in progress")
    last = int(dut.cycle.value)
    seconds = time.perf_counter() - began
    await RisingEdge(dut.clk)
    counters = {name: await host.read(name) for name in COUNTERS}
    last_owner = await host.read("last_owner")
    await host.write("interrupt_clear", 1)
    stamps = []
    for command in frame["stamps"]:
        await host.write("stamp_select", command)
        stamps.append([await host.read("stamp_start"), await host.read("stamp_end")])
    owners = await _owners(host, last_owner) if frame["stamps"] else []
    if frame["output_bytes"]:
        Path(frame["output_file"]).write_bytes(memory.read(frame["output_address"], frame["output_bytes"]))
    outcome = {"first": first, "last": last, "seconds": seconds, "counters": counters}
    return outcome | {"stamps": stamps, "owners": owners}


@cocotb.test()
async def frames(dut: Any) -> None:
    """Run the frames one after the other, without a reset between them."""
    settings = parameters()
    for name in INPUTS:
        getattr(dut, name).value = 0
    if not settings["own_clock"]:
        Clock(dut.clk, CLOCK_PERIOD_NS, unit="ns").start(start_high=False)
    await _reset(dut)
    host, memory = Registers(dut), MemoryBackdoor(dut.memory)
    progress = ProgressFile(settings["progress_file"])
    results: list[dict] = []
    record(frames=results)
    for frame in settings["frames"]:
        if frame["reset"]:
            await _reset(dut)
        elif results and results[-1]["counters"]["error_code"]:
            await _recover(host)
        result = await _frame(dut, host, memory, frame, progress, settings["last_cycle"])
        if result is None:
            break
        results.append(result)
        record(frames=results)
