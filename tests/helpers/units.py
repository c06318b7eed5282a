"""Simulators of units for tests that differ in their stimuli only."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cache
from typing import Any

import pytest
from amaranth.lib import wiring

from tessera.hw.ecp5.platform import Ecp5
from tessera.sim.verilator.build import build_simulator
from tessera.sim.verilator.options import Simulator


@cache
def simulator(unit: Callable[..., wiring.Component], *arguments: Hashable) -> Simulator:
    """The simulator of ``unit(*arguments)``. Elaborating a unit takes longer than running it: once in a process."""
    return build_simulator(unit(*arguments))


def or_soak(cases: Iterable[Any], usual: Callable[[Any], bool]) -> list[Any]:
    """Parameters of a test: the ``usual`` cases of every suite, the others of `make test-all` alone."""
    return [
        case if usual(case) else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.soak)
        for case in cases
    ]


def rows_of(words: int) -> object:
    """A platform for ECP5 whose block RAMs hold so few words that a small memory takes several rows."""
    platform = Ecp5()
    platform.BLOCK_SHAPES = ((words, 64),)
    return platform
