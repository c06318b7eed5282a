"""The estimator: exact where it says so, right about configurations that it was not fitted to, and it can refuse."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth_boards.versa_ecp5 import VersaECP5Platform

from tessera.hw.accelerator import Accelerator
from tessera.hw.boards.board import board
from tessera.hw.presets import PRESETS, preset
from tessera.sw.fpga.calibrate import refitted
from tessera.sw.fpga.measure import measure
from tessera.sw.fpga.resources import inventory as inventories
from tessera.sw.fpga.resources.block_rams import block_rams, lut_ram
from tessera.sw.fpga.resources.calibration import fit_clock, fit_coefficients
from tessera.sw.fpga.resources.capacity import check_fits, nearest_preset
from tessera.sw.fpga.resources.clock import fmax_mhz
from tessera.sw.fpga.resources.configurations import CALIBRATION, HELD_BACK
from tessera.sw.fpga.resources.errors import BOUNDS, errors, fullest_placed, machine_errors
from tessera.sw.fpga.resources.estimate import LARGEST, estimate
from tessera.sw.fpga.resources.inventory import RtlMemory, board_inventory, machine_inventory
from tessera.sw.fpga.resources.model import by_unit
from tessera.sw.fpga.resources.multipliers import multiplier_blocks
from tessera.sw.fpga.resources.record import CalibrationRecord, CountedMachine, FoundClock
from tessera.sw.fpga.resources.report import remarks
from tessera.sw.fpga.synthesis.cost import SynthesisError, ecp5_device

RECORD = CalibrationRecord.load()
MACHINES = {machine.config.name: machine for machine in RECORD.machines}


@pytest.mark.parametrize("name", MACHINES)
def test_multipliers_and_block_rams_are_those_that_yosys_counted(name: str) -> None:
    machine = MACHINES[name]
    for resource, worked_out in (
        ("dsp", by_unit(machine_inventory(machine.config).products, multiplier_blocks)),
        ("bram", by_unit(machine_inventory(machine.config).memories, block_rams)),
    ):
        counted = {unit: cells[resource] for unit, cells in machine.units.items()}
        assert {unit: worked_out.get(unit, 0) for unit in counted} == counted, resource


def test_a_boards_block_rams_are_those_that_yosys_counted() -> None:
    for parts in RECORD.boards:
        config = replace(preset("tiny"), memory_bytes=parts.memory_bytes)
        blocks = by_unit(board_inventory(board(parts.board), config).memories, block_rams)
        assert blocks == {unit: parts.units[unit]["bram"] for unit in ("host_link", "memory")}, parts
        assert not any(cells["dsp"] for cells in parts.units.values()) and not parts.units["board"]["bram"]


@pytest.mark.parametrize(
    ("words", "width", "shared", "blocks"),
    [
        (1024, 18, True, 1),
        (1025, 18, True, 2),
        (512, 36, False, 1),
        (512, 36, True, 2),
        (16384, 1, True, 1),
        (10240, 96, True, 55),  # measured with Yosys, as are the next two: ecp5-wide with 12-bit activations
        (2048, 160, False, 18),
        (512, 192, False, 6),
        (1536, 88, False, 8),  # measured, too: three rows of ten bytes in blocks of four
        (128, 24, False, 1),  # measured, too: channel shifts, in block RAM with chunks of 8 bytes but not of 16
        (64, 48, False, 0),
    ],
)
def test_the_best_shape_is_taken(words: int, width: int, shared: bool, blocks: int) -> None:
    memory = RtlMemory(path="any", words=words, width=width, shared_ports=int(shared))
    assert block_rams(memory) == blocks and (lut_ram(memory) == 0) == (blocks > 0)
    copies = replace(memory, read_ports=3 + int(shared))
    assert block_rams(copies) == 3 * blocks


def test_it_was_calibrated_on_enough() -> None:
    fitted = [machine for machine in RECORD.machines if not machine.held_back]
    assert len(fitted) >= 12 and len(RECORD.machines) - len(fitted) >= 4
    assert {"tiny", "ecp5-85f", "ecp5-wide"} <= {machine.config.name for machine in fitted}
    assert {config.name: config for config in (*CALIBRATION, *HELD_BACK)} == {n: m.config for n, m in MACHINES.items()}
    sizes = [replace(machine.config, name="any") for machine in RECORD.machines]
    assert len(set(sizes)) == len(sizes), "a configuration is held back and fitted to"


def test_configurations_held_back_are_met() -> None:
    found = errors(RECORD).held_back
    for name, held_back in found.items():
        for resource, bound in BOUNDS.items():
            assert abs(held_back[resource]) <= bound, (name, resource, held_back[resource])


@pytest.mark.soak
def test_this_tree_is_met(tmp_path: Path) -> None:
    """The record may be of an earlier tree: as long as this holds, nobody need calibrate again."""
    config = HELD_BACK[0]
    counted = measure(Accelerator(config), tmp_path).total
    estimated = estimate(config).total
    for resource, bound in BOUNDS.items():
        assert abs(estimated[resource] / counted[resource] - 1) <= bound, (resource, estimated, counted[resource])


def test_a_wrong_coefficient_is_noticed() -> None:
    """What the check above is worth: twice the price of all that the array is made of is too far off."""
    array = RECORD.coefficients["array"]
    wrong = {**array, "lut": {name: 2 * cost for name, cost in array["lut"].items()}}
    found = errors(replace(RECORD, coefficients={**RECORD.coefficients, "array": wrong})).held_back
    assert any(abs(held_back["lut"]) > BOUNDS["lut"] for held_back in found.values())


def test_coefficients_are_those_of_the_fit() -> None:
    again = refitted(RECORD)
    assert again.period_ns == pytest.approx(RECORD.period_ns, rel=1e-3)
    for unit, resources in RECORD.coefficients.items():
        for resource, coefficients in resources.items():
            assert again.coefficients[unit][resource] == pytest.approx(coefficients, rel=1e-2), (unit, resource)


def test_errors_are_those_of_the_fit() -> None:
    again = errors(RECORD)
    assert again.placements == pytest.approx(RECORD.errors.placements, abs=1e-3)
    assert list(again.held_back) == list(RECORD.errors.held_back) == [config.name for config in HELD_BACK]
    for name, held_back in again.held_back.items():
        assert held_back == pytest.approx(RECORD.errors.held_back[name], abs=1e-3), name
    assert fullest_placed(RECORD) == pytest.approx(RECORD.fullest_placed)


@pytest.mark.parametrize("left_out", [m.config.name for m in RECORD.machines if not m.held_back])
def test_no_single_configuration_carries_the_fit(left_out: str) -> None:
    """Each one is estimated without itself; those at the edge of what was tried may be further off."""
    machine = MACHINES[left_out]
    others = [other for other in RECORD.machines if other is not machine]
    found = machine_errors(machine, fit_coefficients(others, RECORD.boards))
    assert abs(found["lut"]) < 0.15 and abs(found["ff"]) < 0.15


def test_a_machine_is_elaborated_once_and_never_synthesised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an estimate's speed rests on; ``make bench`` measures it."""
    designs: list[object] = []
    walk = inventories.inventory
    monkeypatch.setattr(inventories, "inventory", lambda design: designs.append(design) or walk(design))
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: pytest.fail(f"a program is called: {command}"))
    config = replace(preset("ecp5-85f"), max_commands=384)  # which nothing else asks for
    first = estimate(config, board("ulx3s-85f")).to_dict()
    assert len(designs) == 2, "the machine, and what the board has beside it"
    assert estimate(config, board("ulx3s-85f")).to_dict() == first and len(designs) == 2


def test_a_board_is_the_machine_and_more() -> None:
    alone, whole = estimate(preset("ecp5-85f")), estimate(preset("ecp5-85f"), board("ulx3s-85f"))
    assert set(whole.units) - set(alone.units) == {"host_link", "memory", "board"}
    assert whole.total["dsp"] == alone.total["dsp"] == 89 and whole.total["bram"] == 175
    assert not whole.too_many and not whole.outside


def test_the_clock_falls_with_the_part_of_the_device() -> None:
    tiny, large = estimate(preset("tiny")).fmax_mhz, estimate(preset("ecp5-85f")).fmax_mhz
    assert tiny and large and tiny > large
    near = FoundClock(preset="tiny", board=None, mhz=80.0, stage="routed")
    far = FoundClock(preset="ecp5-85f", board="ulx3s-85f", mhz=60.0, stage="placed")
    period = fit_clock([near, far], RECORD.coefficients)
    record = replace(RECORD, placements=[near, far], period_ns=period)
    assert errors(record).placements == pytest.approx([0.0, 0.0], abs=1e-3), "two placements decide two numbers"
    assert fmax_mhz(period, 0.0) > 80.0


def test_no_clock_is_made_up_for_what_is_fuller_than_all_placements() -> None:
    fullest = estimate(preset("ecp5-85f"), board("ulx3s-85f"))
    # Within what three placements of this board differ by: 82.1 to 83.4 MHz.
    assert fullest.fmax_mhz and 82.1 <= fullest.fmax_mhz <= 83.4
    assert "about 83 MHz, a guess: fitted to 5 placements of 2 machines" in next(remarks(fullest))
    fuller = estimate(preset("ecp5-wide"))
    assert fuller.fmax_mhz is None and fuller.to_dict()["fmax_mhz"] is None
    assert "not estimated; it takes more of the device" in next(remarks(fuller)) and "84%" in next(remarks(fuller))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(SynthesisError) as refused:
        check_fits(preset("edge"), board("ulx3s-85f"))
    assert re.fullmatch(
        r"preset 'edge' does not fit board ulx3s-85f: multipliers: needs 345, the LFE5U-85F has 156, 189 too many; "
        r"block RAMs: needs 478, the LFE5U-85F has 208, 270 too many; the nearest preset that fits is 'ecp5-wide'",
        str(refused.value),
    )
    with pytest.raises(SynthesisError, match="does not fit the LFE5U-85F: multipliers"):
        check_fits(preset("edge"))
    for name in ("tiny", "ecp5-85f", "ecp5-wide"):
        check_fits(preset(name), board("ulx3s-85f"))


def test_activations_are_part_of_what_does_not_fit() -> None:
    wide = preset("ecp5-85f").with_activation_width(16)
    with pytest.raises(SynthesisError) as refused:
        check_fits(wide, board("ulx3s-85f"))
    assert re.fullmatch(
        r"preset 'ecp5-85f' with 16-bit activations does not fit board ulx3s-85f: block RAMs: needs 271, the LFE5U-85F "
        r"has 208, 63 too many; the nearest preset that fits is 'tiny'",
        str(refused.value),
    )


def test_the_nearest_preset() -> None:
    assert nearest_preset(preset("edge"), board("ulx3s-85f")) == "ecp5-wide"
    assert nearest_preset(preset("edge"), board("ecpix5-85f")) == "tiny"
    assert nearest_preset(replace(PRESETS["tiny"], name="other", max_tokens=128)) == "tiny"


@pytest.mark.parametrize(
    ("resource", "number", "outside", "missing"),
    [
        ("lut", 83_640, (), 0),
        ("lut", round(83_640 * 1.09), (), 0),  # may be an error of the estimator
        ("lut", round(83_640 * 1.2), (), round(83_640 * 1.2 / 1.1) - 83_640),
        ("lut", 2 * 83_640, ("lanes",), 0),  # nothing is known of the error
        ("dsp", 156, (), 0),
        ("dsp", 157, ("lanes",), 1),
        ("bram", 209, (), 1),
    ],
)
def test_nothing_is_refused_for_the_estimators_error(
    resource: str, number: int, outside: tuple[str, ...], missing: int
) -> None:
    found = estimate(preset("tiny"))
    units = {"all": {**dict.fromkeys(LARGEST.limits, 0), resource: number}}
    too_many = replace(found, units=units, outside=outside).too_many
    assert too_many.get(resource, 0) == pytest.approx(missing, abs=1)


def test_a_smaller_device_has_less() -> None:
    versa = replace(board("ulx3s-85f"), name="versa", platform=VersaECP5Platform)
    found = estimate(preset("ecp5-85f"), versa)
    assert found.to_dict()["device"] == {"name": "LFE5UM-45F", "lut": 43848, "ff": 43848, "dsp": 72, "bram": 108}
    assert found.too_many == {"dsp": found.total["dsp"] - 72, "bram": found.total["bram"] - 108}
    with pytest.raises(
        SynthesisError, match="the LFE5UM-45F has 72, 17 too many.*the nearest preset that fits is 'tiny'"
    ):
        check_fits(preset("ecp5-85f"), versa)


def test_a_device_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown device 'LFE5U-95F'; give an ECP5: .* of one of the sizes 12F, 25F"):
        ecp5_device("LFE5U-95F")


def test_sizes_never_tried_are_told() -> None:
    assert estimate(replace(preset("tiny"), elements=32, lanes=64, requantise_lanes=8)).outside == ("elements", "lanes")
    assert all(not estimate(machine.config).outside for machine in RECORD.machines)


def test_what_a_unit_cannot_do_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_tokens is 2048, but an attention buffer of the banks holds"):
        estimate(replace(preset("tiny"), max_tokens=2048))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORD.save(tmp_path / "record.json")
    assert CalibrationRecord.load(tmp_path / "record.json") == RECORD
    assert all(
        isinstance(machine, CountedMachine) for machine in CalibrationRecord.load(tmp_path / "record.json").machines
    )
    for text in ("{", "{}", '{"machines": [{}], "boards": [], "placements": []}'):
        (tmp_path / "broken.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"broken.json is no calibration of the estimator .*tessera.sw.fpga.calibrate"
        ):
            CalibrationRecord.load(tmp_path / "broken.json")
