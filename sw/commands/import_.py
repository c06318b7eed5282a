"""``tessera import``: weights of other projects become a checkpoint of ours."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sw.commands.terminal import Display, console, reported, table


@reported
def command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder (or file) with the weights.")],
    format: Annotated[str, typer.Option("--format", help="What wrote them: edge-moe.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write; its name ends in .safetensors.")],
) -> None:
    """Import trained weights of another project as a checkpoint that run, verify, quantize and compile take.

    Nothing is written unless every tensor is there with the right size and only finite values; otherwise all that is
    wrong is listed at once. A picture that came with the weights can be given to --image as it is.

    Format edge-moe: the folder of NAME.float32.bin files with the weights of Edge-MoE's M3ViT backbone (ICCAD 2023),
    129 tokens of 192, 12 layers, 16 experts in every second one, two tasks. Its result is the residual stream after the
    last layer. docs/formats.md lists every file.

    Examples
    --------
      tessera import --format edge-moe weights -o build/m3vit.safetensors

      tessera run --model build/m3vit.safetensors --image weights/image.float32.bin --dump build/tensors.npz
    """
    from golden import checkpoint
    from sw.importer import import_weights, to_checkpoint

    if out.suffix != ".safetensors" or out.is_dir():
        raise ValueError(f"the checkpoint is to be called {out}; give the name of a file that ends in .safetensors")
    began = time.perf_counter()
    with Display() as display:
        imported = import_weights(format, path, lambda fraction, detail: display("read", fraction, detail))
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
    picture = f" --image {imported.picture}" if imported.picture else ""
    console.print(f"Checkpoint: {escape(str(out))}", soft_wrap=True)
    console.print(f"Next: tessera run --model {escape(str(out))}{escape(picture)}", soft_wrap=True)
