"""The SDRAM of a simulated board: which chip at which clock, for the controller and for the chip's model alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hw.sdram.chip import ANY_CHIP, SdramChip, SdramTiming
from sim.models import MODELS

SOURCE = MODELS / "sdram_chip.sv"
CONTROLLER_CYCLES = 12
"""Of a read's way to the chip and back."""
ROW_TIMES = ("rcd", "rp", "ras", "rc", "rrd", "wr", "rfc")


def data_sheet(chip: SdramChip, clock_hz: int) -> dict[str, int]:
    """The model's settings for a chip, in picoseconds, straight from the data sheet's nanoseconds."""
    period = 10**12 // clock_hz
    times = {f"t{name}": round(1000 * getattr(chip, name)) for name in ROW_TIMES}
    return times | {
        "period": period,
        "tck2": round(1000 * chip.period_cas2),
        "tck3": round(1000 * chip.period_cas3),
        "tmrd": chip.mode_cycles * period,
        "tref": round(1000 * chip.refresh_window),
        "powerup": round(1000 * chip.power_up),
    }


@dataclass(frozen=True, kw_only=True)
class SdramSettings:
    """A chip and the clock that it shares with the core.

    Parameters
    ----------
    chip:
        Its data sheet: the controller keeps to it, the model checks it.
    clock_hz:
        Frequency of the clock.
    """

    chip: SdramChip = ANY_CHIP
    clock_hz: int = 100_000_000

    @property
    def read_latency(self) -> int:
        """Cycles from a read's address to its first beat, when its row is closed and nothing comes between."""
        return CONTROLLER_CYCLES + self.timing.rcd + self.timing.cas_latency

    @property
    def timing(self) -> SdramTiming:
        """The controller's parameter; raises ValueError if the chip cannot be clocked so."""
        return self.chip.timing(self.clock_hz)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {"sdram": self.chip.name, "clock_hz": self.clock_hz}

    def plusargs(self) -> list[str]:
        """Arguments of ``sdram_chip.sv``."""
        return [f"+sdram_{name}={value}" for name, value in data_sheet(self.chip, self.clock_hz).items()]
