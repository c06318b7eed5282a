"""Runs inside the simulator: gives the chip model commands pin by pin."""

from __future__ import annotations

import cocotb
from cocotb.triggers import RisingEdge

from tessera.sim.bench.streams import clock_and_reset, parameters

# {ras_n, cas_n, we_n}
COMMANDS = {
    "nothing": 0b111,
    "active": 0b011,
    "read": 0b101,
    "write": 0b100,
    "precharge": 0b010,
    "refresh": 0b001,
    "mode": 0b000,
    "stop": 0b110,
}


@cocotb.test()
async def script(dut):
    """Each line is {command, bank, address, drive}; ten cycles without a command in between unless it says ``soon``."""
    await clock_and_reset(dut)
    dut.cke.value = 1
    for line in parameters()["script"]:
        for step in (line, *([] if line.get("soon") else [{"command": "nothing"}] * 10)):
            code = COMMANDS[step["command"]]
            dut.ras_n.value, dut.cas_n.value, dut.we_n.value = code >> 2, code >> 1 & 1, code & 1
            dut.ba.value, dut.a.value = step.get("bank", 0), step.get("address", 0)
            dut.dq_i.value, dut.dq_i_en.value = 0x1234, step.get("drive", 0)
            await RisingEdge(dut.clk)
