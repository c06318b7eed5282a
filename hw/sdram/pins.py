"""SdramPins: the controller's pads on the pins of a board, with registers in the pads and a clock for the chip."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In

from tessera.hw.interfaces.sdram import SdramPads

EXTRA_LATENCY = 2
"""Cycles that the registers in the pads add, one on the way to the chip and one back."""

ACCESS_NS = {2: 6.0, 3: 5.4}
"""Longest time from the chip's clock to its word, by CAS latency (tAC)."""
HOLD_NS = 2.7
"""Time that a word stays after the chip's next clock edge (tOH)."""
CHIP_SETUP_NS, CHIP_HOLD_NS = 1.5, 0.8
"""Setup and hold time of the chip's inputs."""
SKEW_NS = 0.7
"""Largest skew between the clock and other pins at the FPGA; all of them come from registers in the pads."""
ROUND_TRIP_NS = (3.5, 6.0)
"""Least and most time from the clock's register over the board and back into the input register; an estimate."""


def chip_clock_delay(clock_hz: int, cas_latency: int) -> float:
    """Fraction of a period by which the chip's clock should follow the controller's.

    Commands leave at the controller's edge and must reach the chip before its own edge. A word must be back at the
    controller two edges after the one at which the chip sent it, and must not be gone by then. The result is the middle
    of what both conditions allow.

    Raises
    ------
    ValueError
        No delay suits both directions at such a frequency.
    """
    period = 1e9 / clock_hz
    earliest = max(
        (CHIP_SETUP_NS + SKEW_NS) / period,
        1 - (ROUND_TRIP_NS[0] + HOLD_NS) / period,
    )
    latest = min(
        1 - (CHIP_HOLD_NS + SKEW_NS) / period,
        2 - (ROUND_TRIP_NS[1] + ACCESS_NS[cas_latency]) / period,
    )
    if earliest >= latest:
        raise ValueError(
            f"at {clock_hz / 1e6:g} MHz and CAS latency {cas_latency} no clock of the SDRAM suits both directions of "
            "its data; choose a lower frequency"
        )
    return (earliest + latest) / 2


class SdramPins(wiring.Component):
    """Puts the register of each pin into its pad, so all pins are timed alike wherever the controller is placed.

    Parameters
    ----------
    ports:
        The pins, as the platform gives them: ``clk``, ``clk_en``, ``cs``, ``ras``, ``cas``, ``we``, ``ba``, ``a``,
        ``dqm``, ``dq``, each an ``amaranth.lib.io`` port.
    chip_domain:
        Clock domain that makes the chip's clock: the controller's ``sync``, delayed by :func:`chip_clock_delay`.

    Members
    -------
    pads:
        From the controller, whose ``extra_latency`` must be ``EXTRA_LATENCY``.
    """

    def __init__(self, ports: Any, chip_domain: str) -> None:
        self._ports, self._chip_domain = ports, chip_domain
        super().__init__({"pads": In(SdramPads())})

    def elaborate(self, platform: object) -> Module:
        """A register per pin; that of the clock gives 1 in the first half of a cycle and 0 in the second."""
        m = Module()
        pads, ports = self.pads, self._ports
        # The ports of a platform know which pins are active low, so they take what a signal means.
        outputs = {
            "clk_en": pads.cke,
            "cs": ~pads.cs_n,
            "ras": ~pads.ras_n,
            "cas": ~pads.cas_n,
            "we": ~pads.we_n,
            "ba": pads.ba,
            "a": pads.a,
            "dqm": pads.dqm,
        }
        for name, value in outputs.items():
            m.submodules[name] = buffer = io.FFBuffer("o", getattr(ports, name))
            m.d.comb += buffer.o.eq(value)
        # One register per pin for the direction too: so the pads turn in the cycle of the data.
        m.submodules.dq = data = io.FFBuffer("io", ports.dq)
        m.d.comb += [data.o.eq(pads.dq_o), data.oe.eq(pads.dq_oe), pads.dq_i.eq(data.i)]
        if platform is None:
            return m  # a simulated chip shares the controller's clock
        # The clock comes from a register in a pad like the data, because their skew is then small and known.
        m.submodules.clk = clock = io.DDRBuffer("o", ports.clk, o_domain=self._chip_domain)
        m.d.comb += [clock.o[0].eq(Const(1)), clock.o[1].eq(Const(0))]
        return m
