"""``tessera synth``: what a preset costs on an FPGA, module by module, before place and route."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable
from rich.table import Table

from tessera.common.collector import collector_paused
from tessera.common.expected import PATH, expect
from tessera.common.files import check_folder
from tessera.common.paths import build_folder
from tessera.common.progress import Progress, silent, within
from tessera.common.schemas.kinds import SYNTHESIS
from tessera.common.stamped import write_document
from tessera.common.summary import Summarised, Summary
from tessera.hw.accelerator import Accelerator
from tessera.hw.config import AcceleratorConfig
from tessera.hw.ecp5.platform import Ecp5
from tessera.hw.presets import preset as find_preset
from tessera.sw.fpga.resources.capacity import check_fits
from tessera.sw.fpga.synthesis.cost import RESOURCES, Family, count, excess
from tessera.sw.fpga.synthesis.cost import family as find_family
from tessera.sw.fpga.synthesis.table import cells_table
from tessera.sw.fpga.synthesis.yosys import synthesise

OUT = build_folder() / "synth"

PLATFORMS: dict[str, Callable[[], object | None]] = {"ecp5": Ecp5, "xcup": lambda: None}
"""What a design is elaborated with for each family of ``tessera.sw.fpga.synthesis.cost``."""


@dataclass(frozen=True, kw_only=True)
class SynthesisCost:
    """What a design takes of a device, before place and route.

    Parameters
    ----------
    family:
        FPGA family, with its device and that one's limits.
    modules:
        Resources of each module, without those of modules in it.
    memories:
        Memories as Yosys built them.
    seconds:
        Time that it took.
    """

    family: Family
    modules: dict[str, dict[str, int]]
    memories: list[dict[str, Any]]
    seconds: float

    @property
    def total(self) -> dict[str, int]:
        """Resources of the whole design."""
        return {name: sum(cost[name] for cost in self.modules.values()) for name in RESOURCES}

    @property
    def excess(self) -> list[str]:
        """One line for each resource that is short."""
        return excess(self.total, self.family)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return {
            **self.total,
            "modules": self.modules,
            "memories": self.memories,
            "family": self.family.name,
            "device": {"name": self.family.device, **self.family.limits},
            "fits": not self.excess,
            "excess": self.excess,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class SynthesisReport(Summarised):
    """What a preset's machine takes: the machine and its cost."""

    config: AcceleratorConfig
    cost: SynthesisCost

    def summary(self) -> Summary:
        """Cells in total."""
        family = self.cost.family
        rows = tuple(
            (family.headings[name], f"{number:,}", f"{number / family.limits[name]:.0%}")
            for name, number in self.cost.total.items()
        )
        title = f"{self.config.name} on {family.device}, synthesised"
        return Summary(title=title, columns=("", "of the device"), rows=rows)

    def to_dict(self) -> dict[str, Any]:
        """Content of the report's file."""
        return {
            "preset": self.config.name,
            **self.cost.to_dict(),
            "configuration": self.config.to_dict(),
        }


def measure(
    component: Elaboratable,
    work: Path,
    *,
    family: str = "ecp5",
    label: str = "synth",
    on_progress: Progress = silent,
) -> SynthesisCost:
    """Synthesise any component and count it.

    Parameters
    ----------
    component:
        What to measure.
    work:
        Folder for scripts and logs.
    family:
        Name in ``tessera.sw.fpga.synthesis.cost.FAMILIES``.
    label, on_progress:
        Name of the stage, and its callback. The detail is the step of Yosys, with the seconds so far.

    Raises
    ------
    ValueError
        Unknown family.
    SynthesisError
        The design must not be built, or Yosys failed.
    """
    target, start = find_family(family), time.monotonic()

    def with_seconds(stage: str, share: float, detail: str) -> None:
        on_progress(stage, share, f"{detail} ({time.monotonic() - start:.0f} s)")

    told = within(with_seconds, label)
    told("elaborating", 0.0, "")
    with collector_paused():
        design = rtlil.convert(component, name="top", emit_src=False, platform=PLATFORMS[target.name]())
    statistics, memories = synthesise(design, work, told, family=family)
    modules = count(statistics, target)
    seconds = time.monotonic() - start
    told("done", 1.0, "")
    return SynthesisCost(family=target, modules=modules, memories=memories, seconds=round(seconds, 1))


def run_synth(
    preset: str,
    out: Path | str = OUT,
    family: str = "ecp5",
    on_progress: Progress = silent,
) -> SynthesisReport:
    """Synthesise a preset's whole machine and write ``OUT/NAME.json``.

    NAME is the preset's, followed by a dash and the family unless that is ecp5. Scripts and logs stay in ``OUT/NAME``.

    Raises
    ------
    ValueError
        Unknown preset or family, or a folder that cannot be written.
    SynthesisError
        The preset cannot fit an ECP5, which is found before anything is synthesised; the design must not be built, or
        Yosys failed.
    """
    expect("out", out, PATH, "the path of a folder")
    config, target = find_preset(preset), find_family(family)
    out, name = Path(out), report_name(preset, family)
    check_folder(out, f"{name}.json")
    if target.name == "ecp5":
        check_fits(config)
    cost = measure(Accelerator(config), out / name, family=family, label=name, on_progress=on_progress)
    report = SynthesisReport(config=config, cost=cost)
    write_document(out / f"{name}.json", SYNTHESIS, report.to_dict())
    return report


def report_name(preset: str, family: str) -> str:
    """What a preset's report is called, without ending."""
    return preset if family == "ecp5" else f"{preset}-{family}"


def synth_table(preset: str, cost: SynthesisCost) -> Table:
    """The counts of a preset for the terminal."""
    family = cost.family
    title = f"{preset} on {family.device} (Yosys, before place and route)"
    return cells_table(title, cost.modules, family.device, family.limits, family.headings)
