"""Runs inside the simulator: residual rows to memory."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiRamWrite, AxiWriteBus

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.memory import RESIDUAL_LATENCY
from tessera.hw.isa import ErrorCode
from tessera.sim.bench.streams import StreamDriver, clock_and_reset, parameters, record, rng, wait_cycles
from tests.helpers.axi_models import WriteMemory, until

SIZE = 1 << 17
BASE = 0x2000


class Residual:
    """The residual memory's read port, which other units take for the part ``busy`` of the cycles."""

    def __init__(self, dut, words, width, busy):
        self._dut, self._busy, self._random = dut, busy, rng("others")
        self._bits = [sum((int(v) & ((1 << width) - 1)) << width * i for i, v in enumerate(word)) for word in words]
        cocotb.start_soon(self._run())

    async def _run(self):
        pipe = [0] * RESIDUAL_LATENCY
        while True:
            self._dut.residual_read_ready.value = ready = int(self._random.random() >= self._busy)
            await RisingEdge(self._dut.clk)
            enabled = self._dut.residual_read__enable.value == 1 and ready
            address = int(self._dut.residual_read__address.value) if enabled else None
            pipe = [self._bits[address % len(self._bits)] if address is not None else 0, *pipe[:-1]]
            self._dut.residual_read__data.value = pipe[-1]


async def begin(dut):
    config = AcceleratorConfig.from_dict(parameters()["config"])
    await clock_and_reset(dut)
    dut.guard__window.value = SIZE << 32
    width = config.numerics.residual_width
    words = rng("residual").integers(-(1 << width - 1), 1 << width - 1, (512, config.lanes))
    Residual(dut, words, width, parameters()["stall"])
    return config, words, StreamDriver(dut, "job")


def job_of(config, *, rows, words, base=3, stride=11, offset=0x100, output_base=BASE):
    values = {"source_base": base, "source_stride": stride, "rows": rows, "words": words}
    return {k: np.array([v]) for k, v in (values | {"offset": offset, "output_base": output_base}).items()}


def expected_bytes(residual, job):
    rows, words = int(job["rows"][0]), int(job["words"][0])
    index = job["source_base"] + np.arange(rows)[:, None] * job["source_stride"] + np.arange(words)
    return residual[index.ravel()].astype("<i4").tobytes()


async def store(dut, job, driver, residual, content, *, read=None):
    """Run a job; check the bytes written and that nothing around them was touched."""
    before = bytes(content) if read is None else None
    driver.send(job)
    await until(dut, "report__done")
    assert dut.guard__quiescent.value == 1
    want = expected_bytes(residual, job)
    at = int(job["output_base"][0] + job["offset"][0])
    if read is not None:
        assert read(at, len(want)) == want
    else:
        assert bytes(content) == before[:at] + want + before[at + len(want) :]
    await RisingEdge(dut.clk)
    assert dut.report__done.value == 0


@cocotb.test()
async def rows_against_own_model(dut):
    config, residual, driver = await begin(dut)
    content = bytearray(SIZE)
    memory = WriteMemory(dut, content, latency=12, stall=parameters()["stall"])
    for rows, words, offset in ((1, 1, 0), (5, 3, 0x100), (9, 12, 0xFC0), (2, 11, 0x2000)):
        job = job_of(config, rows=rows, words=words, stride=words + 2, offset=offset)
        await store(dut, job, driver, residual, content)
    assert memory.most > 1


@cocotb.test()
async def rows_against_cocotbext(dut):
    config, residual, driver = await begin(dut)
    ram = AxiRamWrite(AxiWriteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst, size=SIZE)
    stall = parameters()["stall"]
    for channel in (ram.aw_channel, ram.w_channel, ram.b_channel):
        random = rng(f"pause {channel}")
        channel.set_pause_generator(iter(lambda random=random: random.random() < stall, None))
    await store(dut, job_of(config, rows=6, words=7), driver, residual, None, read=ram.read)


async def restart(dut):
    dut.rst.value = 1
    await wait_cycles(dut, 2)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


@cocotb.test()
async def error_response_stops_and_names_the_burst(dut):
    config, residual, driver = await begin(dut)
    content = bytearray(SIZE)
    row = 3 * 4 * config.lanes
    memory = WriteMemory(dut, content, latency=30, stall=parameters()["stall"], broken={BASE + 0x100 + 2 * row})
    job = job_of(config, rows=40, words=3)
    driver.send(job)
    await until(dut, "guard__error__valid")
    address = int(dut.guard__error__payload.value) >> 8
    assert int(dut.guard__error__payload.value) & 0xFF == ErrorCode.BUS_WRITE
    assert address in [burst[0] for burst in memory.bursts] and address <= BASE + 0x100 + 2 * row < address + row
    await until(dut, "guard__quiescent")
    issued = len(memory.bursts)
    assert issued < 40
    await wait_cycles(dut, 200)
    assert len(memory.bursts) == issued and dut.guard__quiescent.value == 1 and dut.report__done.value == 0
    await restart(dut)
    memory.broken.clear()
    content[:] = bytes(SIZE)
    await store(dut, job, driver, residual, content)


@cocotb.test()
async def burst_outside_the_window_is_refused(dut):
    config, residual, driver = await begin(dut)
    content = bytearray(SIZE)
    memory = WriteMemory(dut, content, stall=parameters()["stall"])
    row = 3 * 4 * config.lanes
    job = job_of(config, rows=4, words=3, offset=0)
    limit = BASE + 2 * row
    for low, high, refused in ((0, limit, BASE + 2 * row), (BASE + 1, SIZE, BASE), (0, limit - 1, BASE + row)):
        dut.guard__window.value = low | high << 32
        memory.bursts.clear()
        driver.send(job)
        await until(dut, "guard__error__valid")
        assert int(dut.guard__error__payload.value) == ErrorCode.ADDRESS_WINDOW | refused << 8
        await until(dut, "guard__quiescent")
        await wait_cycles(dut, 50)
        assert [burst[0] for burst in memory.bursts] == list(range(BASE, refused, row))
        await restart(dut)
    assert not any(content[limit:])
    dut.guard__window.value = BASE | (BASE + 4 * row) << 32
    await store(dut, job, driver, residual, content)


@cocotb.test()
async def halt_completes_what_was_issued(dut):
    config, residual, driver = await begin(dut)
    content = bytearray(SIZE)
    memory = WriteMemory(dut, content, latency=20, stall=parameters()["stall"])
    job = job_of(config, rows=30, words=5)
    driver.send(job)
    await wait_cycles(dut, 60)
    dut.guard__halt.value = 1
    await wait_cycles(dut, 2)
    issued = len(memory.bursts)
    await until(dut, "guard__quiescent")
    assert len(memory.bursts) <= issued + 1 < 30
    beats = sum(burst[1] for burst in memory.bursts)
    assert len(memory.beat_cycles) == beats
    await wait_cycles(dut, 50)
    await restart(dut)
    dut.guard__halt.value = 0
    content[:] = bytes(SIZE)
    await store(dut, job, driver, residual, content)


@cocotb.test()
async def bandwidth(dut):
    config, residual, driver = await begin(dut)
    memory = WriteMemory(dut, bytearray(SIZE), latency=60)
    driver.send(job_of(config, rows=40, words=12, stride=12))
    await until(dut, "report__done", 60000)
    at = memory.beat_cycles
    record(rate=(len(at) - 1) / (at[-1] - at[0]))
