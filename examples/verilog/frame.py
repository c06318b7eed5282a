"""Processor and memory of ``soc.v`` in cocotb, with the buses of cocotbext-axi: runs a frame and compares its output.

It reads the exported folder only: ``tessera.json`` for registers and memory map, ``memory.hex`` and ``expected.hex``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

CORE = Path(os.environ["CORE"])
DESCRIPTION = json.loads((CORE / "tessera.json").read_text())
REGISTERS = {register["name"]: register["offset"] for register in DESCRIPTION["interface"]["registers"]}
BASE = 0x0040_0000
"""Where the program lies in this system's memory: any multiple of 4096 will do."""
ADDRESSES = {"program_address", "weight_address", "image_address", "output_address", "window_base", "window_limit"}


def memory_content() -> bytes:
    """The bytes of ``memory.hex``, whose lines begin with the highest address."""
    return b"".join(bytes.fromhex(line)[::-1] for line in (CORE / "memory.hex").read_text().split())


class Tessera:
    """A driver: what a processor's software would do."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut
        self._bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "cpu"), dut.clk, dut.rst)

    async def write(self, name: str, value: int) -> None:
        """Write a register by name."""
        await self._bus.write_dword(REGISTERS[name], value)

    async def read(self, name: str) -> int:
        """Read a register by name."""
        return await self._bus.read_dword(REGISTERS[name])

    async def run(self, settings: dict[str, int]) -> int:
        """Run a frame; returns the status."""
        for name, value in settings.items():
            await self.write(name, value + (BASE if name in ADDRESSES else 0))
        await self.write("watchdog_limit", 1_000_000)
        await self.write("interrupt_enable", 3)
        await self.write("control", 1)
        if not self._dut.irq.value:
            await with_timeout(RisingEdge(self._dut.irq), 20, "ms")
        while (status := await self.read("status")) & 1:
            pass  # busy ends a few cycles after done
        await self.write("interrupt_clear", 1)
        return status


@cocotb.test()
async def every_task_is_bit_exact(dut: Any) -> None:
    """Run each task on the picture; the output must be that of the integer golden model, byte by byte."""
    Clock(dut.clk, 10, unit="ns").start()
    tessera = Tessera(dut)
    ram = AxiRam(AxiBus.from_prefix(dut, "ram"), dut.clk, dut.rst, size=2 * BASE)
    ram.write(BASE, memory_content())
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)
    assert await tessera.read("identity") == 0x54455353
    expected = bytes.fromhex((CORE / "expected.hex").read_text())
    for task in DESCRIPTION["frame"]["tasks"]:
        status = await tessera.run(task["registers"])
        assert status & 0b110 == 0b010, f"status {status}, error {await tessera.read('error_code')}"
        size = task["output"]["rows"] * task["output"]["row_bytes"]
        found = ram.read(BASE + task["registers"]["output_address"], size)
        assert found == expected[:size], f"{task['name']}: the output is not the golden model's"
        expected = expected[size:]
        dut._log.info(f"{task['name']}: {await tessera.read('cycles')} cycles, {size} bytes as expected")
