"""Runs inside the simulator: the write master fed by hand."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.sim.bench.streams import StreamDriver, clock_and_reset, parameters, rng, wait_cycles
from tests.helpers.axi_models import WriteMemory, until

SIZE = 1 << 16


async def begin(dut):
    await clock_and_reset(dut)
    dut.guard__window.value = SIZE << 32
    stall = parameters()["stall"]
    memory = WriteMemory(dut, bytearray(SIZE), latency=10, stall=stall)
    return memory, StreamDriver(dut, "run", stall=stall), StreamDriver(dut, "beat", stall=stall)


def random_beats(width, count):
    return [int.from_bytes(rng("beats").bytes(width * count)[i * width :][:width], "little") for i in range(count)]


@cocotb.test()
async def runs_of_any_length(dut):
    memory, runs, beats = await begin(dut)
    width = len(dut.bus__wdata) // 8
    lengths = np.array([1, 2, 300, 5, 128])
    address = 0x1000 - 3 * width + np.cumsum([0, *lengths[:-1]]) * width
    data = random_beats(width, int(lengths.sum()))
    runs.send({"address": address, "beats_minus_one": lengths - 1})
    beats.send_raw(data)
    await runs.drained()
    await beats.drained()
    await until(dut, "idle")
    want = b"".join(word.to_bytes(width, "little") for word in data)
    assert memory.content[address[0] : address[0] + len(want)] == want
    assert sum(length for _, length in memory.bursts) == lengths.sum()


@cocotb.test()
async def halt_ends_a_burst_whose_data_never_come(dut):
    """AXI forbids to leave it open; memory must not be touched by the blank beats, nor by beats that come too late."""
    memory, runs, beats = await begin(dut)
    width = len(dut.bus__wdata) // 8
    memory.content[:] = rng("before").bytes(SIZE)
    before = bytes(memory.content)
    runs.send({"address": np.array([0x2000]), "beats_minus_one": np.array([7])})
    given = random_beats(width, 3)
    beats.send_raw(given)
    await beats.drained()
    await wait_cycles(dut, 60)
    assert dut.guard__quiescent.value == 0
    dut.guard__halt.value = 1
    await RisingEdge(dut.clk)
    beats.send_raw(given)
    await until(dut, "guard__quiescent")
    assert len(memory.beat_cycles) == 8
    want = b"".join(word.to_bytes(width, "little") for word in given)
    assert memory.content == before[:0x2000] + want + before[0x2000 + len(want) :]
