"""Runs inside the simulator: traffic against the memory model ``sim/models/memory.sv``."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiMaster
from cocotbext.axi.constants import AxiResp

from tessera.sim.bench.backdoor import MemoryBackdoor
from tessera.sim.bench.streams import parameters

WORKERS = 4
IMAGE_BYTES = 4001
INPUTS = ("arvalid", "rready", "awvalid", "wvalid", "bready")


async def start(dut):
    """Start the clock and reset the memory with every channel idle."""
    for name in INPUTS:
        getattr(dut, name).value = 0
    Clock(dut.clk, 10, unit="ns").start(start_high=False)
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


def master(dut, *, pauses=0.0):
    """Return an AXI master on the memory's ports, which is not ready for answers with this probability."""
    axi = AxiMaster(AxiBus.from_entity(dut), dut.clk, dut.rst)
    if pauses:
        for salt, channel in (("r", axi.read_if.r_channel), ("b", axi.write_if.b_channel)):
            chooser = random.Random(f"{cocotb.RANDOM_SEED}{salt}")
            channel.set_pause_generator(iter(lambda chooser=chooser: chooser.random() < pauses, None))
    return axi


async def request_reads(dut, requests):
    """Drive AR with (address, beats) pairs as fast as they are accepted; return the edge number of each transfer."""
    edges = []
    for address, beats in requests:
        dut.araddr.value, dut.arlen.value, dut.arsize.value, dut.arburst.value = (
            address,
            beats - 1,
            parameters()["size"],
            1,
        )
        dut.arvalid.value = 1
        await RisingEdge(dut.clk)
        while dut.arready.value != 1:
            await RisingEdge(dut.clk)
        edges.append(int(dut.now.value))
    dut.arvalid.value = 0
    return edges


async def collect_reads(dut, beats):
    """Accept read beats; return (edge number, data, last) of each."""
    got = []
    dut.rready.value = 1
    while len(got) < beats:
        await RisingEdge(dut.clk)
        if dut.rvalid.value == 1:
            got.append((int(dut.now.value), int(dut.rdata.value), int(dut.rlast.value)))
    return got


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def random_traffic(dut):
    """Four workers read and write ranges of their own at random; the memory must equal a plain byte array."""
    await start(dut)
    axi, door = master(dut, pauses=parameters()["pauses"]), MemoryBackdoor(dut)
    share = door.size // WORKERS
    model = bytearray(door.read(0, door.size))
    assert bytes(model[:IMAGE_BYTES]) == bytes(parameters()["image"]), "the image was not loaded byte for byte"
    assert not any(model[IMAGE_BYTES:]), "memory beyond the image is not zero"

    async def worker(number):
        chooser = random.Random(cocotb.RANDOM_SEED * WORKERS + number)
        for _ in range(parameters()["operations"]):
            address = number * share + chooser.randrange(share)
            length = chooser.randrange(1, min(6000, (number + 1) * share - address) + 1)
            if chooser.random() < 0.5:
                content = chooser.randbytes(length)
                assert (await axi.write(address, content)).resp == AxiResp.OKAY
                model[address : address + length] = content
            else:
                assert (await axi.read(address, length)).data == model[address : address + length]

    for task in [cocotb.start_soon(worker(number)) for number in range(WORKERS)]:
        await task
    assert door.read(0, door.size) == bytes(model)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def back_door_agrees_with_front_door(dut):
    """Bytes written through the back door, at any alignment, are read by the bus and by the back door."""
    await start(dut)
    axi, door = master(dut), MemoryBackdoor(dut)
    for address, length in ((0, 1), (3, 40), (door.size - 5, 5), (4093, 9), (64, 64)):
        content = bytes(random.randrange(256) for _ in range(length))
        before, after = door.read(0, address), door.read(address + length, door.size - address - length)
        door.write(address, content)
        await RisingEdge(dut.clk)
        assert (await axi.read(address, length)).data == content
        assert door.read(0, door.size) == before + content + after


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def latency_and_bandwidth(dut):
    """The first beat comes after read_latency, then one a cycle, across bursts too."""
    await start(dut)
    requests = cocotb.start_soon(request_reads(dut, [(0, 16), (1024, 8), (2048, 1), (4096, 16)]))
    got = await collect_reads(dut, 41)
    accepted = await requests
    assert accepted == list(range(accepted[0], accepted[0] + 4))
    assert got[0][0] - accepted[0] == parameters()["latency"]
    assert [edge for edge, _, _ in got] == list(range(got[0][0], got[0][0] + 41))
    assert [index for index, (_, _, last) in enumerate(got) if last] == [15, 23, 24, 40]


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def requests_beyond_the_limit_wait(dut):
    """More single-beat reads and writes than the model holds: none is lost while no answer is accepted."""
    await start(dut)
    axi, door = master(dut), MemoryBackdoor(dut)
    size, count = door.word_bytes, 40
    channels = (axi.read_if.r_channel, axi.write_if.b_channel)
    for channel in channels:
        channel.pause = True
    reads = [axi.init_read(index * size, size) for index in range(count)]
    writes = [axi.init_write((100 + index) * size, bytes([index + 1] * size)) for index in range(count)]
    for _ in range(200):
        await RisingEdge(dut.clk)
    assert not any(operation.is_set() for operation in (*reads, *writes))
    for channel in channels:
        channel.pause = False
    for index, operation in enumerate(reads):
        await operation.wait()
        assert operation.data.data == door.read(index * size, size)
    for index, operation in enumerate(writes):
        await operation.wait()
        assert operation.data.resp == AxiResp.OKAY
        assert door.read((100 + index) * size, size) == bytes([index + 1] * size)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def requests_beyond_the_limit_wait_without_data(dut):
    """Of 20 write requests that bring no data, 16 are accepted."""
    await start(dut)
    dut.awaddr.value, dut.awlen.value, dut.awsize.value, dut.awburst.value = 0, 0, parameters()["size"], 1
    dut.awvalid.value = 1
    accepted = 0
    for _ in range(20):
        await RisingEdge(dut.clk)
        accepted += int(dut.awready.value)
    assert accepted == 16


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def errors_are_answered_and_nothing_is_written(dut):
    """SLVERR inside the window, DECERR beyond the memory, OKAY beside them."""
    await start(dut)
    axi, door = master(dut), MemoryBackdoor(dut)
    dut.error_low.value, dut.error_high.value = 0x400, 0x440
    for address, response in ((0x400, AxiResp.SLVERR), (0x420, AxiResp.SLVERR), (door.size, AxiResp.DECERR)):
        before = door.read(0, door.size)
        assert (await axi.write(address, bytes([0xA5] * 32))).resp == response
        answer = await axi.read(address, 32)
        assert answer.resp == response and answer.data == bytes(32)
        assert door.read(0, door.size) == before
    assert (await axi.write(0x430, bytes([0xA5] * 32))).resp == AxiResp.SLVERR
    for address in (0x3E0, 0x440):
        assert (await axi.write(address, bytes([0xA5] * 32))).resp == AxiResp.OKAY
    before = door.read(0x3C0, 64)
    assert (await axi.write(0x3C0, bytes([0x5A] * 80))).resp == AxiResp.SLVERR
    assert door.read(0x3C0, 64) == bytes([0x5A] * 64) != before


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def flipped_bit(dut):
    """Exactly one bit of one byte reads inverted, and the stored byte is untouched."""
    await start(dut)
    axi, door = master(dut), MemoryBackdoor(dut)
    dut.flip_address.value, dut.flip_bit.value = 77, 5
    expected = bytearray(door.read(0, 256))
    expected[77] ^= 1 << 5
    assert (await axi.read(0, 256)).data == expected


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def dropped_beat(dut):
    """Beat 5 never comes; its neighbours do."""
    await start(dut)
    door = MemoryBackdoor(dut)
    dut.drop_read_beat.value = 5
    cocotb.start_soon(request_reads(dut, [(0, 8)]))
    got = await collect_reads(dut, 7)
    size = door.word_bytes
    words = [int.from_bytes(door.read(index * size, size), "little") for index in range(8) if index != 5]
    assert [data for _, data, _ in got] == words
    for _ in range(200):
        await RisingEdge(dut.clk)
        assert dut.rvalid.value == 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stalls_happen(dut):
    """A stall of 128 in 256 on R roughly halves the bandwidth."""
    await start(dut)
    dut.stall_r.value = 128
    cocotb.start_soon(request_reads(dut, [(0, 16)] * 16))
    got = await collect_reads(dut, 256)
    assert 400 < got[-1][0] - got[0][0] < 640


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def illegal_request(dut):
    """Drive one AR that breaks a rule; the model must stop the simulation."""
    await start(dut)
    for name, value in parameters()["request"].items():
        getattr(dut, name).value = value
    dut.arvalid.value = 1
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.araddr.value = 64
    await RisingEdge(dut.clk)
    await RisingEdge(dut.clk)
