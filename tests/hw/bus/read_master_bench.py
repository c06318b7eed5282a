"""Runs inside the simulator: three clients of the read master against two memory models."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiRamRead, AxiReadBus

from tessera.hw.isa import ErrorCode
from tessera.sim.bench.streams import StreamDriver, StreamMonitor, clock_and_reset, parameters, rng, wait_cycles
from tests.helpers.axi_models import ReadMemory

SIZE = 1 << 16
CLIENTS = 3


def random_requests(width, count, salt):
    """Bursts anywhere in memory that do not cross a page."""
    random = rng(salt)
    beats = random.integers(1, min(24, 4096 // width) + 1, count)
    page = random.integers(0, SIZE // 4096, count)
    start = (random.random(count) * (4096 // width - beats + 1)).astype(int)
    return {"address": page * 4096 + start * width, "beats_minus_one": beats - 1}


async def begin(dut, *, limit=SIZE):
    await clock_and_reset(dut)
    dut.guard__window.value = limit << 32
    content = bytearray(rng("content").integers(0, 256, SIZE, dtype=np.uint8).tobytes())
    settings = parameters()
    drivers = [StreamDriver(dut, f"request__{i}", stall=settings["stall"]) for i in range(CLIENTS)]
    monitors = [StreamMonitor(dut, f"response__{i}") for i in range(CLIENTS)]
    return content, drivers, monitors


def expected_beats(content, requests, width):
    return [
        int.from_bytes(content[at : at + width], "little")
        for address, beats in zip(requests["address"], requests["beats_minus_one"] + 1, strict=True)
        for at in range(address, address + beats * width, width)
    ]


async def check_traffic(dut, content, drivers, monitors):
    width = len(dut.bus__rdata) // 8
    requests = [random_requests(width, 60, f"client {i}") for i in range(CLIENTS)]
    for driver, request in zip(drivers, requests, strict=True):
        driver.send(request)
    for monitor, request in zip(monitors, requests, strict=True):
        want = expected_beats(content, request, width)
        await monitor.receive(len(want))
        assert monitor.raw == want
    await wait_cycles(dut, 5)
    assert dut.guard__quiescent.value == 1
    assert dut.guard__error__valid.value == 0
    for monitor in monitors:
        monitor.assert_empty()


@cocotb.test()
async def traffic_against_own_model(dut):
    content, drivers, monitors = await begin(dut)
    memory = ReadMemory(dut, content, latency=20, stall=parameters()["stall"])
    await check_traffic(dut, content, drivers, monitors)
    assert memory.most >= 8


@cocotb.test()
async def traffic_against_cocotbext(dut):
    content, drivers, monitors = await begin(dut)
    stall = parameters()["stall"]
    ram = AxiRamRead(AxiReadBus.from_prefix(dut, "bus_"), dut.clk, dut.rst, size=SIZE)
    ram.write(0, bytes(content))
    for channel in (ram.ar_channel, ram.r_channel):
        random = rng(f"pause {channel}")
        channel.set_pause_generator(iter(lambda random=random: random.random() < stall, None))
    await check_traffic(dut, content, drivers, monitors)


@cocotb.test()
async def lower_index_has_priority(dut):
    content, drivers, monitors = await begin(dut)
    for index in (2, 1, 0):
        drivers[index].send({"address": np.full(20, 4096 * index), "beats_minus_one": np.zeros(20, int)})
    memory = ReadMemory(dut, content)
    for monitor in monitors:
        await monitor.receive(20)
    if parameters()["stall"] == 0:
        clients = [address // 4096 for address, _ in memory.bursts]
        assert clients == sorted(clients)


async def next_error(dut, cycles=2000):
    for _ in range(cycles):
        await RisingEdge(dut.clk)
        if dut.guard__error__valid.value == 1:
            payload = int(dut.guard__error__payload.value)
            return payload & 0xFF, payload >> 8
    raise AssertionError("no error came")


async def drain(dut):
    """Wait until nothing is outstanding; nothing may be issued, delivered or reported again meanwhile."""
    for _ in range(4000):
        await RisingEdge(dut.clk)
        assert dut.guard__error__valid.value == 0
        if dut.guard__quiescent.value == 1:
            return
    raise AssertionError("never quiescent")


@cocotb.test()
async def error_response_stops_and_names_the_burst(dut):
    content, drivers, monitors = await begin(dut)
    width = len(dut.bus__rdata) // 8
    memory = ReadMemory(dut, content, latency=30, stall=parameters()["stall"], broken={0x1000 + 2 * width})
    addresses = np.array([0x2000, 0x1000, 0x3000, 0x4000])
    drivers[1].send({"address": addresses, "beats_minus_one": np.full(4, 3)})
    assert await next_error(dut) == (ErrorCode.BUS_READ, 0x1000)
    await drain(dut)
    issued = len(memory.bursts)
    # Its places for requests fill up; nothing leaves them.
    drivers[0].send({"address": np.zeros(3, int), "beats_minus_one": np.zeros(3, int)})
    await wait_cycles(dut, 100)
    assert len(memory.bursts) == issued and memory.outstanding == 0
    assert dut.request__0__ready.value == 0 and dut.guard__quiescent.value == 1
    delivered = expected_beats(content, {"address": addresses, "beats_minus_one": np.full(4, 3)}, width)[:6]
    assert monitors[1].raw == delivered
    await restart(dut)
    memory.broken.clear()
    await check_again(dut, content, drivers)


async def restart(dut):
    """Reset the master alone, as the machine does."""
    dut.rst.value = 1
    await wait_cycles(dut, 2)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


async def check_again(dut, content, drivers):
    """Reads work, and what was read is no leftover."""
    monitor = StreamMonitor(dut, "response__2")
    request = {"address": np.array([0x1000, 0x5000]), "beats_minus_one": np.array([3, 7])}
    drivers[2].send(request)
    want = expected_beats(content, request, len(dut.bus__rdata) // 8)
    await monitor.receive(len(want))
    assert monitor.raw == want


@cocotb.test()
async def burst_outside_the_window_is_refused(dut):
    content, drivers, monitors = await begin(dut)
    memory = ReadMemory(dut, content, latency=10, stall=parameters()["stall"])
    width = len(dut.bus__rdata) // 8
    cases = ((0x1000 - width, 1, 0x3000), (0x3000, 1, 0x3000), (0xFFFFFFFF + 1 - width, 1, 0x3000))
    for address, beats, limit in (*cases, (0x2000, 8, 0x2000 + 7 * width), (0x2000, 8, 0)):
        dut.guard__window.value = 0x1000 | (limit or 0x2000 + 8 * width) << 32
        memory.bursts.clear()
        drivers[0].send({"address": np.array([address]), "beats_minus_one": np.array([beats - 1])})
        if limit:
            assert await next_error(dut) == (ErrorCode.ADDRESS_WINDOW, address)
            await drain(dut)
            await wait_cycles(dut, 40)
            assert memory.bursts == [] and monitors[0].raw == []
            await restart(dut)
            drivers[2].send({"address": np.array([0x1000]), "beats_minus_one": np.array([0])})
            await wait_cycles(dut, 40)
            assert memory.bursts == [(0x1000, 1)]
    await monitors[0].receive(8)
    assert memory.bursts == [(0x2000, 8)]


@cocotb.test()
async def halt_drains_and_delivers_nothing(dut):
    content, drivers, monitors = await begin(dut)
    memory = ReadMemory(dut, content, latency=50, stall=parameters()["stall"])
    drivers[1].send({"address": np.arange(64) * 256, "beats_minus_one": np.full(64, 7)})
    while memory.outstanding < 8:
        await RisingEdge(dut.clk)
    dut.guard__halt.value = 1
    await wait_cycles(dut, 2)
    before, delivered = len(memory.bursts), [len(monitor.raw) for monitor in monitors]
    await drain(dut)
    assert memory.outstanding == 0 and len(memory.bursts) <= before + 1
    await wait_cycles(dut, 60)
    assert dut.guard__quiescent.value == 1
    assert delivered == [len(monitor.raw) for monitor in monitors]


@cocotb.test()
async def crosses_a_page(dut):
    """Breaks the clients' promise: stopped by the hardware's assertion."""
    _, drivers, _ = await begin(dut)
    drivers[0].send({"address": np.array([0x1000 - 4]), "beats_minus_one": np.array([1])})
    await wait_cycles(dut, 20)
