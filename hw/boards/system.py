"""System: all parts of a board's design except clocks, pins and PLL."""

from __future__ import annotations

from math import ceil

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.accelerator import Accelerator
from tessera.hw.blocks.lights import BLINK_SECONDS, show_event
from tessera.hw.boards.on_chip_memory import OnChipMemory
from tessera.hw.bus.axi_slices import connect_sliced_read, connect_sliced_write
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.link import lights_layout
from tessera.hw.link.link import IDLE_SECONDS, HostLink
from tessera.hw.protocol import Identity
from tessera.hw.sdram.memory import SdramMemory

CLIENTS = 2
"""Clients of the memory, each with a read and a write port: accelerator and host link."""


class System(wiring.Component):
    """Accelerator, host link and their memory, in one clock domain.

    ::

        rx ─► HostLink ──control──► Accelerator
        tx ◄─    │                       │
                 └──read, write──┬───────┘
                              memory ◄──► pads

    Parameters
    ----------
    config:
        Sizes of the machine.
    memory:
        Memory of the same configuration, with ``CLIENTS`` readers and writers.
    baud:
        Bits per second on the serial line.
    identity:
        Description that the device gives of itself; it has the clock.
    idle_seconds:
        Silence that ends an unfinished frame; see :class:`tessera.hw.link.link.HostLink`.
    accelerator:
        Stand-in for :class:`tessera.hw.accelerator.Accelerator`, with the same members.

    Members
    -------
    rx, tx:
        Serial line, as the device sees it; ``rx`` synchronised to the clock.
    lights:
        :func:`tessera.hw.interfaces.link.lights_layout`, from registers.
    pads:
        To the SDRAM chip, as of the memory; absent if that has none.

    Raises
    ------
    ValueError
        The memory lacks ports, or the baud rate is too high for the clock.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        memory: SdramMemory | OnChipMemory,
        *,
        baud: int,
        identity: Identity,
        idle_seconds: float = IDLE_SECONDS,
        accelerator: wiring.Component | None = None,
    ) -> None:
        for name, count in (("readers", len(memory.readers)), ("writers", len(memory.writers))):
            if count != CLIENTS:
                raise ValueError(f"the memory has {count} {name}; accelerator and host link need {CLIENTS}")
        self._memory, self._clock_hz = memory, identity.clock_hz
        self._accelerator = accelerator or Accelerator(config)
        self._link = HostLink(config, baud=baud, identity=identity, idle_seconds=idle_seconds)
        members = {"rx": In(1, init=1), "tx": Out(1, init=1), "lights": Out(lights_layout())}
        if isinstance(memory, SdramMemory):
            members["pads"] = memory.signature.members["pads"]
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Wires, and what the lights show."""
        m = Module()
        accelerator, link, memory = self._accelerator, self._link, self._memory
        m.submodules.accelerator = accelerator
        m.submodules.host_link, m.submodules.memory = link, memory
        connect(m, link.control, accelerator.control)
        for name, client, reader, writer in (
            ("", accelerator, memory.readers[0], memory.writers[0]),
            ("link_", link, memory.readers[1], memory.writers[1]),
        ):
            # Clients stand far from the memory, so each way has a slice; more latency there costs little.
            connect_sliced_read(m, f"{name}reads", client.read, reader)
            connect_sliced_write(m, f"{name}writes", client.write, writer)
        if isinstance(memory, SdramMemory):
            connect(m, memory.pads, flipped(self.pads))
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        self._show(m)
        return m

    def _show(self, m: Module) -> None:
        """Drive the lights."""
        state, link, shows = self._accelerator.state, self._link, self.lights
        # The lights are registers on the other side of the chip from most of what they show; nobody sees the delay.
        beat = Signal(range(ceil(self._clock_hz / 2)))
        m.d.sync += beat.eq(beat - 1)
        with m.If(beat == 0):
            m.d.sync += [beat.eq(ceil(self._clock_hz / 2) - 1), shows.heartbeat.eq(~shows.heartbeat)]
        m.d.sync += [
            shows.initialised.eq(self._memory.initialised),
            shows.link_activity.eq(link.activity),
            shows.link_error.eq(link.error),
            shows.busy.eq(show_event(m, state.busy, ceil(BLINK_SECONDS * self._clock_hz), name="busy")),
            Cat(shows.done, shows.failed, shows.saturated).eq(Cat(state.done, state.error, state.saturated)),
        ]
