"""How fast the machine simulates: our fast build, cocotb's stock build, Amaranth's own simulator, all of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from tessera.common.progress import Progress, silent
from tessera.sim.machine.amaranth_machine import cycles_per_second
from tessera.sim.machine.frames import Frame
from tessera.sim.machine.run import run_machine
from tessera.sim.machine.simulator import build_machine
from tessera.sw.data.pictures import scene_picture
from tessera.sw.run.prepare import Prepared
from tessera.sw.run.profile import machine_simulator

ROUNDS = 3
"""Alternating runs of the fast and of the stock build."""
AMARANTH_CYCLES = 400
"""Cycles on Amaranth's simulator: enough to be past the start, little enough to wait for."""


@dataclass(frozen=True, kw_only=True)
class SimulationSpeeds:
    """Speeds of the simulators on one frame.

    Parameters
    ----------
    preset, model:
        Machine and model of the frame.
    rounds:
        Alternating runs of the fast and of the stock build.
    fast, stock, amaranth:
        Cycles per second: medians of the runs; Amaranth's simulator runs once.
    ratio, ratio_amaranth:
        Speed of the fast build over the stock build's and over Amaranth's simulator's.
    runs:
        Cycles per second of each run, by build.
    """

    preset: str
    model: str
    rounds: int
    fast: float
    stock: float
    amaranth: float
    ratio: float
    ratio_amaranth: float
    runs: dict[str, list[float]]


def measure_simulators(prepared: Prepared, *, rounds: int = ROUNDS, on_progress: Progress = silent) -> SimulationSpeeds:
    """Cycles a second of each simulator, in turns on the same frame: medians, and ratios to the stock build.

    The stock build has every signal public, as cocotb's own runner builds it, and no waves; RTL, test bench and traces
    are the same. Amaranth's simulator runs the beginning of the frame, without traces.
    """
    frame = Frame(task=0, image=scene_picture(prepared.program.model).image)
    builds = {
        "fast": machine_simulator(prepared.config, on_progress=on_progress),
        "stock": build_machine(prepared.config, stock=True, on_progress=on_progress),
    }
    speeds: dict[str, list[float]] = {name: [] for name in builds}
    for number in range(rounds):
        for name, simulator in builds.items():
            on_progress("simulation speed", number / rounds, name)
            result = run_machine(prepared.program, [frame], simulator=simulator)[0]
            speeds[name].append(result.cycles / result.seconds)
    medians = {name: median(values) for name, values in speeds.items()}
    on_progress("simulation speed", 0.95, "Amaranth's simulator")
    amaranth = cycles_per_second(prepared.program, frame, AMARANTH_CYCLES)
    on_progress("simulation speed", 1.0, "")
    return SimulationSpeeds(
        preset=prepared.config.name,
        model=prepared.program.model.name,
        rounds=rounds,
        **medians,
        amaranth=amaranth,
        ratio=medians["fast"] / medians["stock"],
        ratio_amaranth=medians["fast"] / amaranth,
        runs=speeds,
    )
