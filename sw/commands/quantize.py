"""``tessera quantize``: a checkpoint to the integers of the machine, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import Display, console, number, reported, table, tell, tell_notices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tessera.golden.checkpoint import Checkpoint
    from tessera.golden.integer.parameters import QuantisedModel
    from tessera.golden.network.compute import FloatNetwork
    from tessera.sw.data.pictures import Picture, PictureChoice

REPORT_SCENES = 500_000
"""First of the training-range scenes for the error report; training and calibration use lower numbers."""
ERROR_SCENES = 10
"""How many of them, unless told otherwise."""


@reported
@options.with_groups
def command(
    given: options.ModelOptions,
    scenes: Annotated[
        int, typer.Option(min=1, max=options.MOST_PICTURES, help="Held-out scenes for mIoU and depth RMSE.")
    ] = 100,
    errors: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Scenes for the error of each layer. [10]")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="Measure that error on this picture instead; several times for several.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Quantised model to write.")] = Path(
        "build/quantised.safetensors"
    ),
) -> None:
    """Quantise a checkpoint and report the error of each layer, routing changes, mIoU and RMSE, float against integer.

    Writes the quantised model and the same numbers as JSON beside it. Scales are chosen on generated scenes, or on
    --calibration-images, as run does.

    Examples
    --------
      tessera quantize --activation-width 12 --scenes 200 -o build/nano-12.safetensors

      tessera quantize --calibration least-error

      tessera quantize --model build/vit.safetensors --calibration-images ~/pictures/train

      tessera quantize --model build/m3vit.safetensors --image weights/image.float32.bin
    """
    from tessera.common.digest import content_digest
    from tessera.common.schemas.kinds import QUANTISATION
    from tessera.common.stamped import write_document
    from tessera.golden.integer import storage
    from tessera.sw.quantiser.errors import layer_errors
    from tessera.sw.quantiser.saturation import saturation_notices
    from tessera.sw.run import prepare
    from tessera.sw.run.calibrated import calibrated_on

    chosen = given.on("tiny")
    rule, numbers = chosen.calibration, _numbers(out, given.model)
    choices = _choices(image or (), errors)
    with Display() as display:
        path, loaded = prepare.load_model(given.model, given.routing, on_progress=display)
        pictures = [picture for choice in choices for picture in choice.load(loaded.network)]
        tell_notices(pictures, 1)
        seen = calibrated_on(chosen.calibration_images, loaded)
        quantised = prepare.quantised_model(
            path, loaded.model, chosen.config.numerics, images=seen.images, calibration=rule, on_progress=display
        )
        notices = seen.notices + saturation_notices(quantised)
        tell(notices)
        unseen = _unseen(loaded.model, pictures, errors or ERROR_SCENES)
        layers = layer_errors(loaded.model, quantised, unseen, on_progress=display)
        scores = prepare.accuracy(path, loaded, quantised, scenes=scenes, on_progress=display)
    report: dict[str, Any] = {
        **_facts(loaded, quantised),
        "calibration": rule,
        "calibration_pictures": seen.to_dict(),
        "notices": list(notices),
        "error_pictures": [picture.source for picture in pictures] or [f"{errors or ERROR_SCENES} unseen scenes"],
        "errors": layers,
        "accuracy": scores,
    }
    storage.save_quantised(out, quantised)
    report["quantised_sha256"] = content_digest(out.read_bytes())
    write_document(numbers, QUANTISATION, report)
    _show(report)
    console.print(
        f"Quantised model: {out} (sha256 {report['quantised_sha256'][:12]}), numbers: {numbers}",
        soft_wrap=True,
    )


def _choices(images: Sequence[Path], errors: int | None) -> list[PictureChoice]:
    """The pictures to measure on; ValueError for one that cannot be read, or for a number of scenes beside them."""
    why = "counts scenes, and --image gives pictures instead: leave one out"
    options.only_with(not images, why, {"--errors": errors})
    return [options.chosen_pictures(file, None) for file in images]


def _numbers(out: Path, model: str) -> Path:
    """The file of the numbers beside the quantised model; ValueError if either cannot be written."""
    from tessera.common.files import check_file

    numbers = out.with_suffix(".json")
    if numbers == out:
        raise ValueError(f"the quantised model is to be called {out}, as its numbers are; give another ending")
    options.check_output(out, model)
    check_file(numbers)
    return numbers


def _facts(loaded: Checkpoint, quantised: QuantisedModel) -> dict[str, Any]:
    """What the numbers begin with: the model, its formats, and what leaves them."""
    from tessera.sw.quantiser.saturation import excesses

    return {
        "model": loaded.network.name,
        "weights": loaded.weights,
        "routing": loaded.routing,
        "activation_width": quantised.activation_width,
        "residual_width": quantised.residual_width,
        "saturation": [excess.to_dict() for excess in excesses(quantised)],
    }


def _unseen(model: FloatNetwork, pictures: Sequence[Picture], scenes: int) -> NDArray[np.uint8]:
    """Images (B, 3, H, W) for the error of each layer: the pictures that were given, or so many scenes."""
    import numpy as np

    from tessera.sw.quantiser.quantise import calibration_images

    if pictures:
        return np.stack([picture.image for picture in pictures])
    return calibration_images(model.network, range(REPORT_SCENES, REPORT_SCENES + scenes))


def _show(report: dict[str, Any]) -> None:
    tasks = report["errors"]
    columns = ["residual after"]
    for task in tasks:
        columns += [f"{task}: rel. L2", "cosine", "routing changes"]
    depth = len(next(iter(tasks.values()))["layers"])
    rows = []
    for layer in range(depth):
        row = [next(iter(tasks.values()))["layers"][layer]["layer"]]
        for task in tasks.values():
            entry = task["layers"][layer]
            changes = "-" if entry["routing_changes"] is None else f"{entry['routing_changes']:.2%}"
            row += [f"{entry['relative_l2']:.2%}", f"{entry['cosine']:.5f}", changes]
        rows.append(row)
    head = ["head"]
    for task in tasks.values():
        error = task["head_relative_l2"]
        head += ["-" if error is None else f"{error:.2%}", "", ""]
    pictures = escape(", ".join(report["error_pictures"]))
    table(f"Integer model against float, {pictures}", columns, [*rows, head])
    if report["accuracy"]:
        kinds = [report["accuracy"][kind] for kind in ("float", "integer")]
        table(
            f"{report['accuracy']['scenes']} held-out scenes",
            ["", "float", "integer"],
            [
                ("mIoU", *(number(kind["mean_iou"], ".4f") for kind in kinds)),
                ("depth RMSE in m", *(number(kind["depth_rmse_m"], ".3f") for kind in kinds)),
            ],
        )
