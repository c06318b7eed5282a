"""Helpers for code inside the simulator: clock and reset, valid/ready streams, ports, random numbers, parameters.

Streams follow Amaranth's ``stream.Signature``: ports ``<name>__valid``, ``<name>__ready`` and ``<name>__payload``.
Valid and ready are absent when the component declares them always true. Drivers and monitors act once per clock edge:
they read the values from before the edge, and their writes take effect after it.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import Event, First, RisingEdge, Timer
from cocotb.utils import get_sim_time

from tessera.sim.bench.packing import Fields, pack_beats, unpack_beats

CLOCK_PERIOD_NS = 10


def parameters() -> dict[str, Any]:
    """Return a new copy of the parameters that ``run_testbench`` was given."""
    return json.loads((Path(os.environ["TESSERA_BENCH_RUN"]) / "parameters.json").read_text(encoding="utf-8"))


def record(**values: Any) -> None:
    """Hand numbers, text or lists to the pytest side, as ``BenchResult.outputs``. Later calls add to earlier ones."""
    path = Path(os.environ["TESSERA_BENCH_RUN"]) / "record.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(known | values), encoding="utf-8")


def rng(salt: str = "") -> np.random.Generator:
    """Return a random generator that depends on the run's seed and on ``salt`` only."""
    return np.random.default_rng([cocotb.RANDOM_SEED, zlib.crc32(salt.encode())])


def cycle() -> int:
    """Return the number of clock cycles since time 0, for a clock that ``clock_and_reset`` started."""
    return int(get_sim_time("ns")) // CLOCK_PERIOD_NS


async def clock_and_reset(dut: Any, *, cycles: int = 2) -> None:
    """Start the clock ``clk``, set every input to 0, hold ``rst`` for some cycles and return just after an edge.

    A component without registers has no clock, so only its inputs are cleared.
    """
    for port in _ports().values():
        if port["direction"] == "in" and port["width"]:
            getattr(dut, port["name"]).value = 0
    if not hasattr(dut, "clk"):
        await Timer(CLOCK_PERIOD_NS, "ns")
        return
    Clock(dut.clk, CLOCK_PERIOD_NS, unit="ns").start(start_high=False)
    if hasattr(dut, "rst"):
        dut.rst.value = 1
        for _ in range(cycles):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
    await RisingEdge(dut.clk)


async def wait_cycles(dut: Any, count: int) -> None:
    """Wait for a number of clock edges. Call it just after an edge."""
    if count > 0:
        # One timer to half a period before the last edge: Python does not run at the edges in between.
        await Timer(count * CLOCK_PERIOD_NS - CLOCK_PERIOD_NS // 2, "ns")
        await RisingEdge(dut.clk)


def write(handle: Any, value: int) -> None:
    """Drive a scalar port with a signed or unsigned integer that fits its width.

    Raises
    ------
    ValueError
        The value fits the port neither as signed nor as unsigned.
    """
    width = len(handle)
    if not -(1 << (width - 1)) <= value < (1 << width):
        raise ValueError(f"{value} does not fit the {width} bits of {handle._name}")
    handle.value = int(value) & ((1 << width) - 1)


def read(handle: Any, *, signed: bool | None = None) -> int:
    """Return a port's value. By default the component's signature decides whether it is signed."""
    value = int(handle.value)
    if signed is None:
        leaves = _ports()[handle._name]["leaves"] if handle._name in _ports() else []
        signed = len(leaves) == 1 and not leaves[0]["dims"] and leaves[0]["signed"]
    width = len(handle)
    return value - (1 << width) if signed and value >> (width - 1) else value


@cache
def _ports() -> dict[str, dict[str, Any]]:
    """Return the description of the top's ports by name."""
    ports = json.loads(Path(os.environ["TESSERA_BENCH_PORTS"]).read_text(encoding="utf-8"))
    return {port["name"]: port for port in ports}


class _Stream:
    """Common part of drivers and monitors: handles, layout, and the random stall pattern."""

    def __init__(self, dut: Any, name: str, stall: float) -> None:
        if not 0.0 <= stall < 1.0:
            raise ValueError(f"stall is the probability of a pause each cycle: got {stall}, need 0 <= stall < 1")
        description = _ports().get(f"{name}__payload")
        if description is None:
            raise ValueError(f"no stream {name!r}: the ports are {', '.join(_ports())}")
        self.name = name
        self.leaves, self.width = description["leaves"], description["width"]
        self.cycles: list[int] = []
        """Clock cycle of each transfer, for latency and throughput."""
        self._edge = RisingEdge(dut.clk)
        self._payload = getattr(dut, f"{name}__payload") if self.width else None
        self._valid = getattr(dut, f"{name}__valid", None)
        self._ready = getattr(dut, f"{name}__ready", None)
        self._stall = stall
        self._random = rng(f"{type(self).__name__} {name}")
        self._pauses = np.zeros(0, dtype=bool)
        self._next_pause = 0

    def _pause(self) -> bool:
        """Return whether to pause in the coming cycle."""
        if not self._stall:
            return False
        # Pauses are drawn in blocks because one call of the generator per cycle is slow.
        if self._next_pause == len(self._pauses):
            self._pauses = self._random.random(4096) < self._stall
            self._next_pause = 0
        self._next_pause += 1
        return bool(self._pauses[self._next_pause - 1])


class StreamDriver(_Stream):
    """Sends beats into an input stream of the design, in order, as fast as the design takes them.

    Parameters
    ----------
    dut
        Handle of the design, after ``clock_and_reset``.
    name
        Name of the stream.
    stall
        Probability per cycle that the driver holds the next beat back. A beat that is valid stays until accepted.
    """

    def __init__(self, dut: Any, name: str, *, stall: float = 0.0) -> None:
        super().__init__(dut, name, stall)
        self._queue: deque[int] = deque()
        self._work = Event()
        self._idle = Event()
        self._idle.set()
        self._task = cocotb.start_soon(self._run())

    def send(self, values: Fields) -> None:
        """Queue one beat per entry of the leading axis, and return at once. ``pack_beats`` documents the shapes."""
        self.send_raw(pack_beats(self.leaves, self.width, values))

    def send_raw(self, values: Sequence[int]) -> None:
        """Queue beats that are given as the port's bits."""
        if values:
            self._queue.extend(values)
            self._idle.clear()
            self._work.set()

    async def drained(self) -> None:
        """Wait until everything queued has been accepted."""
        await self._idle.wait()

    async def _run(self) -> None:
        # Locals, and writes only when a value changes: this loop runs once per cycle and sets the bench's speed.
        queue, edge, valid, ready, payload = self._queue, self._edge, self._valid, self._ready, self._payload
        shown = False
        while True:
            if not queue or self._pause():
                if shown and valid is not None:
                    valid.value = 0
                shown = False
                if not queue:
                    # Sleep until somebody sends; a loop over idle cycles would cost as much as one over beats.
                    self._idle.set()
                    self._work.clear()
                    await self._work.wait()
                await edge
                continue
            if payload is not None:
                payload.value = queue[0]
            if not shown and valid is not None:
                valid.value = 1
            shown = True
            await edge
            while ready is not None and ready.value != 1:
                await edge
            self.cycles.append(cycle())
            queue.popleft()


class StreamMonitor(_Stream):
    """Accepts beats from an output stream of the design and keeps them.

    Parameters
    ----------
    dut
        Handle of the design, after ``clock_and_reset``.
    name
        Name of the stream.
    stall
        Probability per cycle that the monitor is not ready.
    """

    def __init__(self, dut: Any, name: str, *, stall: float = 0.0) -> None:
        super().__init__(dut, name, stall)
        self.raw: list[int] = []
        self._taken = 0
        self._wanted = 0
        self._enough = Event()
        self._task = cocotb.start_soon(self._run())

    async def receive(self, count: int, *, timeout_cycles: int = 100_000) -> Any:
        """Wait for ``count`` more beats and return them as ``unpack_beats`` does.

        Raises
        ------
        AssertionError
            They did not come within ``timeout_cycles``.
        """
        self._wanted = self._taken + count
        if len(self.raw) < self._wanted:
            self._enough.clear()
            await First(self._enough.wait(), Timer(timeout_cycles * CLOCK_PERIOD_NS, "ns"))
        got = len(self.raw) - self._taken
        assert got >= count, f"stream {self.name}: {got} of {count} beats came within {timeout_cycles} cycles"
        values = self.raw[self._taken : self._wanted]
        self._taken = self._wanted
        return unpack_beats(self.leaves, self.width, values)

    def assert_empty(self) -> None:
        """Fail if there are beats that nobody received."""
        extra = len(self.raw) - self._taken
        assert extra == 0, f"stream {self.name}: {extra} beats more than expected"

    async def _run(self) -> None:
        edge, valid, ready, payload, raw = self._edge, self._valid, self._ready, self._payload, self.raw
        is_ready = ready is None
        while True:
            if ready is not None:
                # Ready is set one edge ahead, so a beat at the coming edge follows the decision made here.
                wanted = not self._pause()
                if wanted != is_ready:
                    ready.value = int(wanted)
                    is_ready = wanted
            await edge
            if is_ready and (valid is None or valid.value == 1):
                self.cycles.append(cycle())
                raw.append(int(payload.value) if payload is not None else 0)
                if len(raw) == self._wanted:
                    self._enough.set()


def assert_latency(driver: StreamDriver, monitor: StreamMonitor, cycles: int) -> None:
    """Fail unless beat n left exactly ``cycles`` after beat n entered, for every n.

    One register between the streams is a latency of 1. Stalls on either stream change the distance.
    """
    assert len(driver.cycles) >= len(monitor.cycles) > 0, f"{len(driver.cycles)} in, {len(monitor.cycles)} out"
    found = {out - into for into, out in zip(driver.cycles, monitor.cycles, strict=False)}
    assert found == {cycles}, f"latency is {sorted(found)} cycles, expected {cycles}"


def assert_interval(stream: StreamDriver | StreamMonitor, cycles: int) -> None:
    """Fail unless successive beats were exactly ``cycles`` apart: the initiation interval, 1 for full throughput."""
    assert len(stream.cycles) > 1, f"stream {stream.name}: {len(stream.cycles)} beats show no interval"
    found = set(np.diff(stream.cycles).tolist())
    assert found == {cycles}, f"stream {stream.name}: intervals {sorted(found)} cycles, expected {cycles}"
