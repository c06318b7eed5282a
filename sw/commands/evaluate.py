"""``tessera evaluate``: what a model scores on its tasks in float, in integers, and on the simulated machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import VERDICT_FAILED, Display, console, number, reported, table, tell, verdict

if TYPE_CHECKING:
    from tessera.golden.checkpoint import Checkpoint
    from tessera.sw.evaluate.data import EvaluationData
    from tessera.sw.evaluate.evaluate import Sweep


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of the pictures to score on."""

    data: Annotated[
        str,
        typer.Option(
            help="procedural, cityscapes, nyud or pascal-context; or of yours: folder:PATH with a folder for each "
            "class, or PATH/dataset.toml, which describes class maps and depth."
        ),
    ] = "procedural"
    root: Annotated[Path | None, typer.Option(help="Folder of a published dataset, as it was unpacked.")] = None
    split: Annotated[
        str | None, typer.Option(help="Part of a dataset: val or train, or another that a folder of yours has. [val]")
    ] = None
    partial: Annotated[
        bool, typer.Option("--partial", help="Use the complete pictures of a folder that is not whole.")
    ] = False
    raw_depth: Annotated[bool, typer.Option("--raw-depth", help="nyud: the sensor's depth, with its holes.")] = False
    scenes: Annotated[
        int,
        typer.Option(
            min=1, max=options.MOST_PICTURES, help="Pictures to score: the first ones, or of yours an even selection."
        ),
    ] = 500

    def check(self) -> None:
        """ValueError for options that would be ignored, and for a dataset that there is not."""
        from tessera.sw.data.datasets import PROCEDURAL, find_source

        why = "is for a {}dataset: say which with --data"
        of_one = {"--root": self.root, "--raw-depth": self.raw_depth}
        options.only_with(self.data != PROCEDURAL, why.format("published "), of_one)
        options.only_with(self.data != PROCEDURAL, why.format(""), {"--split": self.split, "--partial": self.partial})
        options.only_with(self.data == "nyud", f"is for nyud, not for {self.data}", {"--raw-depth": self.raw_depth})
        if self.data != PROCEDURAL:
            find_source(self.data, self.root).split(self.split)

    def choose(self, model: Checkpoint, calibration_images: Path | None) -> EvaluationData:
        """Open the pictures for a model; ValueError for what there is not."""
        from tessera.sw.evaluate.data import choose_data

        return choose_data(
            model,
            self.data,
            self.root,
            scenes=self.scenes,
            calibration_images=calibration_images,
            split=self.split,
            partial=self.partial,
            raw_depth=self.raw_depth,
        )


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of the arithmetics to score, and of how that is done."""

    activation_widths: Annotated[str, typer.Option(help="Bits of an activation, with commas.")] = "8,12,16"
    calibration: Annotated[str, typer.Option(help=f"{options.CALIBRATIONS}; several with commas to compare them.")] = (
        "max"
    )
    rtl_samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many of them also run on the simulated machine, with each calibration; 0 for none.",
        ),
    ] = 8
    preset: Annotated[str | None, typer.Option(help=f"{options.PRESETS} [edge]")] = None
    jobs: Annotated[int, typer.Option(min=1, max=1024, help="Processes that score side by side.")] = min(
        2, os.cpu_count() or 1
    )

    def sweep(self, scenes: int) -> Sweep:
        """What to score; ValueError for widths or rules that there are not."""
        from tessera.sw.evaluate.evaluate import Sweep
        from tessera.sw.quantiser.calibration import Calibration

        why = "is the machine that simulates, which --rtl-samples 0 leaves out: leave out one of them"
        options.only_with(self.rtl_samples > 0, why, {"--preset": self.preset})
        return Sweep(
            widths=_widths(self.activation_widths),
            calibrations=list(dict.fromkeys(Calibration.named(part) for part in self.calibration.split(","))),
            preset=self.preset or "edge",
            rtl_samples=self.rtl_samples,
            scenes=scenes,
            jobs=self.jobs,
        )


@reported
@options.with_groups
def command(
    pictures: DataOptions,
    arithmetics: SweepOptions,
    model: options.Model = "nano",
    routing: options.Routing = None,
    calibration_images: options.CalibrationImages = None,
    json: Annotated[Path, typer.Option("--json", help="File for all the numbers.")] = Path("build/evaluation.json"),
) -> None:
    """Score a model on labelled pictures: mIoU, IoU of each class, depth RMSE and abs-rel, top-1 and top-5.

    Float model, integer golden model at every width with every calibration, and the simulated machine at the first
    width on a few of the pictures, where every tensor must equal the golden model's. Pictures are held-out procedural
    scenes, a published dataset that you have (--root names its folder), or pictures of your own: a folder for each
    class, or class maps and depth that a TOML file describes. What is missing is named. Scales are chosen on
    --calibration-images, or else on the dataset's training pictures. docs/models.md describes the JSON.

    Examples
    --------
      tessera evaluate --model nano --scenes 100 --activation-widths 8 --rtl-samples 0

      tessera evaluate --model m3vit-tiny --activation-widths 8 --calibration max,percentile,least-error

      tessera evaluate --model m3vit.safetensors --data cityscapes --root ~/cityscapes --json cityscapes.json

      tessera evaluate --model vit.safetensors --data folder:~/pictures --split test
    """
    from tessera.common.schemas.kinds import EVALUATION
    from tessera.common.stamped import write_document
    from tessera.sw.evaluate.evaluate import evaluate
    from tessera.sw.run import prepare

    options.check_output(json, model)
    pictures.check()
    sweep = arithmetics.sweep(pictures.scenes)
    with Display() as display:
        path, loaded = prepare.load_model(model, routing, on_progress=display)
        chosen = pictures.choose(loaded, calibration_images)
        tell(chosen.notices)
        evaluation = evaluate(path, loaded, chosen, sweep, on_progress=display)
    report = evaluation.to_dict()
    write_document(json, EVALUATION, report)
    _show(report)
    tell(evaluation.notices)
    console.print(f"Numbers: {escape(str(json))}", soft_wrap=True)
    for line in evaluation.trouble:
        console.print(f"[bold red]not bit-exact:[/bold red] {escape(line)}", soft_wrap=True)
    if evaluation.trouble:
        raise typer.Exit(VERDICT_FAILED)


def _widths(text: str) -> list[int]:
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--activation-widths is '{text}'; give numbers with commas, such as 8,12,16") from None
    return list(dict.fromkeys(widths))


def _show(report: dict[str, Any]) -> None:
    from tessera.sw.evaluate.results import shown_scores

    data, results = report["data"], report["results"]
    heads = [_name(result) for result in results]
    scores = [*shown_scores(data["scored"]), ("routing", "routing_changes", ".2%")]
    columns = ["", "pictures", *(name for name, _, _ in scores)]
    rows = [
        [head, f"{result['scenes']:,}", *(number(result.get(key), form) for _, key, form in scores)]
        for head, result in zip(heads, results, strict=True)
    ]
    if any("bit_exact" in result for result in results):
        columns.append("bit-exact")
        for row, result in zip(rows, results, strict=True):
            row.append(verdict(result["bit_exact"]) if "bit_exact" in result else "")
    table(f"{report['model']} on {data['name']}, {data['split']}", columns, rows)
    tasks = list(results[-1]["outputs"])
    errors = [
        (head, *(number(result["outputs"][task]["relative_l2"], ".2%") for task in tasks))
        for head, result in zip(heads, results, strict=True)
        if "outputs" in result
    ]
    table("Outputs against float, rel. L2", ["", *tasks], errors)
    agreed = [task for task in tasks if "same_class" in results[-1]["outputs"][task]]
    if agreed:
        shares = [
            (head, *(number(result["outputs"][task]["same_class"], ".2%") for task in agreed))
            for head, result in zip(heads, results, strict=True)
            if "outputs" in result
        ]
        table("Pictures of the same class as in float", ["", *agreed], shares)
    classes = [name for name in data["classes"] if any(name in (result["class_iou"] or {}) for result in results)]
    if classes:
        ious = [(name, *(number(result["class_iou"].get(name), ".4f") for result in results)) for name in classes]
        table("IoU of each class", ["", *heads], ious)
    for result in results:
        if "same_scenes" in result:
            same = result["same_scenes"]
            pairs = [
                (name, *(number(part[key], form) for part in same.values()))
                for name, key, form in shown_scores(data["scored"])
            ]
            table(f"The {result['scenes']} pictures of {_name(result)}", ["", *same], pairs)


def _name(result: dict[str, Any]) -> str:
    if "activation_width" not in result:
        return result["arithmetic"]
    return f"{result['arithmetic']}, {result['activation_width']} bits, {result['calibration']}"
