"""Runs inside the simulator: the weight stream behind a read master, against ``stream_model``."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiRamRead, AxiReadBus

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.jobs import StreamKind
from tessera.hw.isa import ErrorCode
from tessera.sim.bench.streams import StreamDriver, StreamMonitor, clock_and_reset, parameters, record, rng, wait_cycles
from tests.helpers.axi_models import ReadMemory, until
from tests.hw.stream.stream_model import Expected, deliver, random_jobs

START = 0x1000
OUTPUTS = ("fill", "parameters", "scratch_write", "residual_write", "shift_write", "table_write", "list_write")


class Machine:
    """What surrounds the stream: an engine that gives tiles back, and a dispatcher that permits blocks in turn."""

    def __init__(self, dut, config, *, stall=0.0, frees=True):
        self.dut, self.config, self.frees = dut, config, frees
        self.filled = self.freed = 0
        self.random = rng("machine")
        self.stall = stall
        self.job = StreamDriver(dut, "job", stall=stall)
        self.monitors = {
            name: StreamMonitor(dut, f"delivery__{name}", stall=stall if name in ("fill", "parameters") else 0.0)
            for name in OUTPUTS
        }
        dut.guard__window.value = 0xFFFFFFFF << 32
        cocotb.start_soon(self._engine())

    async def _engine(self):
        dut = self.dut
        free = 0
        while True:
            await RisingEdge(dut.clk)
            self.freed += free
            self.filled += int(dut.tiles__filled.value)
            assert self.filled - self.freed <= 2, "a third tile was filled"
            free = int(self.frees and self.filled > self.freed and self.random.random() >= self.stall)
            dut.tiles__freed.value = free

    def forget(self):
        """Begin again after a reset."""
        self.filled = self.freed = 0
        for monitor in self.monitors.values():
            monitor.raw.clear()

    def send(self, jobs):
        self.job.send({key: np.array([job[key] for job in jobs]) for key in jobs[0]})

    async def permit_all(self, jobs, memory):
        """Permit each block that waits, a while after the one before, and check it is complete when reported."""
        expected = Expected()
        for job in jobs:
            deliver(self.config, memory, job, expected)
            if job["kind"] == StreamKind.WEIGHTS:
                continue
            await wait_cycles(self.dut, int(self.random.integers(1, 60)))
            self.dut.report__permit.value = 1
            names = {StreamKind.STAGE: "scratch_write", StreamKind.RESIDUAL: "residual_write"}
            name = names.get(job["kind"], f"{StreamKind(job['kind']).name.lower().removesuffix('s')}_write")
            await until(self.dut, "report__done")
            self.dut.report__permit.value = 0
            assert len(self.monitors[name].raw) == len(getattr(expected, name)), f"{name}: done at the wrong time"
            await RisingEdge(self.dut.clk)
            assert self.dut.report__done.value == 0

    async def check(self, expected):
        for name in OUTPUTS:
            want, monitor = getattr(expected, name), self.monitors[name]
            if name == "parameters":
                await monitor.receive(len(want))
                assert [_bits(row["bits"]) for row in want] == monitor.raw
            elif want:
                got = await monitor.receive(len(want))
                for key in want[0]:
                    wanted = np.array([row[key] for row in want])
                    assert np.array_equal(got[key].reshape(wanted.shape), wanted), f"{name}.{key}"
        await wait_cycles(self.dut, 300)
        for monitor in self.monitors.values():
            monitor.assert_empty()
        assert self.filled == expected.tiles


def _bits(row):
    return sum(int(value) << 64 * index for index, value in enumerate(row))


def expected_of(config, memory, jobs):
    expected = Expected()
    for job in jobs:
        deliver(config, memory, job, expected)
    return expected


def setting():
    settings = parameters()
    config = AcceleratorConfig.from_dict(settings["config"])
    memory = bytearray(rng("memory").integers(0, 256, 1 << 18, dtype=np.uint8).tobytes())
    return config, memory, settings["stall"]


@cocotb.test()
async def blocks_of_all_kinds(dut):
    config, memory, stall = setting()
    jobs = random_jobs(config, rng("jobs"), 40, START)
    await clock_and_reset(dut)
    machine = Machine(dut, config, stall=stall)
    ReadMemory(dut, memory, latency=20, stall=stall)
    machine.send(jobs)
    await machine.permit_all(jobs, memory)
    await machine.check(expected_of(config, memory, jobs))


@cocotb.test()
async def blocks_from_cocotbext(dut):
    config, memory, stall = setting()
    jobs = random_jobs(config, rng("other jobs"), 12, START)
    await clock_and_reset(dut)
    machine = Machine(dut, config, stall=stall)
    ram = AxiRamRead(AxiReadBus.from_prefix(dut, "bus_"), dut.clk, dut.rst, size=1 << 18)
    ram.write(0, bytes(memory))
    random = rng("pauses")
    ram.r_channel.set_pause_generator(iter(lambda: random.random() < stall, None))
    machine.send(jobs)
    await machine.permit_all(jobs, memory)
    await machine.check(expected_of(config, memory, jobs))


def weights(config, *, tiles, words, address=START, channels=0):
    size = tiles * words * config.elements * config.lanes
    size += -(-8 * channels // config.chunk_bytes) * config.chunk_bytes
    values = {"kind": 0, "address": address, "bytes": size, "channels": channels, "tiles": tiles, "words": words}
    return values | {"base": 0, "wide": 0}


@cocotb.test()
async def third_tile_waits_for_a_buffer(dut):
    """Meanwhile memory is read ahead as far as there is room, and no further."""
    config, memory, stall = setting()
    await clock_and_reset(dut)
    machine = Machine(dut, config, stall=stall, frees=False)
    model = ReadMemory(dut, memory)
    ahead = config.stream_beats * config.memory_bytes
    words, tile = 16, 16 * config.elements * config.lanes
    job = weights(config, tiles=3 + 2 * ahead // tile, words=words)
    machine.send([job])
    await wait_cycles(dut, 3 * (ahead + 2 * tile) // config.memory_bytes)
    per_tile = words * config.elements // config.words_per_chunk
    assert len(machine.monitors["fill"].raw) == 2 * per_tile and machine.filled == 2
    unused = sum(beats for _, beats in model.bursts) * config.memory_bytes - 2 * tile
    assert ahead * 3 // 4 <= unused <= ahead + 2 * config.chunk_bytes
    machine.frees = True
    await machine.check(expected_of(config, memory, [job]))


@cocotb.test()
async def nothing_waits_for_the_permit_but_its_block(dut):
    """Blocks before a STAGE block pass; it and what follows stay; memory is read on meanwhile."""
    config, memory, stall = setting()
    await clock_and_reset(dut)
    machine = Machine(dut, config, stall=stall)
    model = ReadMemory(dut, memory)
    first = weights(config, tiles=1, words=2, channels=config.elements * 2)
    stage = {**first, "kind": 1, "address": START + 0x1000, "bytes": 8 * config.chunk_bytes, "words": 3, "tiles": 0}
    last = weights(config, tiles=1, words=2, address=START + 0x2000)
    machine.send([first, stage, last])
    await wait_cycles(dut, 1500)
    assert machine.filled == 1 and machine.monitors["scratch_write"].raw == []
    assert model.bursts[-1][0] >= last["address"]
    await machine.permit_all([first, stage, last], memory)
    await machine.check(expected_of(config, memory, [first, stage, last]))


@cocotb.test()
async def restart_after_a_bus_error(dut):
    config, memory, stall = setting()
    await clock_and_reset(dut)
    machine = Machine(dut, config, stall=stall)
    job = weights(config, tiles=6, words=8, channels=config.elements)
    model = ReadMemory(dut, memory, latency=25, stall=stall, broken={START + job["bytes"] // 2})
    machine.send([job])
    await until(dut, "guard__error__valid")
    assert int(dut.guard__error__payload.value) & 0xFF == ErrorCode.BUS_READ
    await until(dut, "guard__quiescent")
    await machine.job.drained()
    await wait_cycles(dut, 200)
    dut.rst.value = 1
    await wait_cycles(dut, 2)
    machine.forget()
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    model.broken.clear()
    machine.send([job])
    await machine.check(expected_of(config, memory, [job]))


@cocotb.test()
async def bandwidth(dut):
    """Weights and parameters of several blocks at 60 cycles' latency, engine never in the way."""
    config, memory, _ = setting()
    await clock_and_reset(dut)
    machine = Machine(dut, config)
    model = ReadMemory(dut, memory, latency=60)
    jobs, address = [], START
    beats = 0
    while beats < 6000 and address < 200_000:
        jobs.append(weights(config, tiles=8, words=12, channels=8 * config.elements, address=address))
        address += -(-jobs[-1]["bytes"] // 64) * 64
        beats += jobs[-1]["bytes"] // config.memory_bytes
    machine.send(jobs)
    await machine.check(expected_of(config, memory, jobs))
    at = model.beat_cycles
    assert len(at) == beats
    chunks = sorted(machine.monitors["fill"].cycles + machine.monitors["parameters"].cycles)
    chunk_beats = config.chunk_bytes // config.memory_bytes
    record(
        beats=beats,
        memory_rate=(beats - 1) / (at[-1] - at[0]),
        delivery_rate=(len(chunks) - 1) * chunk_beats / (chunks[-1] - chunks[0]),
    )
