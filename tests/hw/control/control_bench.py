"""Runs inside the simulator: a host on the AXI4-Lite port, and a machine that this bench plays; registers and runs."""

import cocotb
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from tessera.hw.control.counters import Watchdog
from tessera.hw.control.guards import Guards
from tessera.hw.isa import ErrorCode, StallSource
from tessera.hw.register_map import REGISTERS
from tessera.sim.bench.streams import clock_and_reset, parameters, rng, wait_cycles
from tests.hw.control.host import (
    BUSY,
    DONE,
    ERROR,
    NOBODY,
    OFFSET,
    READ_WRITE,
    SATURATED,
    WIDTH,
    begin,
    count_pulses,
    error_of,
    pulse,
    quiescent,
    run_settings,
    start,
)


@cocotb.test()
async def every_address_reads_and_writes_as_the_table_says(dut):
    host = await begin(dut)
    fixed = {"identity": 0x54455353, "version": 2, "configuration": parameters()["configuration"]}
    model = {name: 0 for name in REGISTERS} | fixed | {"last_owner": NOBODY}
    random = rng("registers")
    by_offset = {offset: name for name, offset in OFFSET.items()}
    for _ in range(400):
        offset = int(random.choice(range(0, 256, 4)))
        name = by_offset.get(offset)
        if random.random() < 0.5:
            assert await host.read(offset) == (model[name] if name else 0), name or hex(offset)
        elif name != "control":
            value, strobes = int(random.integers(1 << 32)), int(random.integers(16))
            await host.write(offset, value, strobes)
            if name and name in READ_WRITE:
                mask = sum(0xFF << 8 * i for i in range(4) if strobes >> i & 1)
                model[name] = (model[name] & ~mask | value & mask) & ((1 << WIDTH[name]) - 1)
    for name in REGISTERS:
        assert await host.read(OFFSET[name]) == model[name], name


@cocotb.test()
async def one_answer_a_request_in_any_order(dut):
    """Addresses and data of writes come in either order and with any distance; answers wait for the host."""
    host = await begin(dut, stall=0.7)
    random = rng("order")
    values = random.integers(0, 1 << 32, 60)
    names = [name for name in READ_WRITE if WIDTH[name] == 32]
    for index, value in enumerate(values):
        name = names[index % len(names)]
        await host.write(OFFSET[name], int(value), 15, lead=int(random.integers(-5, 6)))
        assert await host.read(OFFSET[name]) == value
    await wait_cycles(dut, 50)
    assert (host.write_answers, host.read_answers) == (60, 60)
    for value in range(10):
        await host.post(OFFSET["image_address"], value)
        await host.post(OFFSET["image_address"])
    await wait_cycles(dut, 50)
    assert (host.write_answers, host.read_answers) == (70, 70)


@cocotb.test()
async def registers_through_cocotbext(dut):
    await clock_and_reset(dut)
    host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst)
    for salt, channel in (
        ("b", host.write_if.b_channel),
        ("r", host.read_if.r_channel),
        ("w", host.write_if.w_channel),
    ):
        random = rng(salt)
        channel.set_pause_generator(iter(lambda random=random: random.random() < 0.4, None))
    for name in READ_WRITE:
        await host.write_dword(OFFSET[name], OFFSET[name] * 0x01010101)
    for name in READ_WRITE:
        want = OFFSET[name] * 0x01010101 & ((1 << WIDTH[name]) - 1)
        assert await host.read_dword(OFFSET[name]) == want, name


@cocotb.test()
async def run_to_done(dut):
    host = await begin(dut)
    counts = {}
    cocotb.start_soon(count_pulses(dut, "run__start", counts))
    settings = {name: int(rng(name).integers(1 << WIDTH[name])) for name in run_settings(dut)}
    for name, value in settings.items():
        await host.write(OFFSET[name], value)
    await host.write(OFFSET["interrupt_enable"], 1)
    await host.write(OFFSET["control"], 1)
    await wait_cycles(dut, 5)
    assert counts["run__start"] == 1 and dut.running.value == 1
    assert run_settings(dut) == settings
    for name, value in settings.items():
        await host.write(OFFSET[name], value ^ 1)
    await host.write(OFFSET["control"], 1)
    assert await host.read(OFFSET["status"]) == BUSY
    await pulse(dut, "saturated")
    assert run_settings(dut) == settings
    assert dut.interrupt.value == 0
    await pulse(dut, "progress__finished")
    await wait_cycles(dut, 2)
    assert dut.interrupt.value == 1 and dut.running.value == 0
    assert counts["run__start"] == 1
    assert await host.read(OFFSET["status"]) == DONE | SATURATED
    await host.write(OFFSET["interrupt_clear"], 0)
    await wait_cycles(dut, 2)
    assert dut.interrupt.value == 0
    await host.write(OFFSET["control"], 1)
    await wait_cycles(dut, 3)
    assert counts["run__start"] == 2 and run_settings(dut)["task"] == settings["task"] ^ 1
    assert await host.read(OFFSET["status"]) == BUSY


@cocotb.test()
async def first_error_halts_and_restart_works(dut):
    host = await begin(dut)
    counts = {}
    cocotb.start_soon(count_pulses(dut, "clear", counts))
    await host.write(OFFSET["interrupt_enable"], 2)
    await pulse(dut, "guard__1__error", ErrorCode.BUS_READ)
    assert await host.read(OFFSET["status"]) == 0, "an idle machine has no errors"
    for _ in range(2):
        await start(dut, host)
        quiescent(dut, 0)
        dut.command_index.value = 77
        dut.error__0__payload.value = ErrorCode.BUS_WRITE | 0x222 << 8
        dut.error__0__valid.value = 1
        await pulse(dut, "guard__1__error", ErrorCode.BUS_READ | 0xABCD0123 << 8)
        dut.error__0__valid.value = 0
        dut.command_index.value = 0
        await pulse(dut, "guard__0__error", ErrorCode.BAD_OPCODE)
        await wait_cycles(dut, 50)
        assert dut.guard__0__halt.value == 1 and dut.running.value == 0 and dut.interrupt.value == 1
        assert await host.read(OFFSET["status"]) == BUSY | ERROR
        assert await error_of(host) == (ErrorCode.BUS_READ, 77, 0xABCD0123)
        cleared = counts.get("clear", 0)
        quiescent(dut, 1)
        await wait_cycles(dut, 6)
        assert counts["clear"] == cleared + 1 and dut.guard__0__halt.value == 0
        assert await host.read(OFFSET["status"]) == ERROR
        await host.write(OFFSET["interrupt_clear"], 1)
    await start(dut, host)
    assert await host.read(OFFSET["status"]) == BUSY
    assert await error_of(host) == (0, 0, 0)
    await pulse(dut, "progress__finished")
    await wait_cycles(dut, 2)
    assert await host.read(OFFSET["status"]) == DONE and dut.interrupt.value == 0


@cocotb.test()
async def halt_waits_for_masters_to_notice(dut):
    """Quiescent is stale in the cycles after the error: it must not end the halt at once."""
    host = await begin(dut)
    await start(dut, host)
    await pulse(dut, "guard__0__error", ErrorCode.BAD_FIELD)
    await wait_cycles(dut, 2 * Guards.LATENCY)
    for _ in range(4):
        await RisingEdge(dut.clk)
        assert dut.guard__0__halt.value == 1 and dut.clear.value == 0


@cocotb.test()
async def abort_halts_and_clears_errors(dut):
    host = await begin(dut)
    await start(dut, host)
    await host.write(OFFSET["control"], 2)
    await wait_cycles(dut, 20)
    assert await host.read(OFFSET["status"]) == 0 and dut.interrupt.value == 0
    await start(dut, host)
    await pulse(dut, "guard__0__error", ErrorCode.BAD_FIELD)
    await wait_cycles(dut, 20)
    assert await host.read(OFFSET["status"]) == ERROR
    await host.write(OFFSET["control"], 3)
    await wait_cycles(dut, 20)
    assert await host.read(OFFSET["status"]) == 0 and dut.running.value == 0
    assert await error_of(host) == (0, 0, 0)


@cocotb.test()
async def watchdog_names_what_was_waited_for(dut):
    host = await begin(dut)
    for limit in (20, 1):
        await host.write(OFFSET["watchdog_limit"], limit)
        await start(dut, host)
        dut.found__stalled_on.value = StallSource.STREAM
        dut.command_index.value = 5
        if limit == 20:
            for _ in range(5):
                dut.found__progress.value = 0
                await wait_cycles(dut, 18)
                assert dut.guard__0__halt.value == 0
                await pulse(dut, "found__progress")
                dut.found__progress.value = 1
                await RisingEdge(dut.clk)
        dut.found__progress.value = 0
        for waited in range(limit + 1 + Watchdog.LATENCY + Guards.LATENCY):
            assert dut.guard__0__halt.value == 0, waited
            await RisingEdge(dut.clk)
        assert dut.guard__0__halt.value == 1
        dut.found__progress.value = 1
        await wait_cycles(dut, 10)
        assert await error_of(host) == (ErrorCode.WATCHDOG, 5, StallSource.STREAM)
    await host.write(OFFSET["watchdog_limit"], 0)
    await start(dut, host)
    dut.found__progress.value = 0
    await wait_cycles(dut, 500)
    assert dut.guard__0__halt.value == 0
