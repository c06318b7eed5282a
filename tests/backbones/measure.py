"""One backbone: read, planned, quantised, compiled and simulated; or refused, with everything that is missing."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tessera
from tessera.common.progress import Progress, silent
from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.network.compute import FloatNetwork
from tessera.hw.config import AcceleratorConfig
from tessera.hw.presets import preset
from tessera.sw.compiler.fit import fit
from tessera.sw.models.exported.from_torch import Pixels, network_of
from tessera.sw.models.exported.problems import UnsupportedNetwork
from tests.backbones.catalogue import MEAN, STD, Backbone

ROOMY = replace(
    preset("edge"),
    name="edge-roomy",
    max_tokens=1024,
    scratchpad_words=65536,
    residual_words=65536,
    bank_words=1024,
    parameter_entries=4096,
)
"""``edge`` with as much memory as its commands can address, for what ``edge`` itself does not hold."""
MACHINES = (preset("edge"), preset("edge-large"), ROOMY)
"""The first that holds a backbone runs it."""


@dataclass(frozen=True, kw_only=True)
class MeasuredBackbone:
    """What became of a backbone.

    Parameters
    ----------
    name, family, size:
        As the catalogue has them.
    missing:
        Operators that the machine has not, a line each, or what no machine holds; empty if it runs.
    seconds:
        From the module to a network, or to its refusal.
    edge:
        What ``edge`` lacks; empty if it runs there.
    machine:
        Where it ran.
    cycles, predicted_cycles, mac_utilisation:
        Of the frame, simulated; of the cycle model; useful multiply-accumulates over those of all cycles.
    error:
        Relative L2 error of the result against the float network.
    bit_exact, elements_compared:
        Whether everything that the machine wrote is what the integer model computes.
    """

    name: str
    family: str
    size: int
    missing: list[str] = field(default_factory=list)
    seconds: float = 0.0
    edge: list[str] = field(default_factory=list)
    machine: str = ""
    cycles: int = 0
    predicted_cycles: int = 0
    mac_utilisation: float = 0.0
    error: float = 0.0
    bit_exact: bool = False
    elements_compared: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def measure(backbone: Backbone, folder: Path, *, on_progress: Progress = silent) -> MeasuredBackbone:
    """Take one backbone as far as it goes; files of the run go into ``folder``."""
    known: dict[str, Any] = {"name": backbone.name, "family": backbone.family, "size": backbone.size}
    began = time.perf_counter()
    try:
        made = network_of(
            backbone.make(), backbone.example, name=backbone.name, pixels=Pixels(mean=MEAN, deviation=STD)
        )
    except UnsupportedNetwork as error:
        seconds = time.perf_counter() - began
        return MeasuredBackbone(**known, missing=[str(one) for one in error.problems], seconds=seconds)
    known["seconds"] = time.perf_counter() - began
    lacking = {config.name: fit(made.network, config).problems() for config in MACHINES}
    known["edge"] = lacking[MACHINES[0].name]
    holding = [config for config in MACHINES if not lacking[config.name]]
    if not holding:
        return MeasuredBackbone(**known, missing=lacking[MACHINES[-1].name])
    return _run(made, holding[0], known, folder, on_progress)


def _run(
    made: FloatNetwork, config: AcceleratorConfig, known: dict[str, Any], folder: Path, on_progress: Progress
) -> MeasuredBackbone:
    path = folder / f"{known['name']}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, Checkpoint(model=made, weights="imported", source="torch.export"))
    result = tessera.run(tessera.Target(model=path, preset=config), progress=on_progress)
    frame = result.frames[0]
    return MeasuredBackbone(
        **known,
        machine=config.name,
        cycles=frame.result.cycles,
        predicted_cycles=frame.predicted_cycles,
        mac_utilisation=frame.mac_utilisation,
        error=frame.prediction.relative_l2,
        bit_exact=result.bit_exact,
        elements_compared=frame.verdict.elements_compared,
    )
