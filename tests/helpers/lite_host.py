"""An AXI4-Lite master for benches: any order of address and data, a host slow to take answers, checks on the slave."""

from __future__ import annotations

import cocotb
from cocotb.triggers import Combine, Lock, RisingEdge

from tessera.sim.bench.streams import rng

ANSWER_CYCLES = 60


class LiteHost:
    """Reads and writes one register at a time; counts every answer that the slave gives."""

    def __init__(self, dut, *, stall=0.0):
        self._dut, self._stall, self._random = dut, stall, rng("host")
        self.write_answers = self.read_answers = 0
        self._edge = RisingEdge(dut.clk)
        self._read_value = None
        self._lock = Lock()
        cocotb.start_soon(self._answers("b"))
        cocotb.start_soon(self._answers("r"))

    async def _answers(self, channel):
        dut, edge = self._dut, self._edge
        valid, ready, response = (getattr(dut, f"bus__{channel}{name}") for name in ("valid", "ready", "resp"))
        waiting = False
        while True:
            is_ready = self._random.random() >= self._stall
            ready.value = int(is_ready)
            await edge
            assert not waiting or valid.value == 1, f"{channel}valid fell before it was accepted"
            waiting = valid.value == 1 and not is_ready
            if valid.value == 1 and is_ready:
                assert response.value == 0
                if channel == "b":
                    self.write_answers += 1
                else:
                    self.read_answers += 1
                    self._read_value = int(dut.bus__rdata.value)

    async def _request(self, channel, delay=0, **payload):
        dut = self._dut
        for _ in range(delay):
            await self._edge
        for name, value in payload.items():
            getattr(dut, f"bus__{name}").value = value
        getattr(dut, f"bus__{channel}valid").value = 1
        await self._edge
        while getattr(dut, f"bus__{channel}ready").value != 1:
            await self._edge
        getattr(dut, f"bus__{channel}valid").value = 0

    async def write(self, offset, value, strobes=15, *, lead=0):
        """Write a word; its data comes ``lead`` cycles after its address (or before, if negative)."""
        async with self._lock:
            answers = self.write_answers
            await Combine(
                cocotb.start_soon(self._request("aw", max(0, -lead), awaddr=offset)),
                cocotb.start_soon(self._request("w", max(0, lead), wdata=value, wstrb=strobes)),
            )
            await self._until(lambda: self.write_answers > answers)

    async def post(self, offset, value=None):
        """Write, or read without a value, and go on once the request is accepted."""
        if value is None:
            await self._request("ar", araddr=offset)
        else:
            await self._request("aw", awaddr=offset)
            await self._request("w", wdata=value, wstrb=15)

    async def read(self, offset):
        """Read a word."""
        async with self._lock:
            answers = self.read_answers
            await self._request("ar", araddr=offset)
            await self._until(lambda: self.read_answers > answers)
            return self._read_value

    async def _until(self, answered):
        for _ in range(ANSWER_CYCLES):
            if answered():
                return
            await self._edge
        raise AssertionError("the slave did not answer")
