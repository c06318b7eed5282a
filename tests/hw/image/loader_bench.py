"""Runs inside the simulator: images of many shapes behind a read master, against NumPy."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiRamRead, AxiReadBus

from tessera.hw.isa import ErrorCode
from tessera.sim.bench.streams import (
    StreamDriver,
    StreamMonitor,
    clock_and_reset,
    cycle,
    parameters,
    record,
    rng,
    wait_cycles,
)
from tests.helpers.axi_models import ReadMemory, until

SIZE = 1 << 18
# Patch, grid rows, grid columns: one patch a line, one block or several, the last of them full or not.
SHAPES = (
    *((1, 2, 3), (1, 3, 1), (1, 2, 37), (2, 3, 5), (2, 2, 16), (4, 2, 2), (4, 2, 33), (8, 3, 2), (8, 1, 19)),
    *((16, 1, 4), (16, 2, 17), (32, 2, 1), (64, 1, 1), (128, 1, 1), (8, 1, 3), (2, 2, 2), (1, 2, 2)),
)


def patch_rows(image, patch, lanes):
    """(patches, words, lanes): rows of patches in the order of a flattened kernel, padded to whole words."""
    colours, height, width = image.shape
    rows = image.reshape(colours, height // patch, patch, width // patch, patch)
    rows = rows.transpose(1, 3, 0, 2, 4).reshape(-1, colours * patch * patch)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % lanes)))
    return padded.reshape(len(rows), -1, lanes)


def place(memory, patch, rows, columns, random, width):
    """Put a random image somewhere; returns it with its job: gaps between rows and planes, as alignment allows."""
    grain = min(patch, width)
    image = random.integers(0, 256, (3, rows * patch, columns * patch), dtype=np.uint8)
    row_bytes = -(-(columns * patch + int(random.integers(0, 40))) // grain) * grain
    plane_bytes = row_bytes * rows * patch + grain * int(random.integers(0, 5))
    base, offset = (width * int(random.integers(0, 4096 // width)) + 0x1000 for _ in range(2))
    for colour in range(3):
        for line in range(rows * patch):
            at = base + offset + colour * plane_bytes + line * row_bytes
            memory[at : at + columns * patch] = image[colour, line].tobytes()
    job = {
        "destination_base": int(random.integers(0, 1000)),
        "destination_stride": -(-3 * patch * patch // parameters()["lanes"]) + int(random.integers(0, 5)),
        "patch": patch,
        "grid_rows": rows,
        "grid_columns": columns,
        "row_bytes": row_bytes,
        "plane_bytes": plane_bytes,
        "offset": offset,
        "image_base": base,
    }
    return image, {key: np.array([value]) for key, value in job.items()}


async def begin(dut):
    settings = parameters()
    await clock_and_reset(dut)
    dut.guard__window.value = SIZE << 32
    memory = bytearray(rng("memory").integers(0, 256, SIZE, dtype=np.uint8).tobytes())
    monitor = StreamMonitor(dut, "scratch_write", stall=settings["stall"])
    return settings, memory, StreamDriver(dut, "job"), monitor


async def watch(dut):
    """Cycle by cycle until ``done``: when it was raised, and when ``rows_done`` took its values from 0 on."""
    cycles = []
    while dut.report__done.value != 1:
        await RisingEdge(dut.clk)
        rows = int(dut.report__rows_done.value)
        if rows == len(cycles):
            cycles.append(cycle())
        assert rows == len(cycles) - 1, f"rows_done is {rows} after {len(cycles) - 1}"
    finished = cycle()
    await RisingEdge(dut.clk)
    assert dut.report__done.value == 0
    return finished, cycles


async def check(dut, image, job, driver, monitor, lanes):
    """One job: every word once and right, patches complete in raster order and counted in the cycle after."""
    want = patch_rows(image, int(job["patch"][0]), lanes)
    patches, words = want.shape[:2]
    driver.send(job)
    await driver.drained()
    begun = len(monitor.cycles)
    finished, rows_done = await with_timeout(watch(dut), 1, "ms")
    got = await monitor.receive(patches * words, timeout_cycles=1)
    monitor.assert_empty()
    address = np.arange(patches)[:, None] * job["destination_stride"] + np.arange(words) + job["destination_base"]
    order = np.argsort(got["address"])
    assert np.array_equal(got["address"][order], address.ravel())
    assert np.array_equal(got["data"][order], want.reshape(-1, lanes))
    assert (got["columns"] == (1 << parameters()["columns"]) - 1).all()
    complete = np.array(monitor.cycles[begun:])[order].reshape(patches, words).max(axis=1)
    assert np.array_equal(complete + 1, rows_done[1:])
    assert finished == complete[-1] + 1


@cocotb.test()
async def images(dut):
    settings, memory, driver, monitor = await begin(dut)
    width, random = len(dut.bus__rdata) // 8, rng("images")
    model = ReadMemory(dut, memory, latency=15, stall=settings["stall"])
    for patch, rows, columns in SHAPES:
        image, job = place(memory, patch, rows, columns, random, width)
        await check(dut, image, job, driver, monitor, settings["lanes"])
    assert model.outstanding == 0


@cocotb.test()
async def image_from_cocotbext(dut):
    settings, memory, driver, monitor = await begin(dut)
    image, job = place(memory, 8, 3, 4, rng("image"), len(dut.bus__rdata) // 8)
    ram = AxiRamRead(AxiReadBus.from_prefix(dut, "bus_"), dut.clk, dut.rst, size=SIZE)
    ram.write(0, bytes(memory))
    await check(dut, image, job, driver, monitor, settings["lanes"])


@cocotb.test()
async def restart_after_a_bus_error(dut):
    settings, memory, driver, monitor = await begin(dut)
    image, job = place(memory, 4, 4, 4, rng("image"), len(dut.bus__rdata) // 8)
    address = int(sum(job[name][0] for name in ("image_base", "offset", "plane_bytes", "row_bytes")))
    model = ReadMemory(dut, memory, latency=15, stall=settings["stall"], broken={address})
    driver.send(job)
    await until(dut, "guard__error__valid")
    assert int(dut.guard__error__payload.value) & 0xFF == ErrorCode.BUS_READ
    await until(dut, "guard__quiescent")
    await wait_cycles(dut, 100)
    dut.rst.value = 1
    await wait_cycles(dut, 2)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    model.broken.clear()
    monitor.raw.clear()
    monitor.cycles.clear()
    await check(dut, image, job, driver, monitor, settings["lanes"])


@cocotb.test()
async def bandwidth(dut):
    settings, memory, driver, monitor = await begin(dut)
    model = ReadMemory(dut, memory, latency=60)
    spent = {}
    for patch, rows, columns in settings["shapes"]:
        image, job = place(memory, patch, rows, columns, rng("image"), len(dut.bus__rdata) // 8)
        await check(dut, image, job, driver, monitor, settings["lanes"])
        spent[str(patch)] = monitor.cycles[-1] - driver.cycles[-1]
    record(spent=spent, outstanding=model.most)
