"""Tessera: multi-task vision transformers with mixtures of experts, on open RTL that is exact bit for bit.

The public API. A model is loaded or imported, quantised, compiled, run on the simulated machine and verified; a machine
is estimated and synthesised. Everything here is stable: it changes only with the major version. Modules below this
package may change with any version.

Examples
--------
>>> import tessera
>>> result = tessera.run(tessera.Target(model="pico", preset="tiny"), progress=False)
>>> result.bit_exact
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.api.hardware import estimate as estimate
    from tessera.api.hardware import synthesise as synthesise
    from tessera.api.machine import Verification as Verification
    from tessera.api.machine import run as run
    from tessera.api.machine import verify as verify
    from tessera.api.models import compile as compile
    from tessera.api.models import from_torch as from_torch
    from tessera.api.models import import_weights as import_weights
    from tessera.api.models import load as load
    from tessera.api.models import quantise as quantise
    from tessera.api.scores import evaluate as evaluate
    from tessera.golden.checkpoint import Checkpoint as Checkpoint
    from tessera.golden.mixture import MixtureOfExperts as MixtureOfExperts
    from tessera.hw.config import AcceleratorConfig as AcceleratorConfig
    from tessera.hw.presets import PRESETS as PRESETS
    from tessera.program.program import Program as Program
    from tessera.sim.machine.settings import MemorySettings as MemorySettings
    from tessera.sw.data.pictures import PictureChoice as PictureChoice
    from tessera.sw.evaluate.evaluate import Sweep as Sweep
    from tessera.sw.report.write import make_figures as figures
    from tessera.sw.report.write import write_report as write_report
    from tessera.sw.results.outcome import RunResult as RunResult
    from tessera.sw.run.target import Target as Target

__version__ = "0.1.0"

__all__ = [
    "load",
    "from_torch",
    "import_weights",
    "quantise",
    "compile",
    "run",
    "verify",
    "evaluate",
    "estimate",
    "synthesise",
    "figures",
    "write_report",
    "Target",
    "PictureChoice",
    "MemorySettings",
    "Sweep",
    "AcceleratorConfig",
    "PRESETS",
    "Checkpoint",
    "MixtureOfExperts",
    "Program",
    "RunResult",
    "Verification",
    "__version__",
]

_PLACES = {
    "load": "api.models",
    "from_torch": "api.models",
    "import_weights": "api.models",
    "quantise": "api.models",
    "compile": "api.models",
    "run": "api.machine",
    "verify": "api.machine",
    "evaluate": "api.scores",
    "estimate": "api.hardware",
    "synthesise": "api.hardware",
    "figures": "sw.report.write:make_figures",
    "write_report": "sw.report.write",
    "Target": "sw.run.target",
    "PictureChoice": "sw.data.pictures",
    "MemorySettings": "sim.machine.settings",
    "Sweep": "sw.evaluate.evaluate",
    "AcceleratorConfig": "hw.config",
    "PRESETS": "hw.presets",
    "Checkpoint": "golden.checkpoint",
    "MixtureOfExperts": "golden.mixture",
    "Program": "program.program",
    "RunResult": "sw.results.outcome",
    "Verification": "api.machine",
}
"""Where each public name lives. It is imported when it is first asked for, so that the RTL's side needs no PyTorch."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"tessera has no '{name}'; it has {', '.join(_PLACES)}")
    module, _, other = _PLACES[name].partition(":")
    found = getattr(importlib.import_module(f"tessera.{module}"), other or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
