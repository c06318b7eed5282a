"""What a machine will take of an ECP5, and how fast it may run.

Each configuration is elaborated once per process, which takes nearly all of the time: see
:mod:`tessera.sw.fpga.resources.inventory` for how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from tessera.common.elaboration import unelaborated
from tessera.common.summary import Summarised, Summary
from tessera.hw.boards.board import Board
from tessera.hw.compute.parameters import ParameterStore
from tessera.hw.config import AcceleratorConfig
from tessera.hw.layernorm.layernorm import LayerNorm
from tessera.hw.softmax.softmax import Softmax
from tessera.hw.stream.weight_stream import WeightStream
from tessera.sw.fpga.resources import model
from tessera.sw.fpga.resources.clock import fmax_mhz, used_share
from tessera.sw.fpga.resources.errors import BOUNDS
from tessera.sw.fpga.resources.record import CalibrationRecord, Cells
from tessera.sw.fpga.synthesis.cost import FAMILIES, Family, ecp5_device

LARGEST = FAMILIES["ecp5"]
"""The LFE5U-85F, which all machines were placed on."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate(Summarised):
    """What was worked out.

    Parameters
    ----------
    config, board, device:
        Of what; ``board`` is None for the machine on its own. ``device`` has what there is of each resource.
    units:
        Resources of each unit.
    fmax_mhz:
        Clock, at speed grade 6. None for a machine that takes a larger part of some resource than any that was placed
        to its end: what is as full as that comes to far less, or cannot be routed.
    outside:
        Fields of the configuration that lie beyond all that was calibrated on: then nothing is known of the error of
        look-up tables and flip-flops.
    """

    config: AcceleratorConfig
    board: str | None
    device: Family
    units: Cells
    fmax_mhz: float | None
    outside: tuple[str, ...]

    @property
    def total(self) -> dict[str, int]:
        """Resources of all units together."""
        return model.total_cells(self.units)

    @property
    def least(self) -> dict[str, int]:
        """What it takes at least, were the estimate as wrong as it may be; 0 of what nothing is known."""
        unknown = model.FITTED if self.outside else ()
        return {name: 0 if name in unknown else int(number / (1 + BOUNDS[name])) for name, number in self.total.items()}

    @property
    def too_many(self) -> dict[str, int]:
        """Resources of which the device has too few for certain, and how many are missing at least."""
        return {
            name: self.least[name] - limit for name, limit in self.device.limits.items() if self.least[name] > limit
        }

    def summary(self) -> Summary:
        """Resources in total, and the clock."""
        has = self.device.limits
        rows = [
            (self.device.headings[name], f"{number:,}", f"{number / has[name]:.0%}")
            for name, number in self.total.items()
        ]
        clock = "-" if self.fmax_mhz is None else f"{self.fmax_mhz:.0f}"
        title = f"{self.config.name} on {self.board or self.device.device}, estimated"
        return Summary(title=title, columns=("", "of the device"), rows=(*rows, ("clock, MHz", clock, "")))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-compatible form."""
        return {
            "estimated": True,
            "board": self.board,
            "device": {"name": self.device.device, **self.device.limits},
            "configuration": self.config.to_dict(),
            "total": self.total,
            "used": {name: self.total[name] / limit for name, limit in self.device.limits.items()},
            "units": self.units,
            "too_many": self.too_many,
            "fmax_mhz": None if self.fmax_mhz is None else round(self.fmax_mhz, 1),
            "errors": asdict(calibration_record().errors),
            "outside": list(self.outside),
            "calibration": {"git": calibration_record().git, "tool_versions": calibration_record().tool_versions},
        }


@cache
def calibration_record() -> CalibrationRecord:
    """The shipped record, read once."""
    return CalibrationRecord.load()


def estimate(config: AcceleratorConfig, board: Board | None = None) -> Estimate:
    """Estimate a machine on its own, or a whole board with it.

    Raises
    ------
    ValueError
        A unit or the board's memory cannot be built with these sizes.
    """
    _check_units(config, board)
    device = ecp5_device(board.platform.device) if board else LARGEST
    units = model.unit_cells(config, board, calibration_record().coefficients)
    total = model.total_cells(units)
    return Estimate(
        config=config,
        board=board.name if board else None,
        device=device,
        units=units,
        fmax_mhz=_fmax_mhz(total, device),
        outside=_outside(config),
    )


def _fmax_mhz(total: Mapping[str, int], device: Family) -> float | None:
    if used_share(total, device.limits) > calibration_record().fullest_placed:
        return None
    # On a smaller die the machine lies as close together as on the largest.
    return fmax_mhz(calibration_record().period_ns, used_share(total, LARGEST.limits))


@cache
def _check_units(config: AcceleratorConfig, board: Board | None) -> None:
    """Apply rules that the configuration does not know, before anything is elaborated."""
    with unelaborated():
        for unit in (Softmax, ParameterStore, LayerNorm, WeightStream):
            unit(config)
        if board:
            board.memory_for(config, board.clock_hz)


def _outside(config: AcceleratorConfig) -> tuple[str, ...]:
    """Fields beyond the smallest or largest of the calibration."""
    known = [_sizes(machine.config) for machine in calibration_record().machines if not machine.held_back]
    return tuple(
        name
        for name, value in _sizes(config).items()
        if not min(sizes[name] for sizes in known) <= value <= max(sizes[name] for sizes in known)
    )


def _sizes(config: AcceleratorConfig) -> dict[str, int]:
    numerics = config.numerics
    widths = {"activation_width": numerics.activation_width, "residual_width": numerics.residual_width}
    names = [field.name for field in fields(config) if field.name not in ("name", "numerics")]
    return {**{name: int(getattr(config, name)) for name in names}, **widths}
