"""What the benches of the registers share: the host's first steps, and inputs of the machine that they play."""

import cocotb
from cocotb.triggers import RisingEdge

from tessera.hw.interfaces.sequencer import run_settings_layout
from tessera.hw.register_map import REGISTERS, Access
from tessera.sim.bench.streams import clock_and_reset, parameters
from tests.helpers.lite_host import LiteHost

OFFSET = {name: register.offset for name, register in REGISTERS.items()}
READ_WRITE = [name for name, register in REGISTERS.items() if register.access is Access.READ_WRITE]
WIDTH = {name: REGISTERS[name].width for name in READ_WRITE}
BUSY, DONE, ERROR, SATURATED = 1, 2, 4, 8
NOBODY = 0xFFFFFFFF
REGISTER_OF = {"task_index": "task", "image_base": "image_address", "output_base": "output_address"}
"""Registers of the settings that have another name."""


async def begin(dut, *, stall=None):
    await clock_and_reset(dut)
    dut.found__progress.value = 1
    quiescent(dut, 1)
    return LiteHost(dut, stall=parameters()["stall"] if stall is None else stall)


def quiescent(dut, value):
    """Set what all units that touch memory say of themselves."""
    dut.guard__0__quiescent.value = dut.guard__1__quiescent.value = value


def run_settings(dut):
    """Settings of the run and the window, by the names of their registers."""
    bits, found = int(dut.run__settings.value), {}
    for name, field in run_settings_layout():
        found[REGISTER_OF.get(name, name)] = bits >> field.offset & ((1 << field.width) - 1)
    (window,) = {int(getattr(dut, f"guard__{unit}__window").value) for unit in range(2)}
    found |= {"window_base": window & 0xFFFFFFFF, "window_limit": window >> 32}
    return found


async def pulse(dut, name, payload=None):
    """One cycle of an input, beginning now."""
    if payload is not None:
        getattr(dut, f"{name}__payload").value = payload
        name = f"{name}__valid"
    getattr(dut, name).value = 1
    await RisingEdge(dut.clk)
    getattr(dut, name).value = 0


async def count_pulses(dut, name, counts):
    while True:
        await RisingEdge(dut.clk)
        counts[name] = counts.get(name, 0) + int(getattr(dut, name).value)


async def start(dut, host):
    """Start a run; returns at the end of its first cycle."""
    cocotb.start_soon(host.write(OFFSET["control"], 1))
    await RisingEdge(dut.clk)
    while dut.running.value != 1:
        await RisingEdge(dut.clk)


async def error_of(host):
    return tuple([await host.read(OFFSET[f"error_{part}"]) for part in ("code", "command", "address")])
