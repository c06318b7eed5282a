"""AXI4 memories for benches: latency, random pauses, error answers, and a check of what the master must keep to.

The rules (AXI4 chapter A3): INCR bursts of full-width aligned beats, no 4 KiB crossing, requests and data stable until
accepted, last on the last beat.
"""

from __future__ import annotations

from collections import deque

import cocotb
from cocotb.triggers import RisingEdge

from tessera.sim.bench.streams import cycle, rng

OKAY, SLVERR = 0, 2


async def until(dut, name, cycles=20000):
    """Wait until a one-bit port is 1; fail when that takes too long."""
    for _ in range(cycles):
        await RisingEdge(dut.clk)
        if getattr(dut, name).value == 1:
            return
    raise AssertionError(f"{name} never came")


class _Channel:
    """One channel that the master drives: samples it each cycle and checks that it keeps still until accepted."""

    def __init__(self, dut, names, valid, ready):
        self._handles = [getattr(dut, f"bus__{name}") for name in names]
        self._valid, self._ready = getattr(dut, f"bus__{valid}"), getattr(dut, f"bus__{ready}")
        self._name, self._waiting = valid, None
        self.ready = False

    def offer(self, ready):
        self.ready = ready
        self._ready.value = int(ready)

    def sample(self):
        """Return the payload of a transfer in the cycle that ends, or None."""
        if self._valid.value != 1:
            assert self._waiting is None, f"{self._name} fell before it was accepted"
            return None
        payload = tuple(int(handle.value) for handle in self._handles)
        assert self._waiting in (None, payload), f"{self._name}: {self._waiting} became {payload} while waiting"
        self._waiting = None if self.ready else payload
        return payload if self.ready else None


def check_burst(address, length, size, kind, width):
    """Fail unless AXI and the machine's own rules allow the burst."""
    assert (kind, 1 << size) == (1, width), f"burst kind {kind}, beats of {1 << size} bytes; need 1, {width}"
    assert address % width == 0, f"address {address:#x} is not aligned to {width} bytes"
    assert address % 4096 + (length + 1) * width <= 4096, f"burst at {address:#x} of {length + 1} beats crosses 4 KiB"


class ReadMemory:
    """Answers reads from ``content`` (a bytearray at address 0); bursts that touch ``broken`` addresses get SLVERR.

    Members: ``bursts`` as (address, beats), in order; ``beat_cycles``; ``outstanding`` and its largest value ``most``.
    """

    def __init__(self, dut, content, *, latency=4, stall=0.0, broken=frozenset()):
        self.content, self.latency, self.stall, self.broken = content, latency, stall, set(broken)
        self.bursts, self.beat_cycles, self.most = [], [], 0
        self._dut, self._width = dut, len(dut.bus__rdata) // 8
        self._queue = deque()
        cocotb.start_soon(self._run())

    @property
    def outstanding(self):
        return len(self._queue)

    async def _run(self):
        dut, width, random = self._dut, self._width, rng("read memory")
        asked = _Channel(dut, ("araddr", "arlen", "arsize", "arburst"), "arvalid", "arready")
        beat = 0
        shown = False
        while True:
            asked.offer(random.random() >= self.stall)
            if shown:
                self.beat_cycles.append(cycle())
            show = bool(self._queue) and cycle() >= self._queue[0][0] and random.random() >= self.stall
            if show:
                _, address, length = self._queue[0]
                at = address + beat * width
                dut.bus__rdata.value = int.from_bytes(self.content[at : at + width], "little")
                dut.bus__rresp.value = SLVERR if self.broken & set(range(at, at + width)) else OKAY
                dut.bus__rlast.value = int(beat == length)
                beat += 1
                if beat > length:
                    beat = 0
                    self._queue.popleft()
            dut.bus__rvalid.value = int(show)
            shown = show
            await RisingEdge(dut.clk)
            assert not shown or dut.bus__rready.value == 1
            request = asked.sample()
            if request:
                address, length, size, kind = request
                check_burst(address, length, size, kind, width)
                self.bursts.append((address, length + 1))
                self._queue.append((cycle() + self.latency - 1, address, length))
                self.most = max(self.most, len(self._queue))


class WriteMemory:
    """Takes writes into ``content``; a burst that touches a ``broken`` address is dropped and gets SLVERR.

    Members: ``bursts`` as (address, beats); ``beats`` transferred; ``most`` bursts unanswered at a time.
    """

    def __init__(self, dut, content, *, latency=4, stall=0.0, broken=frozenset()):
        self.content, self.latency, self.stall, self.broken = content, latency, stall, set(broken)
        self.bursts, self.beat_cycles, self.most = [], [], 0
        self._dut, self._width = dut, len(dut.bus__wdata) // 8
        cocotb.start_soon(self._run())

    async def _run(self):
        dut, width, random = self._dut, self._width, rng("write memory")
        asked = _Channel(dut, ("awaddr", "awlen", "awsize", "awburst"), "awvalid", "awready")
        given = _Channel(dut, ("wdata", "wstrb", "wlast"), "wvalid", "wready")
        addressed, answers = deque(), deque()
        beat = 0
        while True:
            asked.offer(random.random() >= self.stall)
            given.offer(bool(addressed) and random.random() >= self.stall)
            answer = bool(answers) and cycle() >= answers[0][0] and random.random() >= self.stall
            dut.bus__bvalid.value = int(answer)
            if answer:
                dut.bus__bresp.value = answers.popleft()[1]
            await RisingEdge(dut.clk)
            assert dut.bus__bready.value == 1
            transfer = given.sample()
            if transfer:
                address, length = addressed[0]
                at = address + beat * width
                word, strobes, last = transfer
                assert last == (beat == length), f"last is {last} on beat {beat} of {length + 1}"
                for index, byte in enumerate(word.to_bytes(width, "little")):
                    if strobes >> index & 1 and at + index not in self.broken:
                        self.content[at + index] = byte
                self.beat_cycles.append(cycle())
                beat += 1
                if last:
                    bad = self.broken & set(range(address, address + beat * width))
                    answers.append((cycle() + self.latency - 1, SLVERR if bad else OKAY))
                    addressed.popleft()
                    beat = 0
            request = asked.sample()
            if request:
                address, length, size, kind = request
                check_burst(address, length, size, kind, width)
                self.bursts.append((address, length + 1))
                addressed.append((address, length))
            self.most = max(self.most, len(addressed) + len(answers))
