"""SdramMemory: the SDRAM chip as an AXI4 memory of 32 MB."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import AcceleratorConfig
from hw.interfaces.axi import Axi4Read, Axi4Write
from hw.interfaces.sdram import SdramPads
from hw.sdram.bridge import MemoryBridge
from hw.sdram.chip import SdramTiming
from hw.sdram.controller import SdramController


class SdramMemory(wiring.Component):
    """Bridge and controller in one clock domain, that of the chip.

    Parameters
    ----------
    config:
        Width of the bus, at least 16 bits.
    timing:
        The chip in cycles: ``CHIPS[name].timing(clock_hz)``.
    readers, writers:
        Number of AXI4 read and write ports, taking turns.
    extra_latency:
        Cycles that the board adds on the way to the chip and back; see :class:`SdramController`.

    Members
    -------
    readers, writers:
        From the clients: INCR bursts of full-width beats that do not cross 4 KiB. Bursts of one port are executed in
        order, those of different ports in the order in which they become complete. Beyond 32 MB: DECERR.
    pads:
        To the chip.
    initialised:
        Power-up is over. Requests are accepted before, and wait.

    Raises
    ------
    ValueError
        No client, or a bus narrower than the chip.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        timing: SdramTiming,
        *,
        readers: int = 1,
        writers: int = 1,
        extra_latency: int = 0,
    ) -> None:
        self._bridge = MemoryBridge(config, readers, writers)
        self._controller = SdramController(timing, readers + writers, extra_latency)
        super().__init__(
            {
                "readers": In(Axi4Read(config)).array(readers),
                "writers": In(Axi4Write(config)).array(writers),
                "pads": Out(SdramPads()),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wires."""
        m = Module()
        m.submodules.bridge = bridge = self._bridge
        m.submodules.controller = controller = self._controller
        for outer, inner in zip((*self.readers, *self.writers), (*bridge.readers, *bridge.writers), strict=True):
            connect(m, flipped(outer), inner)
        connect(m, bridge.run, controller.run)
        connect(m, bridge.write_data, controller.write_data)
        connect(m, controller.written, bridge.written)
        connect(m, controller.read, bridge.read)
        connect(m, controller.pads, flipped(self.pads))
        m.d.comb += [bridge.writer.eq(controller.writer), self.initialised.eq(controller.initialised)]
        return m
