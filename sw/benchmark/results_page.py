"""The table of frames in docs/results.md, from what ``tessera bench`` measured.

``python -m tessera.sw.benchmark.results_page build/bench/bench.json`` writes it; ``make bench`` does so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tessera.common.documents import replace_generated
from tessera.common.files import write_text
from tessera.common.paths import PROJECT_ROOT
from tessera.sw.benchmark.tables import markdown_table

DOCUMENT = PROJECT_ROOT / "docs" / "results.md"
_COLUMNS = (
    *("preset", "bus, bytes/cycle", "model (routing), task", "cycles (simulated)", "over the bound"),
    *("MAC utilisation", "bit-exact"),
)


def frames_block(frames: Sequence[Mapping[str, Any]]) -> str:
    """One row per frame."""
    rows = []
    for frame in frames:
        routing = f" ({frame['routing']})" if frame["routing"] not in ("model", "none") else ""
        rows.append(
            [
                f"`{frame['preset']}`",
                str(frame["memory_bytes_per_cycle"]),
                f"{frame['model']}{routing}, {frame['task']}",
                f"{frame['cycles']:,}",
                f"{frame['cycles'] / frame['bound_cycles']:.3f}",
                f"{frame['mac_utilisation']:.1%}",
                "yes" if frame["bit_exact"] else "**no**",
            ]
        )
    return "\n".join(markdown_table(_COLUMNS, rows))


def main() -> None:
    """Rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", type=Path, help="bench.json of a full benchmark")
    measured = json.loads(parser.parse_args().numbers.read_text(encoding="utf-8"))
    document = replace_generated(
        DOCUMENT.read_text(encoding="utf-8"), "frames", frames_block(measured["frames"]), "docs/results.md"
    )
    write_text(DOCUMENT, document)
    print(f"{DOCUMENT} has what was measured")


if __name__ == "__main__":
    main()
