"""HostLink: the host's serial line on one side, registers and memory on the other."""

from __future__ import annotations

from math import ceil

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tessera.hw.blocks.lights import BLINK_SECONDS, show_event
from tessera.hw.config import AcceleratorConfig
from tessera.hw.interfaces.axi import Axi4Lite, Axi4Read, Axi4Write
from tessera.hw.link.executor import Executor
from tessera.hw.link.frame_receiver import FrameReceiver
from tessera.hw.link.frame_transmitter import FrameTransmitter
from tessera.hw.link.ports import MemoryPort, RegisterPort
from tessera.hw.link.uart import BITS_PER_BYTE, UartReceiver, UartTransmitter
from tessera.hw.protocol import IDLE_BYTES, Identity

IDLE_SECONDS = 0.010
"""Silence that ends an unfinished frame, in seconds. A host's USB may pause for milliseconds within one."""


class HostLink(wiring.Component):
    """Carries out what the host asks for over a serial line; protocol in :mod:`tessera.hw.protocol`.

    ::

        rx ─► UartReceiver ─► FrameReceiver ─► Executor ─┬─► RegisterPort ─► control
                                                 ▲       └─► MemoryPort ──► read, write
        tx ◄─ UartTransmitter ◄─ FrameTransmitter ◄┘

    Parameters
    ----------
    config:
        Sizes of the machine: the width of the memory bus.
    baud:
        Bits per second, up to a sixth of the clock. The clock is the identity's.
    identity:
        Description that the device gives of itself; it has the clock.
    idle_seconds:
        Silence that ends an unfinished frame, if that is more than ``IDLE_BYTES`` byte times.

    Members
    -------
    rx, tx:
        The pins, as the device sees them.
    control:
        The accelerator's registers.
    read, write:
        Memory, one burst at a time.
    activity, error:
        Lights: a good frame came; a frame or byte was bad.

    Raises
    ------
    ValueError
        The baud rate is too high for the clock.
    """

    def __init__(
        self, config: AcceleratorConfig, *, baud: int, identity: Identity, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._config, self._identity = config, identity
        self._cycles_per_bit = identity.clock_hz / baud
        # A slow line needs a longer silence, because there a byte alone may take as long as a pause of the host.
        self._idle_cycles = ceil(
            max(IDLE_BYTES * BITS_PER_BYTE * self._cycles_per_bit, idle_seconds * identity.clock_hz)
        )
        self._blink_cycles = ceil(BLINK_SECONDS * identity.clock_hz)
        self._units = UartReceiver(self._cycles_per_bit), UartTransmitter(self._cycles_per_bit)
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "control": Out(Axi4Lite()),
                "read": Out(Axi4Read(config)),
                "write": Out(Axi4Write(config)),
                "activity": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wires, and the lights."""
        m = Module()
        m.submodules.uart_receiver, m.submodules.uart_transmitter = uart_in, uart_out = self._units
        m.submodules.receiver = receiver = FrameReceiver(self._idle_cycles)
        m.submodules.executor = executor = Executor(self._config, self._identity)
        m.submodules.transmitter = transmitter = FrameTransmitter()
        m.submodules.registers = registers = RegisterPort()
        m.submodules.memory = memory = MemoryPort(self._config)
        connect(m, uart_in.byte, receiver.byte)
        connect(m, receiver.frame, executor.frame)
        connect(m, receiver.write, executor.write)
        connect(m, executor.release, receiver.release)
        connect(m, executor.registers, registers.bytes)
        connect(m, executor.memory, memory.bytes)
        connect(m, executor.reply, transmitter.reply)
        connect(m, executor.payload, transmitter.payload)
        connect(m, transmitter.byte, uart_out.byte)
        connect(m, flipped(self.control), registers.bus)
        connect(m, flipped(self.read), memory.read)
        connect(m, flipped(self.write), memory.write)
        # Both lights show events of one cycle, so they are stretched.
        wrong = receiver.bad | uart_in.framing_error
        m.d.comb += [
            uart_in.rx.eq(self.rx),
            self.tx.eq(uart_out.tx),
            self.activity.eq(show_event(m, receiver.good, self._blink_cycles, name="activity")),
            self.error.eq(show_event(m, wrong, self._blink_cycles, name="error")),
        ]
        return m
