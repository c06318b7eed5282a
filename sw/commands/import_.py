"""``tessera import``: weights of other projects become a checkpoint of ours."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import Display, console, reported, table

if TYPE_CHECKING:
    from tessera.golden.checkpoint import Checkpoint
    from tessera.sw.models.imported import Imported
    from tessera.sw.models.options import Options
    from tessera.sw.models.references import Agreement

DEFAULT_PRESET = options.TargetOptions().preset

_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of what the weights do not say themselves."""

    image_size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Images to import the model for; positions are interpolated.")
    ] = None
    trained_size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Images that it was trained with, unless they were square.")
    ] = None
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads. [as published for the width]")] = None
    top_k: Annotated[int | None, typer.Option(min=1, help="m3vit: experts for each token. [4]")] = None
    tasks: Annotated[str | None, typer.Option(help="Names of the tasks, with commas.")] = None
    pixels: Annotated[
        str | None, typer.Option(help="How pixels were normalised: imagenet, half (to -1 to 1) or raw. [as published]")
    ] = None
    mean: Annotated[
        str | None, typer.Option(help="Mean taken off pixels in 0 to 1, one or three with commas: with --std.")
    ] = None
    std: Annotated[
        str | None, typer.Option(help="Deviation that pixels were divided by, one or three with commas.")
    ] = None
    epsilon: Annotated[float | None, typer.Option(help="LayerNorm's epsilon. [as published]")] = None
    part: Annotated[
        str | None, typer.Option(help="Which network of a file that holds several: a key or prefix, such as teacher.")
    ] = None
    backbone_only: Annotated[
        bool, typer.Option("--backbone-only", help="Leave heads out: the result is the residual stream.")
    ] = False

    def chosen(self) -> Options:
        """What the options say; ValueError for a size that is none."""
        from tessera.sw.models.options import Options

        return Options(
            image_size=_size("--image-size", self.image_size),
            trained_size=_size("--trained-size", self.trained_size),
            heads=self.heads,
            top_k=self.top_k,
            tasks=None if self.tasks is None else tuple(name.strip() for name in self.tasks.split(",")),
            pixels=self.pixels,
            mean=_numbers("--mean", self.mean),
            std=_numbers("--std", self.std),
            epsilon=self.epsilon,
            part=self.part,
            backbone_only=self.backbone_only,
        )


@reported
@options.with_groups
def command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder with the weights.")],
    format: Annotated[
        str,
        typer.Option(
            "--format", help="What wrote them: edge-moe, m3vit, timm-deit, timm-vit, torchvision-vit or hf-vit."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write; its name ends in .safetensors.")],
    given: ImportOptions,
) -> None:
    """Import trained weights of another project as a checkpoint that the other commands take.

    Nothing is written unless every tensor is there with the right size and only finite values; otherwise all that is
    wrong is listed at once, and blocks that the machine has not are named with what to use instead. A picture that came
    with the weights can be given to --image as it is.

    Format edge-moe: the folder of NAME.float32.bin files with the weights of Edge-MoE's M3ViT backbone (ICCAD 2023),
    129 tokens of 192, 12 layers, 16 experts in every second one, two tasks. Format m3vit: a PyTorch checkpoint of M3ViT
    (NeurIPS 2022), routers of each task or shared; its convolutional heads stay behind (--backbone-only). The other
    formats: dense models with class token and head, under the names of timm, torchvision or Hugging Face. They differ
    in how pixels were normalised; names, prefixes and LayerScale are recognised in all. docs/models.md describes all.

    Examples
    --------
      tessera import --format edge-moe weights -o build/m3vit.safetensors

      tessera import --format m3vit best_model.pth.tar --backbone-only --trained-size 480x640 -o build/m3vit.safetensors

      tessera import --format timm-deit deit_tiny_patch16_224.pth -o build/deit-tiny.safetensors
    """
    from tessera.golden import checkpoint
    from tessera.sw.models.importer import check_name, import_weights, to_checkpoint
    from tessera.sw.models.references import compare_references

    check_name(out)
    options.check_output(out, str(path))
    chosen = given.chosen()
    began = time.perf_counter()
    with Display() as display:
        imported = import_weights(format, path, display, chosen)
        made = to_checkpoint(imported)
        agreements = compare_references(imported, made.model)
        display("write", 0.0, str(out))
        checkpoint.save(out, made)
    seconds = time.perf_counter() - began
    model = imported.config
    rows = [
        ("geometry", f"{model.name}: {model.tokens} tokens of {model.dim}, {model.layers} layers"),
        ("tasks", ", ".join(f"{task.name} ({task.kind})" for task in model.tasks)),
        ("tensors", f"{len(imported.tensors):,}"),
        ("parameters", f"{imported.parameters:,}"),
        ("seconds", f"{seconds:.1f}"),
    ]
    table(f"Imported from {escape(str(path))}", ["", imported.source], rows, texts=2)
    for notice in (*imported.notices, *_compared(imported, agreements)):
        console.print(f"[yellow]notice[/yellow] {escape(notice)}", soft_wrap=True)
    console.print(f"Checkpoint: {escape(str(out))}", soft_wrap=True)
    _tell_presets(imported, made, out)


def _compared(imported: Imported, agreements: Sequence[Agreement]) -> list[str]:
    """What came of the original's own outputs, a line each."""
    lines = []
    for found in agreements:
        reference = found.reference
        line = (
            f"{reference.name}: the float model's task {imported.config.tasks[reference.task].name} differs from the "
            f"original's output by {found.error:.2g} (relative L2), {found.largest:.2g} at most"
        )
        lines.append(line if found.holds else f"{line}: not of these weights and this picture")
    if imported.references and not agreements:
        names = ", ".join(reference.name for reference in imported.references)
        lines.append(f"{names}: not compared, because the picture that it was computed from is not there")
    return lines


def _tell_presets(imported: Imported, made: Checkpoint, out: Path) -> None:
    """Say which presets hold the model and what to do next; or why none does."""
    from tessera.hw.presets import PRESETS
    from tessera.sw.compiler.fit import fit

    limits = {name: fit(made.network, preset).problems() for name, preset in PRESETS.items()}
    holding = [name for name, lines in limits.items() if not lines]
    console.print(f"Presets that can hold it: {', '.join(holding) or 'none'}", soft_wrap=True)
    for name, lines in limits.items():
        if lines:
            more = f"; and {len(lines) - 1} more" if len(lines) > 1 else ""
            console.print(f"  {name} cannot: {escape(lines[0])}{more}", soft_wrap=True)
    if not holding:
        way = "float and integer model run: tessera evaluate --rtl-samples 0"
        console.print(f"Next: {way} --model {escape(shlex.quote(str(out)))}", soft_wrap=True)
        return
    preset = "" if DEFAULT_PRESET in holding else f" --preset {holding[-1]}"
    picture = f" --image {shlex.quote(str(imported.picture))}" if imported.picture else ""
    model = shlex.quote(str(out))
    better = "Its outputs are most exact with --calibration-images FOLDER: pictures like those it was trained on"
    console.print(better, soft_wrap=True)
    console.print(f"Next: tessera run --model {escape(model)}{preset}{escape(picture)}", soft_wrap=True)


def _size(option: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{option} is '{text}'; give height and width, such as 128x256")
    return int(found[1]), int(found[2])


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} is '{text}'; give one number, or three with commas, such as 0.5,0.5,0.5") from None
