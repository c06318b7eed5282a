"""``tessera quantize``: a checkpoint to the integers of the machine, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sw.commands import options
from sw.commands.terminal import Display, console, reported, table

REPORT_SCENES = 500_000
"""First of the training-range scenes for the error report; training and calibration use lower numbers."""


@reported
def command(
    model: options.Model = "nano",
    activation_width: options.Width = 8,
    scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes for mIoU and depth RMSE.")] = 100,
    errors: Annotated[int, typer.Option(min=1, help="Scenes for the error of each layer.")] = 10,
    out: Annotated[Path, typer.Option("--out", "-o", help="Quantised model to write.")] = Path(
        "build/quantised.safetensors"
    ),
) -> None:
    """Quantise a checkpoint and report the error of each layer, routing changes, mIoU and RMSE, float against integer.

    Writes the quantised model and the same numbers as JSON beside it.

    Example:

      tessera quantize --activation-width 12 --scenes 200 -o build/nano-12.safetensors
    """
    from golden import checkpoint
    from golden.integer import storage
    from sw import prepare
    from sw.files import file_aside, write_json
    from sw.quantise import calibration_images, error_report, quantise

    config = prepare.machine("tiny", activation_width)
    path = prepare.checkpoint_path(model)
    with Display() as display:
        display("load", 0.0, str(path))
        loaded = checkpoint.load(path)
        images = calibration_images(loaded.model)
        quantised = quantise(loaded.model, images, config.numerics, progress=lambda done: display("quantise", done))
        unseen = calibration_images(loaded.model, range(REPORT_SCENES, REPORT_SCENES + errors))
        layers = error_report(loaded.model, quantised, unseen, progress=lambda done: display("errors", done))
        scores = prepare.accuracy(path, loaded.model, quantised, scenes=scenes, on_progress=display)
    report: dict[str, Any] = {
        "model": loaded.config.name,
        "activation_width": activation_width,
        "residual_width": config.numerics.residual_width,
        "error_scenes": errors,
        "errors": layers,
        "accuracy": scores,
    }
    with file_aside(out) as aside:
        storage.save(aside, quantised)
    write_json(out.with_suffix(".json"), report)
    _show(report)
    console.print(f"Quantised model: {out}, numbers: {out.with_suffix('.json')}", soft_wrap=True)


def _show(report: dict[str, Any]) -> None:
    tasks = report["errors"]
    columns = ["residual after"]
    for task in tasks:
        columns += [f"{task}: rel. L2", "cosine", "routing changes"]
    depth = len(next(iter(tasks.values()))["layers"])
    rows = []
    for layer in range(depth):
        row = [f"layer{layer:02d}"]
        for task in tasks.values():
            entry = task["layers"][layer]
            changes = "-" if entry["routing_changes"] is None else f"{entry['routing_changes']:.2%}"
            row += [f"{entry['relative_l2']:.2%}", f"{entry['cosine']:.5f}", changes]
        rows.append(row)
    head = ["head"]
    for task in tasks.values():
        error = task["head_relative_l2"]
        head += ["-" if error is None else f"{error:.2%}", "", ""]
    table(f"Integer model against float, {report['error_scenes']} unseen scenes", columns, [*rows, head])
    if report["accuracy"]:
        kinds = [report["accuracy"][kind] for kind in ("float", "integer")]
        table(
            f"{report['accuracy']['scenes']} held-out scenes",
            ["", "float", "integer"],
            [
                ("mIoU", *(f"{kind['mean_iou']:.4f}" for kind in kinds)),
                ("depth RMSE in m", *(f"{kind['depth_rmse_m']:.3f}" for kind in kinds)),
            ],
        )
