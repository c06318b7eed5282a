"""``make sdram-soak``: a million random bursts, and 64 ms of refresh, on the SDRAM memory with its chip model."""

from __future__ import annotations

import time

from tessera.hw.sdram.chip import CHIPS
from tessera.sim.machine.sdram import data_sheet
from tests.hw.sdram.sdram_models import run, system

BURSTS = 500_000


def main() -> None:
    """Run both ends: the fastest clock of CAS latency 2 without pauses, and CAS latency 3 with many."""
    for seed, (name, clock_hz, pause) in enumerate(
        [("IS42S16160G-7", 100_000_000, 0), ("MT48LC16M16A2-75", 133_000_000, 100)]
    ):
        chip, start = CHIPS[name], time.monotonic()
        simulator = system(chip.timing(clock_hz), optimise=True)
        counted = run(simulator, data_sheet(chip, clock_hz), seed=seed, timeout_s=3600, accesses=BURSTS, pause=pause)
        print(
            f"{name} at {clock_hz / 1e6:g} MHz: {counted['finished']:,} bursts, {counted['beats']:,} beats in "
            f"{counted['cycle']:,} cycles, {counted['outside']:,} refused; {time.monotonic() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
