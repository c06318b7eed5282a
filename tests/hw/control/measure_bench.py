"""Runs inside the simulator: what a run measures, by counters, causes of cycles and time stamps of commands."""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tessera.hw.control.guards import Guards
from tessera.hw.isa import CycleCause, ErrorCode
from tessera.hw.register_map import SHARE_BITS
from tessera.sim.bench.streams import parameters, rng, wait_cycles
from tests.hw.control.host import NOBODY, OFFSET, begin, pulse, start


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
