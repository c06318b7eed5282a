"""What the estimator was calibrated on, and its coefficients: ``calibration.json`` beside this file.

Written by ``python -m tessera.sw.fpga.calibrate``; placements are added to it by hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tessera.common.files import write_text
from tessera.hw.config import AcceleratorConfig

FILE = Path(__file__).with_name("calibration.json")

Cells = dict[str, dict[str, int]]
"""``lut``, ``ff``, ``dsp`` and ``bram`` of each unit, by its name."""

Coefficients = dict[str, dict[str, dict[str, float]]]
"""For each unit, for ``lut`` and ``ff``: how many of them one of each feature costs."""


@dataclass(frozen=True, kw_only=True)
class CountedMachine:
    """A configuration and the cells that Yosys made of its units; ``held_back`` ones are never fitted to."""

    configuration: dict[str, Any]
    held_back: bool
    units: Cells

    @property
    def config(self) -> AcceleratorConfig:
        """The configuration itself."""
        return AcceleratorConfig.from_dict(self.configuration)

    def total(self, resource: str) -> int:
        """Of all units."""
        return sum(cells[resource] for cells in self.units.values())


@dataclass(frozen=True, kw_only=True)
class CountedBoard:
    """Cells of what a board has beside the machine, with a bus of so many bytes."""

    board: str
    memory_bytes: int
    units: Cells


@dataclass(frozen=True, kw_only=True)
class FoundClock:
    """A clock that nextpnr found.

    Parameters
    ----------
    preset, board:
        What was placed: on a board, or on its own (``tessera.sw.fpga.route``) if that is null.
    mhz:
        The clock.
    stage:
        ``placed``: nextpnr's estimate after placement. ``routed``: with the wires as they are.
    note:
        Which tree, seed and placer.
    """

    preset: str
    board: str | None
    mhz: float
    stage: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class EstimateErrors:
    """Relative errors: estimate / truth - 1.

    Parameters
    ----------
    held_back:
        Errors of each configuration that was not fitted to, for each resource, of the whole machine.
    placements:
        Errors of the clock, for each placement that it was fitted to.
    """

    held_back: dict[str, dict[str, float]] = field(default_factory=dict)
    placements: list[float] = field(default_factory=list)

    def worst(self, resource: str) -> float:
        """Largest error of a resource, without its sign."""
        return max(abs(errors[resource]) for errors in self.held_back.values())


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord:
    """Everything that the estimator knows.

    Parameters
    ----------
    git, tool_versions:
        Tree and tools with which the cells were counted.
    machines, boards, placements:
        What was counted and placed.
    coefficients, period_ns:
        What was fitted: cost of each feature, and the two numbers of the clock.
    errors, fullest_placed:
        What the fit is worth: its errors, and the part of the device that the fullest placed machine takes. They are
        kept here because working them out elaborates all machines in question.
    """

    git: str
    tool_versions: dict[str, str]
    machines: list[CountedMachine]
    boards: list[CountedBoard]
    placements: list[FoundClock] = field(default_factory=list)
    coefficients: Coefficients = field(default_factory=dict)
    period_ns: dict[str, float] = field(default_factory=dict)
    errors: EstimateErrors = field(default_factory=EstimateErrors)
    fullest_placed: float = 0.0

    def save(self, file: Path = FILE) -> None:
        """Write it, a machine's unit or a coefficient's unit a line."""
        write_text(file, _indented(asdict(self), depth=4) + "\n")

    @classmethod
    def load(cls, file: Path = FILE) -> CalibrationRecord:
        """Read it.

        Raises
        ------
        ValueError
            It is not there, or not what this reads.
        """
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            return cls(
                **{
                    **data,
                    "machines": [CountedMachine(**machine) for machine in data["machines"]],
                    "boards": [CountedBoard(**board) for board in data["boards"]],
                    "placements": [FoundClock(**placement) for placement in data["placements"]],
                    "errors": EstimateErrors(**data["errors"]),
                }
            )
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{file} is no calibration of the estimator ({error}); run `python -m tessera.sw.fpga.calibrate`"
            ) from error


def _indented(value: Any, depth: int, margin: str = "") -> str:
    """JSON with its outer ``depth`` levels a line each."""
    inner = margin + " "
    if depth and isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(key)}: {_indented(item, depth - 1, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{margin}}}"
    if depth and isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + _indented(item, depth - 1, inner) for item in value) + f"\n{margin}]"
    return json.dumps(value)
