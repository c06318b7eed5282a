"""``python -m tessera.sw.fpga.route``: how fast a preset's machine runs on its own, placed and routed with nextpnr.

The estimator's clock is fitted to such placements and to the boards'. They are added to ``calibration.json`` by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from tessera.common.collector import collector_paused
from tessera.common.paths import build_folder
from tessera.common.progress import Progress, silent, throttled, within
from tessera.common.schemas.kinds import PLACEMENT
from tessera.common.stamped import write_document
from tessera.hw.accelerator import Accelerator
from tessera.hw.ecp5.platform import Ecp5
from tessera.hw.presets import preset as find_preset
from tessera.sw.fpga.synthesis.few_pins import CORE, FewPins
from tessera.sw.fpga.synthesis.nextpnr import place_and_route, tuned
from tessera.sw.fpga.synthesis.yosys import NETLIST, synthesise

OUT = build_folder() / "route"


@dataclass(frozen=True, kw_only=True)
class RouteReport:
    """How fast a preset's machine is.

    Parameters
    ----------
    preset:
        Name of the machine.
    routes:
        What :func:`tessera.sw.fpga.synthesis.nextpnr.place_and_route` says for each seed.
    """

    preset: str
    routes: list[dict[str, Any]]

    @property
    def fmax_mhz(self) -> float:
        """Clock of the best seed."""
        return max(min(route["clocks"].values()) for route in self.routes)

    def to_dict(self) -> dict[str, Any]:
        """Content of the report's file."""
        return {
            "preset": self.preset,
            "fmax_mhz": self.fmax_mhz,
            "routes": self.routes,
        }


def run_route(
    preset: str,
    out: Path | str = OUT,
    *,
    frequency_mhz: float = 100.0,
    seeds: Sequence[int] = (1,),
    on_progress: Progress = silent,
) -> RouteReport:
    """Synthesise a preset once, place and route it for each seed, and write ``OUT/PRESET.json``.

    Raises
    ------
    ValueError
        Unknown preset.
    SynthesisError
        The design must not be built, or a tool failed.
    """
    out = Path(out)
    work = out / preset
    top = FewPins(Accelerator(find_preset(preset)))
    with collector_paused():
        design = rtlil.convert(top, name="top", emit_src=False, platform=Ecp5())
    synthesise(design, work, within(on_progress, preset, stop=0.5), core=f"top.{CORE}", netlist=True)
    tuned(work / NETLIST, work / NETLIST)
    routes = []
    for number, seed in enumerate(seeds):
        on_progress(preset, 0.5 + 0.5 * number / len(seeds), f"place and route, seed {seed}")
        routes.append(place_and_route(work, frequency_mhz=frequency_mhz, seed=seed, name=f"route_{seed}"))
    on_progress(preset, 1.0, "done")
    report = RouteReport(preset=preset, routes=routes)
    write_document(out / f"{preset}.json", PLACEMENT, report.to_dict())
    return report


def main() -> None:
    """Do as the arguments say, and print the clock."""
    parser = argparse.ArgumentParser(prog="python -m tessera.sw.fpga.route", description=__doc__)
    parser.add_argument("preset", help="machine to place")
    parser.add_argument("--frequency", type=float, default=100.0, help="clock to ask for, in MHz")
    parser.add_argument("--seeds", type=int, default=1, help="placements to try, from different starts")
    given = parser.parse_args()

    def told(stage: str, fraction: float, detail: str) -> None:
        print(f"{stage} {fraction:.0%} {detail}", flush=True)

    report = run_route(
        given.preset, frequency_mhz=given.frequency, seeds=range(1, given.seeds + 1), on_progress=throttled(told, 15.0)
    )
    print(f"{report.preset}: {report.fmax_mhz:.1f} MHz")


if __name__ == "__main__":
    main()
