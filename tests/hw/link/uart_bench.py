"""Runs inside the simulator: bytes over a line whose clock is not ours."""

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge, Timer, with_timeout
from cocotb.utils import get_sim_time

from tessera.sim.bench.streams import CLOCK_PERIOD_NS, StreamDriver, clock_and_reset, parameters, rng, wait_cycles

CYCLES = parameters()["cycles_per_bit"]
BIT_PS = CYCLES * CLOCK_PERIOD_NS * 1000


async def send(dut, content, *, mismatch=0.0, stop=1, jitter=False):
    """Put bytes on ``rx`` without gaps, by a clock that is slower by ``mismatch``."""
    random, edge, now = rng("jitter"), 0.0, 0
    for byte in content:
        for bit in (0, *(byte >> index & 1 for index in range(8)), stop):
            dut.rx.value = bit
            edge += BIT_PS * (1 + mismatch)
            until = round(edge + (random.uniform(-0.1, 0.1) * BIT_PS if jitter else 0))
            await Timer(until - now, "ps")
            now = until
    dut.rx.value = 1


async def collect(dut, found, errors):
    """Keep what the receiver gives."""
    while True:
        await RisingEdge(dut.clk)
        if dut.received__valid.value == 1:
            found.append(int(dut.received__payload.value))
        if dut.framing_error.value == 1:
            errors.append(len(found))


async def begin(dut):
    found, errors = [], []
    await clock_and_reset(dut)
    dut.rx.value = 1
    await wait_cycles(dut, 20)
    cocotb.start_soon(collect(dut, found, errors))
    return found, errors


@cocotb.test()
async def bytes_arrive_from_a_clock_two_percent_off(dut):
    found, errors = await begin(dut)
    content = [int(byte) for byte in rng("bytes").integers(0, 256, 100)] + [0x00, 0xFF, 0x55, 0xAA, 0x00, 0xFF]
    for mismatch in (0.02, -0.02, 0.0) if CYCLES >= 16 else (0.0,):
        found.clear()
        await Timer(int(rng(str(mismatch)).integers(0, CLOCK_PERIOD_NS * 1000)), "ps")
        await send(dut, content, mismatch=mismatch)
        await wait_cycles(dut, int(2 * CYCLES))
        assert found == content and not errors, f"clock off by {mismatch}"


@cocotb.test()
async def edges_may_be_early_or_late(dut):
    found, errors = await begin(dut)
    content = [int(byte) for byte in rng("jitter bytes").integers(0, 256, 60)]
    await send(dut, content, jitter=True)
    await wait_cycles(dut, int(2 * CYCLES))
    assert found == content and not errors


@cocotb.test()
async def missing_stop_bit_drops_the_byte_only(dut):
    found, errors = await begin(dut)
    await send(dut, [0x41])
    await send(dut, [0x42], stop=0)
    await Timer(round(2 * BIT_PS), "ps")
    await send(dut, [0x43])
    dut.rx.value = 0  # a break: low for several bytes
    await Timer(round(40 * BIT_PS), "ps")
    dut.rx.value = 1
    await Timer(round(2 * BIT_PS), "ps")
    await send(dut, [0x44])
    await wait_cycles(dut, int(2 * CYCLES))
    assert found == [0x41, 0x43, 0x44] and errors == [1, 2]


@cocotb.test()
async def a_glitch_is_no_start_bit(dut):
    found, errors = await begin(dut)
    for length in range(1, int(CYCLES / 2) - 1):
        dut.rx.value = 0
        await wait_cycles(dut, length)
        dut.rx.value = 1
        await wait_cycles(dut, int(2 * CYCLES))
    assert not found and not errors
    await send(dut, [0x5A])
    await wait_cycles(dut, int(2 * CYCLES))
    assert found == [0x5A]


@cocotb.test()
async def sent_bytes_keep_the_rate_without_gaps(dut):
    await begin(dut)
    driver = StreamDriver(dut, "sent")
    content = [int(byte) for byte in rng("sent").integers(0, 256, 120)]
    for part in (content[:1], content[1:20], content[20:]):
        driver.send_raw(part)
        await with_timeout(FallingEdge(dut.tx), 10, "us")
        start = get_sim_time("ps")
        for number, byte in enumerate(part):
            for index in range(10):
                middle = start + BIT_PS * (10 * number + index + 0.5)
                await Timer(max(1, round(middle - get_sim_time("ps"))), "ps")
                bits = (0, *(byte >> bit & 1 for bit in range(8)), 1)
                assert dut.tx.value == bits[index], f"bit {index} of byte {number} ({byte:#x})"
        await wait_cycles(dut, int(3 * CYCLES))
        assert dut.tx.value == 1
