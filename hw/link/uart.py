"""UART, 8 data bits, no parity, one stop bit, at any rate from a fractional divider."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from tessera.hw.interfaces.strobe import Strobe

FRACTION_BITS = 8
"""A bit's length is kept in 1/256 cycles, so the error over a byte is less than 1/50 cycle."""
LEAST_CYCLES = 6
"""Fewest cycles per bit, because the start edge is known to one cycle only. From 16 cycles on, the two clocks
may differ by 2 % and more."""
BITS_PER_BYTE = 10
"""Start bit, data, stop bit."""


def bit_period(cycles_per_bit: float) -> int:
    """Length of a bit in 1/256 cycles; ValueError if it is too short."""
    if cycles_per_bit < LEAST_CYCLES:
        raise ValueError(
            f"a bit would take {cycles_per_bit:.2f} cycles, a UART needs at least {LEAST_CYCLES}; "
            "choose a lower baud rate or a faster clock"
        )
    return round(cycles_per_bit * (1 << FRACTION_BITS))


class BitTimer(wiring.Component):
    """Counts the time to the next event in cycles and fractions of them.

    Parameters
    ----------
    period:
        Length of a bit, as of :func:`bit_period`.

    Members
    -------
    half:
        Set the next event half a bit from now.
    stop:
        Drop the fraction that is left over, so that the next bit is counted from its first cycle.
    event:
        1 in one cycle per bit.
    """

    def __init__(self, period: int) -> None:
        self._period = period
        super().__init__({"half": In(1), "stop": In(1), "event": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Count down in fractions of a cycle; what is left at an event goes into the next period."""
        m = Module()
        cycle = 1 << FRACTION_BITS
        remaining = Signal(range(self._period + cycle))
        # An event comes in the cycle in which less than a whole cycle is left; that fraction goes into the next period.
        m.d.comb += self.event.eq(remaining[FRACTION_BITS:] == 0)
        m.d.sync += remaining.eq(remaining + Mux(self.event, self._period - cycle, -cycle))
        # A transmitter that idles starts anew: a fraction from the last byte would change the next start bit.
        with m.If(self.stop):
            m.d.sync += remaining.eq(0)
        with m.If(self.half):
            m.d.sync += remaining.eq(self._period // 2 - cycle)
        return m


class UartReceiver(wiring.Component):
    """Takes bytes from a line.

    Each bit is sampled once, in its middle. A start bit that is gone by its middle was a glitch. The next start bit may
    come from the middle of the stop bit on, so a sender may be faster than this clock by 2 % and more.

    Parameters
    ----------
    cycles_per_bit:
        Clock cycles per bit.

    Members
    -------
    rx:
        The pin, in no step with the clock.
    byte:
        A byte, in the cycle after its stop bit was seen.
    framing_error:
        Pulse: the stop bit is missing. The byte is dropped, and the next start bit may come once the line is high.
    """

    def __init__(self, cycles_per_bit: float) -> None:
        self._period = bit_period(cycles_per_bit)
        super().__init__({"rx": In(1, init=1), "byte": Out(Strobe(8)), "framing_error": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Wait for a start bit, sample ten bits, wait for the line to be high again."""
        m = Module()
        # The pin changes at any time, so it passes two flip-flops before anything decides by it.
        line = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, line, init=1)
        m.submodules.timer = timer = BitTimer(self._period)
        count = Signal(range(BITS_PER_BYTE))
        m.d.sync += [self.byte.valid.eq(0), self.framing_error.eq(0)]
        # RELEASE is there for a line that stays low (a break), which would otherwise read as byte after byte of zeros.
        with m.FSM(name="state"):
            with m.State("IDLE"):
                m.d.sync += count.eq(0)
                with m.If(~line):
                    m.d.comb += timer.half.eq(1)
                    m.next = "BITS"
            # Half a bit after the falling edge and then every bit: so each sample lies in the middle of its bit.
            with m.State("BITS"), m.If(timer.event):
                m.d.sync += count.eq(count + 1)
                with m.If(count == 0):
                    with m.If(line):
                        m.next = "IDLE"
                with m.Elif(count == BITS_PER_BYTE - 1):
                    m.d.sync += [self.byte.valid.eq(line), self.framing_error.eq(~line)]
                    m.next = "RELEASE"
                with m.Else():
                    m.d.sync += self.byte.payload.eq(Cat(self.byte.payload[1:], line))
            with m.State("RELEASE"), m.If(line):
                m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Puts bytes on a line.

    Parameters
    ----------
    cycles_per_bit:
        Clock cycles per bit.

    Members
    -------
    byte:
        Bytes. They follow each other on the line without a gap if the next one is there when a stop bit ends.
    tx:
        The pin, from a flip-flop.
    """

    def __init__(self, cycles_per_bit: float) -> None:
        self._period = bit_period(cycles_per_bit)
        super().__init__({"byte": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        """Shift out start bit, data and stop bit, one per event of the timer."""
        m = Module()
        m.submodules.timer = timer = BitTimer(self._period)
        bits, left = Signal(BITS_PER_BYTE - 1), Signal(range(BITS_PER_BYTE + 1))
        last = Signal()
        m.d.comb += [
            last.eq((left == 0) | (timer.event & (left == 1))),
            self.byte.ready.eq(last),
            timer.stop.eq(last & ~self.byte.valid),
        ]
        # The stop bit is shifted in behind the data, so the line needs no case of its own for it.
        with m.If(last & self.byte.valid):
            m.d.sync += [self.tx.eq(0), bits.eq(Cat(self.byte.payload, Const(1, 1))), left.eq(BITS_PER_BYTE)]
        with m.Elif(timer.event & (left != 0)):
            m.d.sync += [self.tx.eq(Mux(left == 1, 1, bits[0])), bits.eq(bits >> 1), left.eq(left - 1)]
        return m
