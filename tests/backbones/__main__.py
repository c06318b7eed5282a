"""``make models``: measure every backbone that has not been measured by this tree, and write the docs' table.

Each one's figures lie in a file of their own, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tessera.api.progress import shown
from tessera.common.cache import cache_key
from tessera.common.files import write_text
from tessera.common.paths import PROJECT_ROOT
from tests.backbones import page
from tests.backbones.catalogue import BACKBONES, Backbone
from tests.backbones.measure import MeasuredBackbone, measure

_SOURCES = ("golden/**/*.py", "hw/**/*.py", "program/**/*.py", "sim/**/*.py", "sw/**/*.py", "tests/backbones/*.py")
"""What decides a backbone's figures."""


def main() -> int:
    """Do as the arguments say; 1 if a frame was not bit-exact."""
    parser = argparse.ArgumentParser(prog="python -m tests.backbones", description=__doc__)
    parser.add_argument("names", nargs="*", help="backbones to measure; all by default, which also writes the table")
    parser.add_argument("--out", type=Path, default=PROJECT_ROOT / "build" / "models", help="where the figures go")
    arguments = parser.parse_args()
    known = {backbone.name: backbone for backbone in BACKBONES}
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no backbone is called '{unknown[0]}'; choose of: {', '.join(known)}")
    chosen = [known[name] for name in arguments.names] or list(BACKBONES)
    measured = []
    for number, backbone in enumerate(chosen, start=1):
        one = _measured(backbone, arguments.out)
        measured.append(one)
        print(f"{number} of {len(chosen)} {_line(one)}", flush=True)
    if not arguments.names:
        page.write(measured)
        print(f"{page.DOCUMENT} has the table")
    wrong = [one.name for one in measured if not one.missing and not one.bit_exact]
    for name in wrong:
        print(f"NOT bit-exact: {name}", file=sys.stderr)
    return 1 if wrong else 0


def _measured(backbone: Backbone, out: Path) -> MeasuredBackbone:
    key = cache_key(repr(backbone), sources=_SOURCES, tools=("torch", "timm", "numpy"))
    file = out / f"{backbone.name}.json"
    if file.is_file() and (kept := json.loads(file.read_text(encoding="utf-8")))["key"] == key:
        return MeasuredBackbone(**kept["measured"])
    with shown(True) as report:
        one = measure(backbone, out / "checkpoints", on_progress=report)
    write_text(file, json.dumps({"key": key, "measured": one.to_dict()}, indent=1) + "\n")
    return one


def _line(one: MeasuredBackbone) -> str:
    if one.missing:
        return f"{one.name}: {'; '.join(one.missing)[:160]}"
    exact = "bit-exact" if one.bit_exact else "NOT bit-exact"
    return (
        f"{one.name} on {one.machine}: {exact}, {one.cycles:,} cycles, utilisation {one.mac_utilisation:.1%}, "
        f"result's error {one.error:.1%}, cycle model {one.predicted_cycles / max(1, one.cycles) - 1:+.1%}"
    )


if __name__ == "__main__":
    sys.exit(main())
