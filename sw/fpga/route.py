"""How fast a preset runs: the machine on its own, placed and routed with nextpnr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from common.collector import collector_paused
from common.files import write_json
from common.paths import PROJECT_ROOT
from common.progress import Progress, silent, within
from common.tools import git_id, tool_versions
from hw.accelerator import Accelerator
from hw.config import preset as find_preset
from hw.ecp5.platform import Ecp5
from sw.fpga.synthesis.few_pins import CORE, FewPins
from sw.fpga.synthesis.nextpnr import place_and_route, tuned
from sw.fpga.synthesis.yosys import NETLIST, synthesise


def run_route(
    preset: str,
    out: Path | str = PROJECT_ROOT / "build" / "route",
    *,
    frequency_mhz: float = 100.0,
    seeds: tuple[int, ...] = (1,),
    on_progress: Progress = silent,
) -> dict[str, Any]:
    """Synthesise a preset once, place and route it for each seed, and write ``OUT/PRESET.json``.

    Returns
    -------
    dict
        ``routes``: what :func:`sw.fpga.synthesis.nextpnr.place_and_route` says for each seed; ``fmax_mhz``: the best;
        ``preset``, ``tool_versions``, ``git``.

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
    result = {
        "preset": preset,
        "fmax_mhz": max(min(route["clocks"].values()) for route in routes),
        "routes": routes,
        "tool_versions": tool_versions(),
        "git": git_id(),
    }
    write_json(out / f"{preset}.json", result)
    return result
