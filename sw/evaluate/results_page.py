"""The scores of a model in docs/results.md, from what ``tessera evaluate`` measured.

``python -m tessera.sw.evaluate.results_page build/evaluation.json`` writes them; ``make evaluate`` does so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tessera.common.documents import replace_generated
from tessera.common.files import write_text
from tessera.common.paths import PROJECT_ROOT
from tessera.sw.data.dataset import CLASSIFICATION
from tessera.sw.results.scoring import FLOAT

DOCUMENT = PROJECT_ROOT / "docs" / "results.md"


def block_name(model: str) -> str:
    """The generated block of a model."""
    return f"scores-{model}"


def scores_block(report: Mapping[str, Any]) -> str:
    """One row per arithmetic, float first; what the machine ran is bit-exact and needs no row of its own."""
    if CLASSIFICATION in report["data"]["scored"]:
        return _picture_scores(report)
    names = list(report["data"]["classes"])
    columns = ["", "mIoU", *names, "depth RMSE", "abs-rel", "expert choices changed"]
    rows = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for result in (result for result in report["results"] if result["arithmetic"] != "rtl"):
        ious = result["class_iou"] or {}
        changes = result.get("routing_changes")
        cells = [
            _label(result),
            _shown(result["mean_iou"], ".4f"),
            *(_shown(ious.get(name), ".3f") for name in names),
            _shown(result["depth_rmse_m"], ".3f", " m"),
            _shown(result["depth_abs_rel"], ".4f"),
            "" if changes is None else f"{changes:.2%}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _picture_scores(report: Mapping[str, Any]) -> str:
    """The same of a model that classifies whole pictures."""
    rows = ["| | top-1 | top-5 | same class as float | outputs against float, rel. L2 |", "|---|---|---|---|---|"]
    for result in (result for result in report["results"] if result["arithmetic"] != "rtl"):
        near = [found for found in result.get("outputs", {}).values() if "same_class" in found][:1]
        scores = [_shown(result[key], ".2%") for key in ("top1", "top5")]
        against = [_shown(near[0][key], ".2%") for key in ("same_class", "relative_l2")] if near else ["", ""]
        rows.append(f"| {' | '.join([_label(result), *scores, *against])} |")
    return "\n".join(rows)


def _label(result: Mapping[str, Any]) -> str:
    if result["arithmetic"] == FLOAT:
        return FLOAT
    return f"{result['activation_width']}-bit activations, `{result['calibration']}`"


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else format(value, form) + unit


def main() -> None:
    """Rewrite the scores of the model, where the page has a table of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", type=Path, help="JSON of tessera evaluate")
    numbers = parser.parse_args().numbers
    try:
        report = json.loads(numbers.read_text(encoding="utf-8"))
        name, block = block_name(report["model"]), scores_block(report)
    except OSError as error:
        parser.error(f"{numbers}: {error.strerror}; give the JSON that tessera evaluate wrote")
    except (ValueError, LookupError, TypeError, AttributeError):
        parser.error(f"{numbers} is not what tessera evaluate writes: run it again with --json")
    document = DOCUMENT.read_text(encoding="utf-8")
    if f"generated: {name} " not in document:
        print(f"{DOCUMENT} has no table of {report['model']}: nothing was written")
        return
    try:
        document = replace_generated(document, name, block, "docs/results.md")
    except ValueError as error:
        parser.error(str(error))
    write_text(DOCUMENT, document)
    print(f"{DOCUMENT} has what was measured")


if __name__ == "__main__":
    main()
