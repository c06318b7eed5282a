"""Runs inside the simulator: a host on the AXI4-Lite port, and a machine that this bench plays."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from hw.bus.control import RUN_SETTINGS, SETTING_PORTS
from hw.isa import REGISTERS, ErrorCode, StallSource
from sim.streams import clock_and_reset, parameters, read, rng, wait_cycles
from tests.hw.lite_host import LiteHost

OFFSET = {name: offset for name, (offset, _) in REGISTERS.items()}
ACCESS = {name: text.split(":")[0] for name, (_, text) in REGISTERS.items()}
WIDTH = {"task": 4, "interrupt_enable": 2, "stamp_select": 16}
BUSY, DONE, ERROR, SATURATED = 1, 2, 4, 8


async def begin(dut, *, stall=None):
    await clock_and_reset(dut)
    dut.progress.value = 1
    dut.quiescent.value = 1
    return LiteHost(dut, stall=parameters()["stall"] if stall is None else stall)


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


@cocotb.test()
async def every_address_reads_and_writes_as_the_table_says(dut):
    host = await begin(dut)
    fixed = {"identity": 0x54455353, "version": 1, "configuration": parameters()["configuration"]}
    model = {name: 0 for name in REGISTERS} | fixed
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
            if name and ACCESS[name] == "rw":
                mask = sum(0xFF << 8 * i for i in range(4) if strobes >> i & 1)
                model[name] = (model[name] & ~mask | value & mask) & ((1 << WIDTH.get(name, 32)) - 1)
    for name in REGISTERS:
        assert await host.read(OFFSET[name]) == model[name], name


@cocotb.test()
async def one_answer_a_request_in_any_order(dut):
    """Addresses and data of writes come in either order and with any distance; answers wait for the host."""
    host = await begin(dut, stall=0.7)
    random = rng("order")
    values = random.integers(0, 1 << 32, 60)
    names = [n for n in REGISTERS if ACCESS[n] == "rw" and n not in WIDTH]
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
    for name in REGISTERS:
        if ACCESS[name] == "rw":
            await host.write_dword(OFFSET[name], OFFSET[name] * 0x01010101)
    for name in REGISTERS:
        if ACCESS[name] == "rw":
            want = OFFSET[name] * 0x01010101 & ((1 << WIDTH.get(name, 32)) - 1)
            assert await host.read_dword(OFFSET[name]) == want, name


@cocotb.test()
async def run_to_done(dut):
    host = await begin(dut)
    counts = {}
    cocotb.start_soon(count_pulses(dut, "start", counts))
    settings = {name: int(rng(name).integers(1 << WIDTH.get(name, 32))) for name in RUN_SETTINGS}
    for name, value in settings.items():
        await host.write(OFFSET[name], value)
    await host.write(OFFSET["interrupt_enable"], 1)
    await host.write(OFFSET["control"], 1)
    await wait_cycles(dut, 5)
    assert counts["start"] == 1 and dut.running.value == 1
    for name, value in settings.items():
        assert read(getattr(dut, SETTING_PORTS.get(name, name))) == value, name
        await host.write(OFFSET[name], value ^ 1)
    await host.write(OFFSET["control"], 1)
    assert await host.read(OFFSET["status"]) == BUSY
    await pulse(dut, "saturated")
    assert {name: read(getattr(dut, SETTING_PORTS.get(name, name))) for name in settings} == settings
    assert dut.interrupt.value == 0
    await pulse(dut, "finished")
    await wait_cycles(dut, 2)
    assert dut.interrupt.value == 1 and dut.running.value == 0
    assert counts["start"] == 1
    assert await host.read(OFFSET["status"]) == DONE | SATURATED
    await host.write(OFFSET["interrupt_clear"], 0)
    await wait_cycles(dut, 2)
    assert dut.interrupt.value == 0
    await host.write(OFFSET["control"], 1)
    await wait_cycles(dut, 3)
    assert counts["start"] == 2 and read(dut.task_index) == settings["task"] ^ 1
    assert await host.read(OFFSET["status"]) == BUSY


async def start(dut, host):
    """Start a run; returns at the end of its first cycle."""
    cocotb.start_soon(host.write(OFFSET["control"], 1))
    await RisingEdge(dut.clk)
    while dut.running.value != 1:
        await RisingEdge(dut.clk)


async def error_of(host):
    return tuple([await host.read(OFFSET[f"error_{part}"]) for part in ("code", "command", "address")])


@cocotb.test()
async def first_error_halts_and_restart_works(dut):
    host = await begin(dut)
    counts = {}
    cocotb.start_soon(count_pulses(dut, "clear", counts))
    await host.write(OFFSET["interrupt_enable"], 2)
    await pulse(dut, "error__1", ErrorCode.BUS_READ)
    assert await host.read(OFFSET["status"]) == 0, "an idle machine has no errors"
    for _ in range(2):
        await start(dut, host)
        dut.quiescent.value = 0
        dut.command_index.value = 77
        dut.error__2__payload.value = ErrorCode.BUS_WRITE | 0x222 << 8
        dut.error__2__valid.value = 1
        await pulse(dut, "error__1", ErrorCode.BUS_READ | 0xABCD0123 << 8)
        dut.error__2__valid.value = 0
        dut.command_index.value = 0
        await pulse(dut, "error__0", ErrorCode.BAD_OPCODE)
        await wait_cycles(dut, 50)
        assert dut.halt.value == 1 and dut.running.value == 0 and dut.interrupt.value == 1
        assert await host.read(OFFSET["status"]) == BUSY | ERROR
        assert await error_of(host) == (ErrorCode.BUS_READ, 77, 0xABCD0123)
        cleared = counts.get("clear", 0)
        dut.quiescent.value = 1
        await wait_cycles(dut, 6)
        assert counts["clear"] == cleared + 1 and dut.halt.value == 0
        assert await host.read(OFFSET["status"]) == ERROR
        await host.write(OFFSET["interrupt_clear"], 1)
    await start(dut, host)
    assert await host.read(OFFSET["status"]) == BUSY
    assert await error_of(host) == (0, 0, 0)
    await pulse(dut, "finished")
    await wait_cycles(dut, 2)
    assert await host.read(OFFSET["status"]) == DONE and dut.interrupt.value == 0


@cocotb.test()
async def halt_waits_for_masters_to_notice(dut):
    """Quiescent is stale in the cycles after the error: it must not end the halt at once."""
    host = await begin(dut)
    await start(dut, host)
    await pulse(dut, "error__0", ErrorCode.BAD_FIELD)
    for _ in range(4):
        await RisingEdge(dut.clk)
        assert dut.halt.value == 1 and dut.clear.value == 0


@cocotb.test()
async def abort_halts_and_clears_errors(dut):
    host = await begin(dut)
    await start(dut, host)
    await host.write(OFFSET["control"], 2)
    await wait_cycles(dut, 20)
    assert await host.read(OFFSET["status"]) == 0 and dut.interrupt.value == 0
    await start(dut, host)
    await pulse(dut, "error__0", ErrorCode.BAD_FIELD)
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
        dut.stalled_on.value = StallSource.STREAM
        dut.command_index.value = 5
        if limit == 20:
            for _ in range(5):
                dut.progress.value = 0
                await wait_cycles(dut, 18)
                assert dut.halt.value == 0
                await pulse(dut, "progress")
                dut.progress.value = 1
                await RisingEdge(dut.clk)
        dut.progress.value = 0
        for waited in range(limit + 1):
            assert dut.halt.value == 0, waited
            await RisingEdge(dut.clk)
        assert dut.halt.value == 1
        dut.progress.value = 1
        await wait_cycles(dut, 10)
        assert await error_of(host) == (ErrorCode.WATCHDOG, 5, StallSource.STREAM)
    await host.write(OFFSET["watchdog_limit"], 0)
    await start(dut, host)
    dut.progress.value = 0
    await wait_cycles(dut, 500)
    assert dut.halt.value == 0


@cocotb.test()
async def counters_and_stamps(dut):
    host = await begin(dut)
    random = rng("events")
    width = 1 << (parameters()["configuration"] >> 8 & 15)
    names = ("mac_busy", "stall_weights", "stall_attention", "stall_drain", "idle_cycles", "read_beat", "write_beat")
    for length in (150, 90):
        for name in names:
            getattr(dut, name).value = 1
        await start(dut, host)
        events = random.integers(0, 2, (length, len(names)))
        stamps = {}
        starts, ends = random.permutation(length)[:20], random.permutation(length)[:20]
        # `start` returned after the first running cycle, in which all events were 1.
        for index in range(length):
            for name, value in zip(names, events[index], strict=True):
                getattr(dut, name).value = int(value)
            for port, at in (("started", starts), ("ended", ends)):
                here = np.flatnonzero(at == index)
                getattr(dut, f"{port}__valid").value = len(here)
                if len(here):
                    getattr(dut, f"{port}__payload").value = int(here[0]) * 3
                    stamps[port, int(here[0]) * 3] = index + 1
            dut.finished.value = int(index == length - 1)
            await RisingEdge(dut.clk)
        dut.finished.value = dut.started__valid.value = dut.ended__valid.value = 0
        for name in names:
            getattr(dut, name).value = 1
        totals = events.sum(axis=0) + 1
        assert await host.read(OFFSET["cycles"]) == length + 1
        for name, total in zip(names, totals, strict=True):
            register = {"read_beat": "read_bytes", "write_beat": "write_bytes"}.get(name, name)
            assert await host.read(OFFSET[register]) == total * (width if name.endswith("beat") else 1), name
        for (port, command), at in stamps.items():
            await host.write(OFFSET["stamp_select"], command)
            register = {"started": "stamp_start", "ended": "stamp_end"}[port]
            assert await host.read(OFFSET[register]) == at, (port, command)


@cocotb.test()
async def stamps_beyond_the_memory_are_dropped(dut):
    host = await begin(dut)
    await start(dut, host)
    await pulse(dut, "started", 3)
    kept = await _stamp(host, 3)
    await pulse(dut, "started", parameters()["max_commands"] + 3)
    assert await _stamp(host, 3) == kept


async def _stamp(host, command):
    await host.write(OFFSET["stamp_select"], command)
    return await host.read(OFFSET["stamp_start"])
