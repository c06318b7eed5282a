"""SDR SDRAM chips of 16M x 16: what the data sheets say in nanoseconds, and what that is in cycles of a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

POWER_UP_REFRESHES = 8
"""Refreshes before the mode register is set: all data sheets ask for 2, older chips for 8."""

ALL_BANKS = 1 << 10
"""Address bit of PRECHARGE that closes all banks."""


class ChipCommand:
    """Commands of the chip as {we_n, cas_n, ras_n}."""

    NOTHING = 0b111
    ACTIVE = 0b110
    READ = 0b101
    WRITE = 0b001
    PRECHARGE = 0b010
    REFRESH = 0b100
    LOAD_MODE = 0b000


@dataclass(frozen=True, kw_only=True)
class SdramChip:
    """One data sheet. Times are in nanoseconds, minima unless said otherwise.

    Parameters
    ----------
    name:
        Part number with speed grade.
    period_cas2, period_cas3:
        Shortest clock period at a CAS latency of 2 and of 3 cycles.
    rcd, rp, ras, rc, rrd:
        Row timing: ACTIVE to READ or WRITE, PRECHARGE to ACTIVE, ACTIVE to PRECHARGE, ACTIVE to ACTIVE of a bank, and
        ACTIVE to ACTIVE of different banks.
    wr:
        Last word written to PRECHARGE.
    rfc:
        AUTO REFRESH to the next command.
    mode_cycles:
        LOAD MODE REGISTER to the next command, in cycles (tMRD).
    refresh_window, refresh_rows:
        So many AUTO REFRESH commands are due in this time (a maximum).
    power_up:
        Pause from a stable clock to the first command. Some sheets ask for 100 us only; 200 us suit them all.
    """

    name: str
    period_cas2: float
    period_cas3: float
    rcd: float
    rp: float
    ras: float
    rc: float
    rrd: float
    wr: float
    rfc: float
    mode_cycles: int = 2
    refresh_window: float = 64e6
    refresh_rows: int = 8192
    power_up: float = 200e3

    def timing(self, clock_hz: int, cas_latency: int | None = None) -> SdramTiming:
        """The chip in cycles of a clock.

        Parameters
        ----------
        clock_hz:
            Frequency of the memory clock.
        cas_latency:
            2 or 3; the shortest that the frequency allows unless given.

        Raises
        ------
        ValueError
            The chip cannot do that; the message gives the limits.
        """
        fits = {2: clock_hz * self.period_cas2 <= 1e9, 3: clock_hz * self.period_cas3 <= 1e9}
        latency = cas_latency or (2 if fits[2] else 3)
        if not fits.get(latency):
            limits = f"{1e3 / self.period_cas2:.0f} MHz at CAS latency 2, {1e3 / self.period_cas3:.0f} MHz at 3"
            raise ValueError(
                f"{self.name} at {clock_hz / 1e6:g} MHz with CAS latency {latency}: the chip allows {limits}"
            )

        def at_least(nanoseconds: float) -> int:
            return -(-round(nanoseconds * 1000) * clock_hz // 10**12)

        timing = SdramTiming(
            cas_latency=latency,
            rcd=at_least(self.rcd),
            rp=at_least(self.rp),
            ras=at_least(self.ras),
            rc=at_least(self.rc),
            rrd=at_least(self.rrd),
            wr=at_least(self.wr),
            rfc=at_least(self.rfc),
            mrd=self.mode_cycles,
            refi=round(self.refresh_window * 1000) * clock_hz // (self.refresh_rows * 10**12),
            power_up=at_least(self.power_up),
        )
        if timing.refi < 2 * timing.refresh_cycles:
            raise ValueError(f"{self.name} at {clock_hz / 1e6:g} MHz would do little but refresh; use a faster clock")
        return timing


@dataclass(frozen=True, kw_only=True)
class SdramTiming:
    """A chip in cycles: what the controller keeps to. Names as in :class:`SdramChip`; ``refi`` is a maximum."""

    cas_latency: int
    rcd: int
    rp: int
    ras: int
    rc: int
    rrd: int
    wr: int
    rfc: int
    mrd: int
    refi: int
    power_up: int

    @property
    def read_to_write(self) -> int:
        """READ to WRITE: the chip's word, then a cycle in which nobody drives the data pins."""
        return self.cas_latency + 2

    @property
    def active_to_close(self) -> int:
        """ACTIVE to a PRECHARGE before AUTO REFRESH, which like another ACTIVE must not come before tRC."""
        return max(self.ras, self.rc - self.rp)

    @property
    def refresh_delay(self) -> int:
        """Longest time from a refresh falling due to its command: until rows may be closed, then PRECHARGE."""
        return max(self.active_to_close, self.wr) + self.rp

    @property
    def refresh_period(self) -> int:
        """How often a refresh falls due, so that even the latest command comes within ``refi`` of the one before."""
        return self.refi - self.refresh_delay

    @property
    def refresh_cycles(self) -> int:
        """What one refresh takes from the traffic at most, until the row in use is open again."""
        return self.refresh_delay + self.rfc + self.rcd + 3

    @property
    def mode_register(self) -> int:
        """Bursts of one word, sequential, at the CAS latency."""
        return self.cas_latency << 4


# A tuple of times per chip, because a table can be compared with the data sheets line by line.
_MINIMA = ("period_cas2", "period_cas3", "rcd", "rp", "ras", "rc", "rrd", "wr", "rfc")

_SHEETS = {
    "MT48LC16M16A2-7E": (7.5, 7.0, 15, 15, 37, 60, 14, 14, 66),
    "MT48LC16M16A2-75": (10.0, 7.5, 20, 20, 44, 66, 15, 15, 66),
    "IS42S16160G-7": (10.0, 7.0, 15, 15, 37, 60, 14, 14, 60),
    "AS4C16M16SA-7": (10.0, 7.0, 21, 21, 42, 63, 14, 14, 63),
}


def _chip(name: str, times: Sequence[float]) -> SdramChip:
    return SdramChip(name=name, **dict(zip(_MINIMA, times, strict=True)))  # type: ignore[arg-type]


CHIPS = {name: _chip(name, times) for name, times in _SHEETS.items()}
"""Chips of 32 MB that the ULX3S is built with."""

ANY_CHIP = _chip("any chip of the ULX3S", [max(times) for times in zip(*_SHEETS.values(), strict=True)])
"""The longest of every time: what is timed for it works with all of :data:`CHIPS`."""
