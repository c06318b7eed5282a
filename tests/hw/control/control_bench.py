"""Runs inside the simulator: a host on the AXI4-Lite port, and a machine that this bench plays."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from tessera.hw.control.counters import Watchdog
from tessera.hw.control.guards import Guards
from tessera.hw.interfaces.sequencer import run_settings_layout
from tessera.hw.isa import CycleCause, ErrorCode, StallSource
from tessera.hw.register_map import REGISTERS, SHARE_BITS, Access
from tessera.sim.bench.streams import clock_and_reset, parameters, rng, wait_cycles
from tests.helpers.lite_host import LiteHost

OFFSET = {name: register.offset for name, register in REGISTERS.items()}
READ_WRITE = [name for name, register in REGISTERS.items() if register.access is Access.READ_WRITE]
WIDTH = {name: REGISTERS[name].width for name in READ_WRITE}
BUSY, DONE, ERROR, SATURATED = 1, 2, 4, 8
NOBODY = 0xFFFFFFFF
REGISTER_OF = {"task_index": "task", "image_base": "image_address", "output_base": "output_address"}
"""Registers of the settings that have another name."""


async def begin(dut, *, stall=None):
    await clock_and_reset(dut)
    dut.found__progress.value = 1
    quiescent(dut, 1)
    return LiteHost(dut, stall=parameters()["stall"] if stall is None else stall)


def quiescent(dut, value):
    """Set what all units that touch memory say of themselves."""
    dut.guard__0__quiescent.value = dut.guard__1__quiescent.value = value


def run_settings(dut):
    """Settings of the run and the window, by the names of their registers."""
    bits, found = int(dut.run__settings.value), {}
    for name, field in run_settings_layout():
        found[REGISTER_OF.get(name, name)] = bits >> field.offset & ((1 << field.width) - 1)
    (window,) = {int(getattr(dut, f"guard__{unit}__window").value) for unit in range(2)}
    found |= {"window_base": window & 0xFFFFFFFF, "window_limit": window >> 32}
    return found


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


async def running(dut, host, length, drive, causes=None):
    """A run of ``length`` cycles: ``drive(index)`` sets the inputs of each; the ``causes`` come a cycle later."""
    drive(0)
    await start(dut, host)
    # `start` returned at the end of the first running cycle.
    for index in range(1, length):
        drive(index)
        if causes is not None:
            dut.found__cause.value = int(causes[index - 1])
        dut.progress__finished.value = int(index == length - 1)
        await RisingEdge(dut.clk)
    dut.progress__finished.value = 0
    if causes is not None:
        dut.found__cause.value = int(causes[-1])
        await RisingEdge(dut.clk)


@cocotb.test()
async def counters(dut):
    """Every cycle has one cause; bytes are counted beside."""
    host = await begin(dut)
    random = rng("events")
    width = 1 << (parameters()["configuration"] >> 8 & 15)
    for length in (150, 90):
        causes, beats = random.integers(0, len(CycleCause), length), random.integers(0, 2, (length, 2))

        def drive(index, beats=beats):
            dut.beats.value = int(beats[index] @ [1, 2])

        await running(dut, host, length, drive, causes)
        assert await host.read(OFFSET["cycles"]) == length
        for cause in CycleCause:
            assert await host.read(OFFSET[cause.counter]) == (causes == cause).sum(), cause
        for name, count in zip(("read_bytes", "write_bytes"), beats.sum(axis=0), strict=True):
            assert await host.read(OFFSET[name]) == count * width, name


@cocotb.test()
async def stamps_of_commands_that_end_together(dut):
    """One command starts a cycle at most, but all units may end theirs at once, and again soon after."""
    host = await begin(dut)
    random = rng("stamps")
    units = len(dut_ends(dut))
    for length in (220, 150):
        starts = dict(zip(map(int, random.permutation(length)[:30]), map(int, random.permutation(512)), strict=False))
        # A unit's ends are `units` cycles apart or more; all units end in the last cycle too.
        rounds = range(10, length - units - 2, units + 1)
        ends = {(unit, at + int(random.integers(0, 2) * (unit == 3))) for at in rounds for unit in range(units)}
        ends |= {(unit, length - 1) for unit in range(units)}
        commands = dict(zip(sorted(ends), map(int, random.permutation(512)), strict=False))

        def drive(index, starts=starts, commands=commands):
            dut.progress__started.value = int(index in starts)
            dut.progress__index.value = starts.get(index, 0)
            for unit, port in enumerate(dut_ends(dut)):
                port[0].value = int((unit, index) in commands)
                port[1].value = commands.get((unit, index), 0)

        await running(dut, host, length, drive)
        drive(length)
        await wait_cycles(dut, 3)
        for at, command in starts.items():
            assert await _stamp(host, command, "stamp_start") == at, command
        for (unit, at), command in commands.items():
            assert await _stamp(host, command, "stamp_end") == at, (unit, command)


def dut_ends(dut):
    """Valid and payload of each unit's ``ended``."""
    return [
        (getattr(dut, f"ended__{unit}__valid"), getattr(dut, f"ended__{unit}__payload"))
        for unit in range(parameters()["units"])
    ]


@cocotb.test()
async def every_cycle_has_an_owner(dut):
    """Cycles of each command by cause, from the chain of owners; entries of earlier runs are not in it."""
    host = await begin(dut)
    random = rng("owners")
    limit = parameters()["max_commands"]
    lengths = (400, 1, 2, 300, 40)
    for number, length in enumerate(lengths):
        last = (limit - 1, 5, 1, 2 * limit, 9)[number]
        changes = np.sort(random.choice(last, min(length, last, 60), replace=False))
        owners = changes[np.sort(random.integers(0, len(changes), length))]
        owners[-1] = last if number != 1 else 0
        causes = random.integers(0, len(CycleCause), length)
        seen = owners.copy()
        # The first cycle belongs to command 0, whatever the last run left there.
        seen[0], owners[0] = owners[-1] + 7, 0

        def drive(index, seen=seen):
            dut.found__owner.value = int(seen[index])

        await running(dut, host, length, drive, causes) if length > 1 else await _one_cycle(dut, host, drive, causes)
        await wait_cycles(dut, 3)
        want = {}
        for owner, cause in zip(owners, causes, strict=True):
            if owner < limit:
                want.setdefault(int(owner), [0] * len(CycleCause))[cause] += 1
        assert await _shares(host) == want, number


async def _one_cycle(dut, host, drive, causes):
    """A run that ends in its first cycle."""
    drive(0)
    dut.progress__finished.value = 1
    await start(dut, host)
    dut.progress__finished.value, dut.found__cause.value = 0, int(causes[0])
    await RisingEdge(dut.clk)


async def _shares(host):
    """Cycles of the commands in the chain, as a host takes them: differences modulo the width of an entry."""
    entries, command = [], await host.read(OFFSET["last_owner"])
    while command != NOBODY:
        values = [await _stamp(host, command, cause.stamp) for cause in CycleCause]
        entries.append((command, values))
        command = await host.read(OFFSET["stamp_previous"])
    before, shares = [0] * len(CycleCause), {}
    for command, values in reversed(entries):
        shares[command] = [(now - then) % (1 << SHARE_BITS) for now, then in zip(values, before, strict=True)]
        before = values
    return shares


@cocotb.test()
async def owners_of_a_run_that_fails(dut):
    """The chain ends with the command in progress when the machine halted."""
    host = await begin(dut)
    dut.found__cause.value = CycleCause.WEIGHTS
    await start(dut, host)
    await wait_cycles(dut, 9)
    dut.found__owner.value = 4
    await wait_cycles(dut, 5)
    await pulse(dut, "guard__0__error", ErrorCode.BAD_FIELD)
    await wait_cycles(dut, 10)
    shares = await _shares(host)
    assert list(shares) == [0, 4] and shares[4][CycleCause.WEIGHTS] == 6 + Guards.LATENCY
    assert sum(map(sum, shares.values())) == await host.read(OFFSET["cycles"])


@cocotb.test()
async def stamps_beyond_the_memory_are_dropped(dut):
    host = await begin(dut)
    await start(dut, host)
    dut.progress__index.value = 3
    await pulse(dut, "progress__started")
    kept = await _stamp(host, 3, "stamp_start")
    dut.progress__index.value = parameters()["max_commands"] + 3
    await pulse(dut, "progress__started")
    assert await _stamp(host, 3, "stamp_start") == kept


async def _stamp(host, command, register):
    await host.write(OFFSET["stamp_select"], command)
    return await host.read(OFFSET[register])
