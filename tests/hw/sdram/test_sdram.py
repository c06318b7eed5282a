"""The SDRAM memory keeps to the chip's data sheet, loses nothing, and keeps the pins busy."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tessera.hw.presets import preset
from tessera.hw.sdram.chip import ANY_CHIP, CHIPS, SdramTiming
from tessera.hw.sdram.controller import SdramController
from tessera.hw.sdram.memory import SdramMemory
from tessera.sim.bench.run import BenchFailure
from tessera.sim.machine.sdram import ROW_TIMES, data_sheet
from tessera.sw.fpga.measure import measure
from tests.hw.sdram.sdram_models import exactly, run, system

MHZ = 1_000_000

# Every time is long enough to be the one that decides, and none follows from others.
STRETCHED = SdramTiming(cas_latency=2, rcd=4, rp=3, ras=9, rc=14, rrd=4, wr=5, rfc=9, mrd=5, refi=300, power_up=500)


@pytest.mark.parametrize("name", CHIPS)
def test_cycles_of_a_clock_are_enough_and_no_more(name):
    chip = CHIPS[name]
    for clock_hz in (80 * MHZ, 100 * MHZ, 110 * MHZ, 133 * MHZ):
        timing, period = chip.timing(clock_hz), 1e9 / clock_hz
        for each in ROW_TIMES:
            cycles, needed = getattr(timing, each), getattr(chip, each)
            assert (cycles - 1) * period < needed <= cycles * period + 1e-9, (each, clock_hz)
        assert timing.refi * period <= 64e6 / 8192 < (timing.refi + 1) * period
        assert period >= {2: chip.period_cas2, 3: chip.period_cas3}[timing.cas_latency]


def test_a_clock_beyond_the_chip_is_refused():
    with pytest.raises(ValueError, match="at 150 MHz with CAS latency 3: the chip allows 100 MHz at CAS latency 2"):
        CHIPS["IS42S16160G-7"].timing(150 * MHZ)
    with pytest.raises(ValueError, match="with CAS latency 2: the chip allows 100 MHz at CAS latency 2, 143 MHz at 3"):
        CHIPS["IS42S16160G-7"].timing(110 * MHZ, cas_latency=2)
    with pytest.raises(ValueError, match="would do little but refresh"):
        CHIPS["IS42S16160G-7"].timing(1 * MHZ)


def test_impossible_memories_are_refused():
    timing = ANY_CHIP.timing(100 * MHZ)
    with pytest.raises(ValueError, match="at least one client"):
        SdramMemory(preset("tiny"), timing, readers=0, writers=0)
    with pytest.raises(ValueError, match="extra_latency is -1"):
        SdramController(timing, 1, extra_latency=-1)


@pytest.mark.parametrize(
    ("chip", "clock_hz", "cas_latency", "bus", "extra_latency", "pause"),
    [
        ("IS42S16160G-7", 100 * MHZ, 2, "ecp5-wide", 0, 0),
        ("MT48LC16M16A2-75", 110 * MHZ, 3, "ecp5-wide", 1, 100),
        ("AS4C16M16SA-7", 80 * MHZ, 3, "tiny", 0, 30),
    ],
)
def test_traffic(chip, clock_hz, cas_latency, bus, extra_latency, pause):
    """Random bursts of two clients against a reference, then every word of the chip compared."""
    simulator = system(CHIPS[chip].timing(clock_hz, cas_latency), bus, extra_latency)
    settings = data_sheet(CHIPS[chip], clock_hz) | {"board": extra_latency}
    counted = run(simulator, settings, seed=3, accesses=7000, pause=pause)
    assert counted["finished"] >= 7000 and counted["outside"] > 100


def test_long_bursts_fill_the_buffers():
    """Two clients that send more than the chip takes."""
    chip = CHIPS["IS42S16160G-7"]
    run(system(chip.timing(100 * MHZ)), data_sheet(chip, 100 * MHZ), seed=4, accesses=1000, long=1)


def test_streams():
    """At least 97 % of the pins' bandwidth, refresh included, and a latency that the documentation states."""
    chip = CHIPS["IS42S16160G-7"]
    simulator = system(chip.timing(100 * MHZ))
    for burst in (256, 16):
        counted = run(simulator, data_sheet(chip, 100 * MHZ), accesses=40_000 // burst, stream=burst)
        assert counted["beats"] / counted["cycle"] > 0.97
        assert counted["latency"] == 17
    counted = run(simulator, data_sheet(chip, 100 * MHZ), accesses=40_000 // 256, stream=256, stream_write=1)
    assert counted["beats"] / counted["cycle"] > 0.96


def test_words_from_another_cycle_are_noticed():
    chip = CHIPS["IS42S16160G-7"]
    with pytest.raises(BenchFailure, match="client .: read .* expected"):
        run(system(chip.timing(100 * MHZ)), data_sheet(chip, 100 * MHZ) | {"board": 1}, accesses=100)


def test_every_cycle_is_used():
    """A chip that needs every cycle of the timing, and refresh under full load to the cycle."""
    run(system(STRETCHED), exactly(STRETCHED), accesses=3000)


@pytest.mark.parametrize("name", [f"t{name}" for name in ROW_TIMES])
def test_a_chip_that_needs_more_objects(name):
    """The controller keeps this time too short by a cycle: the chip's is a picosecond longer than what it keeps."""
    settings = exactly(STRETCHED)
    settings[name] += 1
    with pytest.raises(BenchFailure, match=f"sdram_chip: {name[0]}{name[1:].upper()} violated in bank"):
        run(system(STRETCHED), settings, accesses=3000)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("gap", (STRETCHED.refresh_period - 1) * 10_000, "tREFI violated: no refresh for"),
        ("tref", 64 * (STRETCHED.refresh_period * 8 // 10) * 10_000, "tREF violated: "),
        ("powerup", (STRETCHED.power_up + 10) * 10_000, "power-up: a command after"),
        ("first", 9, "power-up: 8 refreshes before the mode register is set, 9 are needed"),
        ("tmrd", (STRETCHED.mrd + 30) * 10_000, "tMRD violated"),  # clients wait for power-up, so it is never close
        ("tck2", 10_001, "tCK: CAS latency 2 is too short for a clock of 10000 ps"),
    ],
)
def test_a_chip_with_other_needs_objects(setting, value, message):
    with pytest.raises(BenchFailure, match=message):
        run(system(STRETCHED), exactly(STRETCHED) | {setting: value}, accesses=3000)


@dataclass(frozen=True, kw_only=True)
class Hasty(SdramTiming):
    """Turns from reading to writing too early."""

    @property
    def read_to_write(self):
        return super().read_to_write - 1


def test_turning_the_data_pins_too_early_is_noticed():
    fields = {name: getattr(STRETCHED, name) for name in STRETCHED.__dataclass_fields__}
    with pytest.raises(BenchFailure, match="sdram_chip: tHZ violated"):
        run(system(Hasty(**fields)), exactly(STRETCHED), accesses=500)


def test_synthesis(tmp_path):
    """For ECP5 without a fault; each port's buffer is one block RAM."""
    cost = measure(SdramMemory(preset("ecp5-wide"), ANY_CHIP.timing(100 * MHZ), readers=2, writers=2), tmp_path)
    assert not cost.excess and (cost.total["bram"], cost.total["dsp"]) == (4, 0) and cost.total["lut"] < 1400
