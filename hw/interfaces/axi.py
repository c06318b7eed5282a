"""AXI4 and AXI4-Lite as signatures, and the bursts that units ask for."""

from __future__ import annotations

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig


def beat_run_layout() -> data.StructLayout:
    """A run of beats in memory: first byte address (a multiple of the bus width) and length, any number of bursts."""
    return data.StructLayout({"address": 32, "beats_minus_one": 32})


def read_request_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A burst that a client asks the read master for: 1 to 256 beats, not crossing 4 KiB, for which it has room."""
    return data.StructLayout({"address": 32, "beats_minus_one": 8})


class Axi4Read(wiring.Signature):
    """AXI4 read channels (one ID, INCR bursts of full-width beats), from the master's side."""

    def __init__(self, config: AcceleratorConfig) -> None:
        width = 8 * config.memory_bytes
        super().__init__(
            {
                "araddr": Out(32),
                "arlen": Out(8),
                "arsize": Out(3),
                "arburst": Out(2),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(width),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class Axi4Write(wiring.Signature):
    """AXI4 write channels (one ID, INCR bursts of full-width beats), from the master's side."""

    def __init__(self, config: AcceleratorConfig) -> None:
        width = 8 * config.memory_bytes
        super().__init__(
            {
                "awaddr": Out(32),
                "awlen": Out(8),
                "awsize": Out(3),
                "awburst": Out(2),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(width),
                "wstrb": Out(width // 8),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )


class Axi4Lite(wiring.Signature):
    """AXI4-Lite slave for the control registers, from the master's side (use ``In(Axi4Lite())`` on the slave)."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": Out(8),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(8),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )
