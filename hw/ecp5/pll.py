"""Pll: one clock from another, with the family's phase-locked loop.

Limits and names are those of the ECP5 family data sheet (FPGA-DS-02012, sysCLOCK PLL timing) and of the PLL usage guide
(FPGA-TN-02200).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

INPUT_HZ = (8_000_000, 400_000_000)
DETECTOR_HZ = (10_000_000, 400_000_000)
"""Of the phase detector, which compares the divided input with the feedback."""
OSCILLATOR_HZ = (400_000_000, 800_000_000)
OUTPUT_HZ = (3_125_000, 400_000_000)
LARGEST_DIVIDER = 128
EIGHTHS = 8
"""Steps of a phase in a period of the oscillator."""


@dataclass(frozen=True, kw_only=True)
class PllSettings:
    """Dividers: input / ``reference`` x ``multiplier`` is the oscillator's frequency, that / ``output`` the clock's.

    The multiplier is the divider of a second output that does nothing but lead back to the phase detector. So the
    clock may be any fraction of the oscillator, not only a multiple of the detector's frequency.
    """

    reference: int
    multiplier: int
    output: int

    def oscillator_hz(self, input_hz: int) -> Fraction:
        """Frequency of the oscillator."""
        return Fraction(input_hz, self.reference) * self.multiplier

    def output_hz(self, input_hz: int) -> Fraction:
        """Frequency of the clock that comes out."""
        return self.oscillator_hz(input_hz) / self.output


def _within(value: Fraction | int, limits: tuple[int, int]) -> bool:
    return limits[0] <= value <= limits[1]


def _possible(input_hz: int) -> Iterator[PllSettings]:
    """All settings that keep every limit, the fastest phase detector first, which makes the least jitter."""
    for reference in range(1, LARGEST_DIVIDER + 1):
        detector = Fraction(input_hz, reference)
        if not _within(detector, DETECTOR_HZ):
            continue
        for multiplier in range(1, LARGEST_DIVIDER + 1):
            if not _within(detector * multiplier, OSCILLATOR_HZ):
                continue
            for output in range(1, LARGEST_DIVIDER + 1):
                if _within(detector * multiplier / output, OUTPUT_HZ):
                    yield PllSettings(reference=reference, multiplier=multiplier, output=output)


def pll_settings(input_hz: int, output_hz: int) -> PllSettings:
    """Dividers that make exactly ``output_hz`` of ``input_hz``, both in Hz.

    Of several the one with the fastest phase detector is taken, then that with the oscillator nearest to the middle of
    its range.

    Raises
    ------
    ValueError
        The input or the output is out of range, or the output cannot be had exactly; the message names the nearest.
    """
    for what, value, limits in (("input", input_hz, INPUT_HZ), ("output", output_hz, OUTPUT_HZ)):
        if not _within(value, limits):
            least, most = (limit / 1e6 for limit in limits)
            raise ValueError(f"{what} of the PLL is {value / 1e6:g} MHz; choose one of {least:g} to {most:g} MHz")
    settings = list(_possible(input_hz))
    exact = [each for each in settings if each.output_hz(input_hz) == output_hz]
    if not exact:
        whole = {each.output_hz(input_hz) for each in settings if each.output_hz(input_hz).denominator == 1}
        below = max((int(hz) for hz in whole if hz < output_hz), default=None)
        above = min((int(hz) for hz in whole if hz > output_hz), default=None)
        nearest = " or ".join(f"{hz / 1e6:g} MHz" for hz in (below, above) if hz is not None)
        raise ValueError(f"the PLL cannot make {output_hz / 1e6:g} MHz of {input_hz / 1e6:g} MHz; choose {nearest}")
    middle = Fraction(sum(OSCILLATOR_HZ), 2)
    return min(exact, key=lambda each: (each.reference, abs(each.oscillator_hz(input_hz) - middle), each.output))


class Pll(wiring.Component):
    """An EHXPLLL with two clocks of one frequency, fed back over an output of its own.

    Parameters
    ----------
    input_hz, output_hz:
        Frequencies in Hz; the output must be possible exactly.
    delay:
        By how much of a period ``delayed_clock`` comes after ``clock``, from 0 to 1, kept to an eighth of the
        oscillator's period; without it there is no such clock.

    Members
    -------
    input, clock, delayed_clock:
        What comes in and what is made of it; the phase of the input has nothing to do with that of the others.
    locked:
        The clocks have their frequency. May rise and fall at any time.

    Raises
    ------
    ValueError
        As of :func:`pll_settings`; or the delay is out of range.
    """

    def __init__(self, input_hz: int, output_hz: int, delay: float | None = None) -> None:
        if delay is not None and not 0 <= delay < 1:
            raise ValueError(f"delay is {delay}; choose a part of the period, at least 0 and less than 1")
        self.settings = pll_settings(input_hz, output_hz)
        self._input_hz, self._delay = input_hz, delay
        super().__init__({"input": In(1), "clock": Out(1), "delayed_clock": Out(1), "locked": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """The block; ``FREQUENCY_PIN`` is for reading only, nextpnr computes the clocks from the dividers."""
        m = Module()
        settings, feedback = self.settings, Signal()
        output_hz = settings.output_hz(self._input_hz)
        pins = [("CLKOP", "A", settings.multiplier, 0, Fraction(self._input_hz, settings.reference), feedback)]
        # The clock has an output apart from the feedback, so that its divider is free and its frequency exact.
        pins.append(("CLKOS", "B", settings.output, 0, output_hz, self.clock))
        if self._delay is not None:
            eighths = round(self._delay * settings.output * EIGHTHS) % (settings.output * EIGHTHS)
            pins.append(("CLKOS2", "C", settings.output, eighths, output_hz, self.delayed_clock))
        unused = ("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PHASEDIR", "PHASESTEP", "PHASELOADREG", "PLLWAKESYNC")
        arguments: list[tuple[str, str, object]] = [("a", "FREQUENCY_PIN_CLKI", f"{self._input_hz / 1e6:g}")]
        for pin, letter, divider, eighths, hz, clock in pins:
            arguments += [
                ("a", f"FREQUENCY_PIN_{pin}", f"{float(hz) / 1e6:g}"),
                ("p", f"{pin}_ENABLE", "ENABLED"),
                ("p", f"{pin}_DIV", divider),
                # Phases count from the divider's last step.
                ("p", f"{pin}_CPHASE", divider - 1 + eighths // EIGHTHS),
                ("p", f"{pin}_FPHASE", eighths % EIGHTHS),
                ("p", f"OUTDIVIDER_MUX{letter}", f"DIV{letter}"),
                ("i", f"EN{pin}", Const(0)),
                ("o", pin, clock),
            ]
        m.submodules.block = Instance(
            "EHXPLLL",
            *arguments,
            *(("i", pin, Const(0)) for pin in unused),
            # The loop filter, as the vendor's tool sets it whatever the frequencies.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_CLKI_DIV=settings.reference,
            p_CLKFB_DIV=1,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=self.input,
            i_CLKFB=feedback,
            o_LOCK=self.locked,
        )
        return m
