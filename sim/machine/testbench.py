"""Inside the simulator: a host that loads images, starts frames, shows progress and reads results and counters.

``tessera.sim.machine.run`` gives the jobs as bench parameters. Readouts go back through ``record``; the output region
of the DRAM goes to files in the run's directory.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import First, RisingEdge, Timer

from tessera.hw.isa import CycleCause
from tessera.hw.register_map import REGISTERS
from tessera.sim.bench.backdoor import MemoryBackdoor
from tessera.sim.bench.streams import CLOCK_PERIOD_NS, parameters, record
from tessera.sim.machine.exchange import FrameJob, FramePosition, FrameReadout
from tessera.sim.machine.settings import Upset

PROGRESS_CYCLES = 16384
BUSY = 1
START, CLEAR_ERROR = 1, 2
"""Bits of the control register."""
INTERRUPTS = 3
"""Enable bits of both interrupts: done, and error."""
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
"""Value of ``last_owner`` and ``stamp_previous`` when there is no command."""


class RegisterMaster:
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
        dut.control__awaddr.value = REGISTERS[name].offset
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
        dut.control__araddr.value = REGISTERS[name].offset
        dut.control__arvalid.value = dut.control__rready.value = 1
        await self._until(dut.control__arready)
        dut.control__arvalid.value = 0
        while dut.control__rvalid.value != 1:
            await self._edge
        value = int(dut.control__rdata.value)
        dut.control__rready.value = 0
        return value


class ProgressFile:
    """A file with one JSON line per position, for ``tessera.sim.machine.follow``."""

    def __init__(self, path: str) -> None:
        # Lines reach the reader at once: a block of them would come minutes late.
        self._file = Path(path).open("w", buffering=1)

    def write(self, position: FramePosition) -> None:
        """Append a position."""
        self._file.write(json.dumps(asdict(position)) + "\n")


async def _recover(host: RegisterMaster) -> None:
    """Clear the error of a halted machine.

    The machine must first drain the reads and writes that it has requested; the next frame would get their answers.
    """
    for _ in range(RECOVERY_POLLS):
        if not await host.read("status") & BUSY:
            await host.write("control", CLEAR_ERROR)
            return
    raise AssertionError(f"the machine halted but is still busy after {RECOVERY_POLLS} looks at its status")


async def _reset(dut: Any) -> None:
    """Reset the machine and its memory's control, and wait until the memory is initialised. Its content stays."""
    dut.rst.value = 1
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(2):
        await RisingEdge(dut.clk)
    if not dut.initialised.value:
        await RisingEdge(dut.initialised)


async def _flip(dut: Any, first: int, upset: Upset) -> None:
    """Flip bits of a memory at a cycle of the frame that began at ``first``."""
    await Timer((first + upset.cycle - int(dut.cycle.value)) * CLOCK_PERIOD_NS, "ns")
    memory = dut.dut
    for name in upset.memory.split("."):
        memory = getattr(memory, name)
    word = memory[upset.word]
    word.value = int(word.value) ^ upset.mask


class FrameRunner:
    """Runs frames on the machine, one after the other.

    Parameters
    ----------
    dut:
        Handle of ``machine.sv``.
    progress:
        File for positions of the running frame.
    last_cycle:
        Cycle, on the clock of the traces, after which no frame goes on; None for no such cycle.
    """

    def __init__(self, dut: Any, progress: ProgressFile, last_cycle: int | None) -> None:
        self._dut, self._progress, self._last_cycle = dut, progress, last_cycle
        self._memory = MemoryBackdoor(dut.memory)
        self.host = RegisterMaster(dut)

    async def run(self, job: FrameJob) -> FrameReadout | None:
        """Run one frame to its end or its error, and read its results. Return None if ``last_cycle`` came first."""
        dut, host = self._dut, self.host
        self._load(job)
        for name, value in job.registers.items():
            await host.write(name, value)
        await host.write("interrupt_enable", INTERRUPTS)
        began, first = time.perf_counter(), int(dut.cycle.value) + START_CYCLES
        for upset in job.upsets:
            cocotb.start_soon(_flip(dut, first, upset))
        await host.write("control", START)
        if not await self._finished(job, first, began):
            return None
        seconds = time.perf_counter() - began
        # The wait may have ended between two clock edges; register accesses begin at one.
        await RisingEdge(dut.clk)
        return await self._read_out(job, first, seconds)

    def _load(self, job: FrameJob) -> None:
        """Set up the memory: the job's faults, and its image."""
        for address, content in job.patches:
            self._memory.write(address, content)
        for name, value in job.memory.items():
            getattr(self._dut.memory, name).value = value
        if job.image_file:
            self._memory.write(job.image_address, Path(job.image_file).read_bytes())
        self._dut.frame.value = job.number

    async def _finished(self, job: FrameJob, first: int, began: float) -> bool:
        """Wait for the interrupt, with a look at the machine every ``PROGRESS_CYCLES``."""
        dut = self._dut
        ended = RisingEdge(dut.interrupt)
        while not dut.interrupt.value:
            pause = PROGRESS_CYCLES
            if self._last_cycle is not None:
                pause = min(pause, self._last_cycle - int(dut.cycle.value))
                if pause < 1:
                    return False
            # One timer instead of a clock edge per cycle: Python runs once per pause, so the simulator's speed counts.
            await First(ended, Timer(pause * CLOCK_PERIOD_NS, "ns"))
            spent = int(dut.cycle.value) - first
            command = int(dut.trace_place.value) & 0xFFFF
            seconds = time.perf_counter() - began
            self._progress.write(FramePosition(frame=job.number, cycle=spent, command=command, seconds=seconds))
            if spent > job.limit:
                raise AssertionError(
                    f"frame {job.number}: no end after {spent} cycles; command {command} is in progress"
                )
        return True

    async def _read_out(self, job: FrameJob, first: int, seconds: float) -> FrameReadout:
        """Read counters, time stamps, owners and the output."""
        host = self.host
        counters = {name: await host.read(name) for name in COUNTERS}
        last_owner = await host.read("last_owner")
        await host.write("interrupt_clear", 1)
        stamps = []
        for command in job.stamps:
            await host.write("stamp_select", command)
            stamps.append([await host.read("stamp_start"), await host.read("stamp_end")])
        owners = await self._owners(last_owner) if job.stamps else []
        if job.output_bytes:
            Path(job.output_file).write_bytes(self._memory.read(job.output_address, job.output_bytes))
        return FrameReadout(first=first, seconds=seconds, counters=counters, stamps=stamps, owners=owners)

    async def _owners(self, last: int) -> list[list[int]]:
        """Follow the chain of commands that owned cycles from the last to the first: index, then total by cause."""
        chain, command = [], last
        while command != NOBODY:
            await self.host.write("stamp_select", command)
            chain.append([command, *[await self.host.read(cause.stamp) for cause in CycleCause]])
            command = await self.host.read("stamp_previous")
        return chain


@cocotb.test()
async def frames(dut: Any) -> None:
    """Run the frames one after the other, without a reset between them unless a job asks for one."""
    settings = parameters()
    for name in INPUTS:
        getattr(dut, name).value = 0
    # The fast build's main program drives the clock; a second driver would disturb it.
    if not settings["own_clock"]:
        Clock(dut.clk, CLOCK_PERIOD_NS, unit="ns").start(start_high=False)
    await _reset(dut)
    runner = FrameRunner(dut, ProgressFile(settings["progress_file"]), settings["last_cycle"])
    readouts: list[FrameReadout] = []
    record(frames=[])
    for job in map(FrameJob.from_dict, settings["frames"]):
        if job.reset:
            await _reset(dut)
        elif readouts and readouts[-1].counters["error_code"]:
            await _recover(runner.host)
        readout = await runner.run(job)
        if readout is None:
            break
        readouts.append(readout)
        # After each frame, so that a later failure leaves the earlier results.
        record(frames=[asdict(readout) for readout in readouts])
