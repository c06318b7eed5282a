"""An exported Tessera as a core for LiteX: registers on AXI4-Lite, memory on AXI4, an interrupt.

The ports come from the folder's ``tessera.json``, so this file fits every preset.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from litex.gen import LiteXModule
from litex.soc.integration.soc import SoCRegion
from litex.soc.interconnect import axi
from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
from migen import ClockSignal, Instance, ResetSignal, Signal

CHANNELS = ("aw", "ar", "w", "b", "r")


class Tessera(LiteXModule):
    """The machine, and an interrupt that LiteX's event manager knows.

    Parameters
    ----------
    platform:
        LiteX platform, which gets the Verilog file.
    core:
        Folder of ``tessera export``.
    """

    def __init__(self, platform: Any, core: Path) -> None:
        description = json.loads((core / "tessera.json").read_text())
        ports, buses = description["interface"]["ports"], description["interface"]["buses"]
        memory = buses["m_axi"]
        self.registers = axi.AXILiteInterface(data_width=32, address_width=32)
        self.memory = axi.AXIInterface(
            data_width=memory["data_width"], address_width=memory["address_width"], id_width=memory["id_width"]
        )
        self.interrupt = Signal()
        self.ev = EventManager()
        self.ev.frame = EventSourceLevel(description="A frame is done, or the machine halted with an error.")
        self.ev.finalize()
        self.comb += self.ev.frame.trigger.eq(self.interrupt)
        own = {"clk": ClockSignal("sys"), "rst": ResetSignal("sys"), "irq": self.interrupt}
        wired = {"s_axil": self.registers, "m_axi": self.memory}
        connections = {}
        for port in ports:
            signal = self._wire(wired[port["bus"]], port) if "bus" in port else own[port["name"]]
            connections[f"{port['direction'][0]}_{port['name']}"] = signal
        self.specials += Instance(description["top"], **connections)
        platform.add_source(str(core / f"{description['top']}.v"))

    @staticmethod
    def _wire(bus: Any, port: dict[str, Any]) -> Signal:
        """LiteX's signal for one port: a field of a channel, or its handshake. Narrow ports take the low bits."""
        channel = next(name for name in CHANNELS if port["wire"].startswith(name))
        signal = getattr(getattr(bus, channel), port["wire"].removeprefix(channel))
        return signal if len(signal) == port["width"] else signal[: port["width"]]


def add_tessera(soc: Any, core: Path, origin: int = 0x3000_0000) -> None:
    """Add the machine: its registers at ``origin``, its master on the main bus, its interrupt if there is a CPU."""
    soc.tessera = tessera = Tessera(soc.platform, core)
    soc.bus.add_slave("tessera", tessera.registers, SoCRegion(origin=origin, size=0x100, cached=False))
    soc.bus.add_master("tessera", tessera.memory)
    if soc.irq.enabled:
        soc.irq.add("tessera")
