"""Runs inside the simulator: traffic against the memory model ``sim/memory.sv``."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiMaster
from cocotbext.axi.constants import AxiResp

from sim.memory import MemoryBackdoor
from sim.streams import parameters

WORKERS = 4
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


def master(dut):
    """Return an AXI master on the memory's ports."""
    return AxiMaster(AxiBus.from_entity(dut), dut.clk, dut.rst)


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


@cocotb.test()
async def random_traffic(dut):
    """Four workers read and write ranges of their own at random; the memory must equal a plain byte array."""
    await start(dut)
    axi, door = master(dut), MemoryBackdoor(dut)
    share = door.size // WORKERS
    model = bytearray(door.read(0, door.size))
    assert bytes(model[:4000]) == bytes(parameters()["image"]), "the image was not loaded byte for byte"
    assert not any(model[4000:]), "memory beyond the image is not zero"

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


@cocotb.test()
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


@cocotb.test()
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


@cocotb.test()
async def errors_are_answered_and_nothing_is_written(dut):
    """SLVERR inside the window, DECERR beyond the memory, OKAY beside them."""
    await start(dut)
    axi, door = master(dut), MemoryBackdoor(dut)
    dut.error_low.value, dut.error_high.value = 0x400, 0x440
    for address, response in ((0x400, AxiResp.SLVERR), (0x420, AxiResp.SLVERR), (door.size, AxiResp.DECERR)):
        before = door.read(0, door.size)
        assert (await axi.write(address, bytes([0xA5] * 32))).resp == response
        assert (await axi.read(address, 32)).resp == response
        assert door.read(0, door.size) == before
    for address in (0x3E0, 0x440):
        assert (await axi.write(address, bytes([0xA5] * 32))).resp == AxiResp.OKAY
    before = door.read(0x3C0, 64)
    assert (await axi.write(0x3C0, bytes([0x5A] * 80))).resp == AxiResp.SLVERR
    assert door.read(0x3C0, 64) == bytes([0x5A] * 64) != before


@cocotb.test()
async def flipped_bit(dut):
    """Exactly one bit of one byte reads inverted, and the stored byte is untouched."""
    await start(dut)
    axi, door = master(dut), MemoryBackdoor(dut)
    dut.flip_address.value, dut.flip_bit.value = 77, 5
    expected = bytearray(door.read(0, 256))
    expected[77] ^= 1 << 5
    assert (await axi.read(0, 256)).data == expected


@cocotb.test()
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


@cocotb.test()
async def stalls_happen(dut):
    """A stall of 128 in 256 on R roughly halves the bandwidth."""
    await start(dut)
    dut.stall_r.value = 128
    cocotb.start_soon(request_reads(dut, [(0, 16)] * 16))
    got = await collect_reads(dut, 256)
    assert 400 < got[-1][0] - got[0][0] < 640


@cocotb.test()
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
