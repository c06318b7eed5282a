"""The PLL's dividers keep the data sheet's limits and make the frequency exactly; if not, the refusal names others."""

from fractions import Fraction

import pytest
from amaranth.back import rtlil

from tessera.hw.ecp5.pll import Pll, pll_settings

MHZ = 1_000_000


@pytest.mark.parametrize("input_mhz", [12, 25, 100])
@pytest.mark.parametrize("output_mhz", [25, 60, 80, 85, 100, 110, 125, 200])
def test_limits_are_kept(input_mhz, output_mhz):
    try:
        settings = pll_settings(input_mhz * MHZ, output_mhz * MHZ)
    except ValueError as error:
        # 12 MHz makes multiples of 12 MHz, divided, and no detector slower than 10 MHz.
        assert input_mhz == 12 and "the PLL cannot make" in str(error)
        return
    detector = Fraction(input_mhz, settings.reference)
    oscillator = detector * settings.multiplier
    assert 10 <= detector <= 400 and 400 <= oscillator <= 800
    assert oscillator / settings.output == output_mhz
    assert all(1 <= divider <= 128 for divider in (settings.reference, settings.multiplier, settings.output))


def test_the_board_s_clocks():
    assert pll_settings(25 * MHZ, 80 * MHZ).oscillator_hz(25 * MHZ) == 400 * MHZ
    assert pll_settings(25 * MHZ, 100 * MHZ).oscillator_hz(25 * MHZ) == 600 * MHZ, "the middle of its range"


@pytest.mark.parametrize(
    ("input_hz", "output_hz", "words"),
    [
        (25 * MHZ, 83_123_456, "cannot make 83.1235 MHz of 25 MHz; choose 82.8125 MHz or 84.375 MHz"),
        (5 * MHZ, 80 * MHZ, "input of the PLL is 5 MHz; choose one of 8 to 400 MHz"),
        (25 * MHZ, 1 * MHZ, "output of the PLL is 1 MHz; choose one of 3.125 to 400 MHz"),
    ],
)
def test_what_cannot_be_made_is_refused(input_hz, output_hz, words):
    with pytest.raises(ValueError, match=words):
        pll_settings(input_hz, output_hz)


def test_delay_must_be_a_part_of_a_period():
    with pytest.raises(ValueError, match="delay is 1.5; choose a part of the period"):
        Pll(25 * MHZ, 80 * MHZ, 1.5)


def parameters(pll):
    text = rtlil.convert(pll, name="top", emit_src=False)
    words = (line.split() for line in text.splitlines() if line.strip().startswith("parameter"))
    return {word[-2].removeprefix("\\"): int(word[-1]) for word in words if word[-1].isdigit()}


def test_delay_is_in_eighths_of_the_oscillator():
    # 400 MHz / 5: a period has 40 steps, of which 0.7 are 28, or 3 whole oscillations and 4 eighths.
    seen = parameters(Pll(25 * MHZ, 80 * MHZ, 0.7))
    assert (seen["CLKOS_DIV"], seen["CLKOS_CPHASE"], seen["CLKOS_FPHASE"]) == (5, 4, 0)
    assert (seen["CLKOS2_DIV"], seen["CLKOS2_CPHASE"], seen["CLKOS2_FPHASE"]) == (5, 4 + 3, 4)
    assert (seen["CLKI_DIV"], seen["CLKFB_DIV"], seen["CLKOP_DIV"]) == (1, 1, 16)
    assert "CLKOS2_DIV" not in parameters(Pll(25 * MHZ, 80 * MHZ))
