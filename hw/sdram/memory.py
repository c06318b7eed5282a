"""The SDRAM chip as an AXI4 memory of 32 MB, and what every memory behind a bridge has in common."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out, connect, flipped

from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import Axi4Read, Axi4Write
from tessera.hw.interfaces.sdram import SIZE_BYTES, SdramPads
from tessera.hw.sdram.bridge import MemoryBridge
from tessera.hw.sdram.chip import SdramTiming
from tessera.hw.sdram.controller import SdramController


class BridgedMemory(wiring.Component):
    """Clients in front of a bridge. A subclass adds what executes the runs of words.

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the bus, at least 16 bits.
    readers, writers:
        Number of AXI4 read and write ports, taking turns.
    size_bytes:
        Size of the memory, a power of two.
    others:
        Members that the subclass has besides.

    Members
    -------
    readers, writers:
        Clients: INCR bursts of full-width beats that do not cross 4 KiB. Bursts of one port are executed in order,
        those of different ports in the order in which they become complete. A burst that begins beyond the memory is
        answered with DECERR.
    initialised:
        The memory may be used. Requests are accepted before, and wait.

    Raises
    ------
    ValueError
        There is no client, or the bus is narrower than a word.
    """

    def __init__(
        self, config: AcceleratorConfig, *, readers: int, writers: int, size_bytes: int, others: dict[str, Member]
    ) -> None:
        self._bridge = MemoryBridge(config, readers, writers, size_bytes)
        super().__init__(
            {
                "readers": In(Axi4Read(config)).array(readers),
                "writers": In(Axi4Write(config)).array(writers),
                "initialised": Out(1),
                **others,
            }
        )

    def bridged(self, m: Module, words: wiring.PureInterface) -> None:
        """Put the bridge between the clients and ``words``, a :class:`tessera.hw.interfaces.sdram.WordAccess`."""
        m.submodules.bridge = bridge = self._bridge
        for outer, inner in zip((*self.readers, *self.writers), (*bridge.readers, *bridge.writers), strict=True):
            connect(m, flipped(outer), inner)
        # The bridge knows no chip: block RAM and SDRAM differ only behind these words.
        connect(m, bridge.words, words)


class SdramMemory(BridgedMemory):
    """Bridge and controller in one clock domain, that of the chip.

    Parameters
    ----------
    config, readers, writers:
        See :class:`BridgedMemory`.
    timing:
        The chip in cycles: ``CHIPS[name].timing(clock_hz)``.
    extra_latency:
        Cycles that the board adds on the way to the chip and back; see :class:`SdramController`.

    Members
    -------
    readers, writers, initialised:
        See :class:`BridgedMemory`; initialised once power-up is over.
    pads:
        The chip.
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
        others = {"pads": Out(SdramPads())}
        super().__init__(config, readers=readers, writers=writers, size_bytes=SIZE_BYTES, others=others)
        self._controller = SdramController(timing, readers + writers, extra_latency)

    def elaborate(self, platform: object) -> Module:
        """Wires."""
        m = Module()
        m.submodules.controller = controller = self._controller
        self.bridged(m, controller.words)
        connect(m, controller.pads, flipped(self.pads))
        m.d.comb += self.initialised.eq(controller.initialised)
        return m
