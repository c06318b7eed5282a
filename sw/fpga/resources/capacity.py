"""Whether a machine fits its device, asked before synthesis; if not, what is missing and what would fit."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2

from tessera.hw.boards.board import Board
from tessera.hw.config import AcceleratorConfig
from tessera.hw.formats import Numerics
from tessera.hw.presets import PRESETS
from tessera.sw.fpga.resources.errors import BOUNDS
from tessera.sw.fpga.resources.estimate import Estimate, estimate
from tessera.sw.fpga.synthesis.cost import Family, SynthesisError


def check_fits(config: AcceleratorConfig, board: Board | None = None) -> None:
    """Refuse a machine that cannot fit an LFE5U-85F or a board, whatever the estimator's error.

    Raises
    ------
    SynthesisError
        It cannot; the message names each resource, how many are missing, and the nearest preset that fits.
    ValueError
        A unit cannot be built with these sizes.
    """
    found = estimate(config, board)
    if found.too_many:
        raise SynthesisError(shortage(found, board))


def shortage(found: Estimate, board: Board | None) -> str:
    """What is said of an estimate that does not fit."""
    return refusal(found.config, board, found.device, {name: _need(found, name) for name in found.too_many})


def refusal(config: AcceleratorConfig, board: Board | None, device: Family, needs: Mapping[str, str]) -> str:
    """What is said of a machine that does not fit.

    Parameters
    ----------
    config, board, device:
        Which machine, and where.
    needs:
        For each resource that is short, how many it needs and how many are too many: :func:`need`.
    """
    where = f"board {board.name}" if board else f"the {device.device}"
    short = "; ".join(f"{device.headings[name]}: {text}" for name, text in needs.items())
    nearest = nearest_preset(config, board)
    advice = f"; the nearest preset that fits is '{nearest}'" if nearest else ""
    kind = "preset" if config.name in PRESETS else "configuration"
    width = config.numerics.activation_width
    wide = f" with {width}-bit activations" if width != Numerics().activation_width else ""
    return f"{kind} '{config.name}'{wide} does not fit {where}: {short}{advice}"


def need(number: int, limit: int, device: str, how: str = "") -> str:
    """How many of a resource are needed, and how many too many that is."""
    return f"needs {number:,}{how}, the {device} has {limit:,}, {number - limit:,} too many"


def _need(found: Estimate, name: str) -> str:
    how = f" (estimated: {found.total[name]:,}, less {BOUNDS[name]:.0%} for its error)" if BOUNDS[name] else ""
    return need(found.least[name], found.device.limits[name], found.device.device, how)


def nearest_preset(config: AcceleratorConfig, board: Board | None = None) -> str | None:
    """The preset that fits and is most like ``config``: in multiply-accumulates a cycle, then in bytes of its bus.

    It has the same activations. None if no other fits; look-up tables and flip-flops are taken as they are estimated.
    """
    width = config.numerics.activation_width

    def fits(other: AcceleratorConfig) -> bool:
        found = estimate(other.with_activation_width(width), board)
        return all(number <= found.device.limits[name] for name, number in found.total.items())

    def distance(other: AcceleratorConfig) -> tuple[float, float]:
        macs = log2(other.elements * other.lanes) - log2(config.elements * config.lanes)
        return abs(macs), abs(log2(other.memory_bytes) - log2(config.memory_bytes))

    others = sorted((preset for preset in PRESETS.values() if preset.name != config.name), key=distance)
    return next((other.name for other in others if fits(other)), None)
