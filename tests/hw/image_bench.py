"""Runs inside the simulator: images of many shapes behind a read master, against NumPy."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiRamRead, AxiReadBus

from hw.isa import ErrorCode
from sim.streams import StreamDriver, StreamMonitor, clock_and_reset, parameters, record, rng, wait_cycles
from tests.hw.axi_models import ReadMemory, until

SIZE = 1 << 18


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
    base = width * int(random.integers(0, 4096 // width)) + 0x1000
    for colour in range(3):
        for line in range(rows * patch):
            at = base + colour * plane_bytes + line * row_bytes
            memory[at : at + columns * patch] = image[colour, line].tobytes()
    job = {
        "destination_base": int(random.integers(0, 1000)),
        "destination_stride": int(random.integers(64, 100)),
        "patch": patch,
        "grid_rows": rows,
        "grid_columns": columns,
        "row_bytes": row_bytes,
        "plane_bytes": plane_bytes,
        "image_base": base,
    }
    return image, {key: np.array([value]) for key, value in job.items()}


async def begin(dut):
    settings = parameters()
    await clock_and_reset(dut)
    dut.window_limit.value = SIZE
    memory = bytearray(rng("memory").integers(0, 256, SIZE, dtype=np.uint8).tobytes())
    return settings, memory, StreamDriver(dut, "job"), StreamMonitor(dut, "scratch_write")


async def check(dut, image, job, driver, monitor, lanes):
    want = patch_rows(image, int(job["patch"][0]), lanes)
    driver.send(job)
    got = await monitor.receive(want.shape[0] * want.shape[1])
    await RisingEdge(dut.clk)
    assert dut.done.value == 1
    await RisingEdge(dut.clk)
    assert dut.done.value == 0
    assert np.array_equal(got["data"], want.reshape(-1, lanes))
    address = np.arange(want.shape[0])[:, None] * job["destination_stride"] + np.arange(want.shape[1])
    assert np.array_equal(got["address"], (address + job["destination_base"]).ravel())
    assert (got["columns"] == (1 << parameters()["columns"]) - 1).all()
    monitor.assert_empty()


@cocotb.test()
async def images(dut):
    settings, memory, driver, monitor = await begin(dut)
    width, random = len(dut.bus__rdata) // 8, rng("images")
    model = ReadMemory(dut, memory, latency=15, stall=settings["stall"])
    for patch, rows, columns in ((1, 2, 3), (2, 3, 5), (4, 2, 2), (8, 3, 2), (16, 1, 4), (32, 2, 1), (64, 1, 1)):
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
    address = int(job["image_base"][0] + job["plane_bytes"][0] + job["row_bytes"][0])
    model = ReadMemory(dut, memory, latency=15, stall=settings["stall"], broken={address})
    driver.send(job)
    await until(dut, "error__valid")
    assert int(dut.error__payload.value) & 0xFF == ErrorCode.BUS_READ
    await until(dut, "quiescent")
    await wait_cycles(dut, 100)
    dut.rst.value = 1
    await wait_cycles(dut, 2)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    model.broken.clear()
    monitor.raw.clear()
    await check(dut, image, job, driver, monitor, settings["lanes"])


@cocotb.test()
async def bandwidth(dut):
    settings, memory, driver, monitor = await begin(dut)
    model = ReadMemory(dut, memory, latency=60)
    image, job = place(memory, 16, 4, 8, rng("image"), len(dut.bus__rdata) // 8)
    await check(dut, image, job, driver, monitor, settings["lanes"])
    pixels = 3 * 64 * 128
    record(pixels_per_cycle=pixels / (monitor.cycles[-1] - driver.cycles[0]), outstanding=model.most)
