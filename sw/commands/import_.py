"""``tessera import``: weights of other projects become a checkpoint of ours."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tessera.sw.commands import options
from tessera.sw.commands.terminal import Display, console, reported, table

if TYPE_CHECKING:
    from tessera.sw.models.importer import Options

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
    backbone_only: Annotated[
        bool, typer.Option("--backbone-only", help="Leave heads out: the result is the residual stream.")
    ] = False

    def chosen(self) -> Options:
        """What the options say; ValueError for a size that is none."""
        from tessera.sw.models.importer import Options

        return Options(
            image_size=_size("--image-size", self.image_size),
            trained_size=_size("--trained-size", self.trained_size),
            heads=self.heads,
            top_k=self.top_k,
            tasks=None if self.tasks is None else tuple(name.strip() for name in self.tasks.split(",")),
            pixels=self.pixels,
            backbone_only=self.backbone_only,
        )


@reported
@options.with_groups
def command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder with the weights.")],
    format: Annotated[str, typer.Option("--format", help="What wrote them: edge-moe, m3vit, timm-deit or timm-vit.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write; its name ends in .safetensors.")],
    given: ImportOptions,
) -> None:
    """Import trained weights of another project as a checkpoint that the other commands take.

    Nothing is written unless every tensor is there with the right size and only finite values; otherwise all that is
    wrong is listed at once, and blocks that the machine has not are named with what to use instead. A picture that came
    with the weights can be given to --image as it is.

    Format edge-moe: the folder of NAME.float32.bin files with the weights of Edge-MoE's M3ViT backbone (ICCAD 2023),
    129 tokens of 192, 12 layers, 16 experts in every second one, two tasks. Format m3vit: a PyTorch checkpoint of M3ViT
    (NeurIPS 2022), routers of each task or shared; its convolutional heads stay behind (--backbone-only). Formats
    timm-deit and timm-vit: state dicts of timm's dense models with class token and head. docs/models.md describes all.

    Examples
    --------
      tessera import --format edge-moe weights -o build/m3vit.safetensors

      tessera import --format m3vit best_model.pth.tar --backbone-only --trained-size 480x640 -o build/m3vit.safetensors

      tessera import --format timm-deit deit_tiny_patch16_224.pth -o build/deit-tiny.safetensors
    """
    from tessera.golden import checkpoint
    from tessera.sw.models.importer import import_weights, to_checkpoint

    if out.suffix != ".safetensors" or out.is_dir():
        raise ValueError(f"the checkpoint is to be called {out}; give the name of a file that ends in .safetensors")
    chosen = given.chosen()
    began = time.perf_counter()
    with Display() as display:
        imported = import_weights(format, path, display, chosen)
        display("write", 0.0, str(out))
        checkpoint.save(out, to_checkpoint(imported))
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
    for notice in imported.notices:
        console.print(f"[yellow]notice[/yellow] {escape(notice)}", soft_wrap=True)
    picture = f" --image {imported.picture}" if imported.picture else ""
    console.print(f"Checkpoint: {escape(str(out))}", soft_wrap=True)
    console.print(f"Next: tessera run --model {escape(str(out))}{escape(picture)}", soft_wrap=True)


def _size(option: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{option} is '{text}'; give height and width, such as 128x256")
    return int(found[1]), int(found[2])
