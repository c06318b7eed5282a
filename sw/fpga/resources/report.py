"""What is said of an estimate on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from tessera.sw.fpga.resources.errors import BOUNDS
from tessera.sw.fpga.resources.estimate import Estimate, calibration_record
from tessera.sw.fpga.synthesis.cost import RESOURCES
from tessera.sw.fpga.synthesis.table import cells_table


def estimate_table(found: Estimate) -> Table:
    """Resources of each unit, in total, and how wrong they may be."""
    known = calibration_record().errors
    where = f"board {found.board} ({found.device.device})" if found.board else found.device.device
    errors = {name: "exact" if not BOUNDS[name] else f"± {known.worst(name):.1%}" for name in RESOURCES}
    if found.outside:
        errors |= {name: "unknown" for name in RESOURCES if BOUNDS[name]}
    return cells_table(
        f"{found.config.name} on {where}, estimated",
        found.units,
        found.device.device,
        found.device.limits,
        found.device.headings,
        notes=[(f"error on {len(known.held_back)} held back", errors)],
    )


def remarks(found: Estimate) -> Iterator[str]:
    """Lines below the table: the clock, what is uncertain."""
    known = calibration_record().errors
    placed = len({(placement.preset, placement.board) for placement in calibration_record().placements})
    if found.fmax_mhz is None:
        yield (
            f"Fmax: not estimated; it takes more of the device than any machine that was placed to its end, at most "
            f"{calibration_record().fullest_placed:.0%} of a resource, "
            "so expect far less than those, or wires that cannot be routed"
        )
    else:
        yield (
            f"Fmax: about {found.fmax_mhz:.0f} MHz, a guess: fitted to {len(known.placements)} placements of {placed} "
            "machines at speed grade 6, and held against no other"
        )
    fitted = sum(not machine.held_back for machine in calibration_record().machines)
    yield f"Calibrated on {fitted} configurations, as git {calibration_record().git} was synthesised"
    if found.outside:
        yield (
            f"Beyond all that was synthesised for the calibration: {', '.join(found.outside)}; the error of look-up "
            "tables and flip-flops is not known"
        )
    headings = found.device.headings
    for name, limit in found.device.limits.items():
        if found.total[name] > limit and name not in found.too_many:
            yield (
                f"May not fit: {headings[name]}: {found.total[name]:,} of {limit:,}, within the error; "
                "`tessera synth` counts them"
            )
