"""The SDRAM of a simulated board: one setting of chip and clock, for the controller and for the chip's model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tessera.hw.sdram.chip import ANY_CHIP, SdramChip, SdramTiming
from tessera.sim.models import MODELS

SOURCE = MODELS / "sdram_chip.sv"
CONTROLLER_CYCLES = 12
"""Cycles of a read on its way to the chip and back."""
ROW_TIMES = ("rcd", "rp", "ras", "rc", "rrd", "wr", "rfc")


def data_sheet(chip: SdramChip, clock_hz: int) -> dict[str, int]:
    """Return the model's settings for a chip in picoseconds, from the data sheet's nanoseconds."""
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
        Data sheet of the chip. The controller obeys it, the model checks it.
    clock_hz:
        Frequency of the clock.
    """

    chip: SdramChip = ANY_CHIP
    clock_hz: int = 100_000_000

    @property
    def read_latency(self) -> int:
        """Cycles from a read's address to its first beat if its row is closed and the memory is idle."""
        return CONTROLLER_CYCLES + self.timing.rcd + self.timing.cas_latency

    @property
    def timing(self) -> SdramTiming:
        """Timing for the controller; raises ValueError if the chip does not allow the clock."""
        return self.chip.timing(self.clock_hz)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible form."""
        return {"sdram": self.chip.name, "clock_hz": self.clock_hz}

    def plusargs(self) -> list[str]:
        """Return the arguments of ``sdram_chip.sv``."""
        return [f"+sdram_{name}={value}" for name, value in data_sheet(self.chip, self.clock_hz).items()]
