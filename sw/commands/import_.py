"""``tessera import``: weights of other projects, and networks of one's own, become a checkpoint of ours."""

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
from tessera.sw.commands.terminal import Display, console, reported, table, tell

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tessera.golden.checkpoint import Checkpoint
    from tessera.sw.models.exported.from_torch import Pixels
    from tessera.sw.models.imported import Imported
    from tessera.sw.models.options import Options
    from tessera.sw.models.references import Agreement

DEFAULT_PRESET = options.TargetOptions().preset

_SIZE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of what the weights do not say themselves."""

    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size", "--size", metavar="HxW", help="Images to import the model for; positions are interpolated."
        ),
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


@dataclass(frozen=True, kw_only=True)
class ModuleOptions:
    """Options of a network of one's own."""

    module: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Instead of PATH: a function without arguments, in the current folder or an installed package, that "
            "gives a torch.nn.Module, (module, example picture), or modules by the names of their tasks.",
        ),
    ] = None
    weights: Annotated[
        Path | None, typer.Option(help="With --module: a state dict to load into it; nothing in the file is run.")
    ] = None
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="With --module: of the weights that it draws. [0]")
    ] = None


@reported
@options.with_groups
def command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write; its name ends in .safetensors.")],
    own: ModuleOptions,
    given: ImportOptions,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="File or folder with the weights, or a program (.pt2).")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", help="What wrote the weights: edge-moe, m3vit, timm-deit, timm-vit, torchvision-vit or hf-vit."
        ),
    ] = None,
) -> None:
    """Import trained weights of another project, or a network of your own, as a checkpoint for the other commands.

    Nothing is written unless every tensor is there with the right size and only finite values; otherwise all that is
    wrong is listed at once, and blocks that the machine has not are named with what to use instead. A picture that came
    with the weights can be given to --image as it is.

    With --module a function of your own makes the network: a torch.nn.Module of operators that the machine has
    (docs/howto/own-network.md). A file that ends in .pt2 is a program of torch.export.save, which has its graph. Of
    the options for weights, both take --image-size, --tasks, --pixels, --mean and --std.

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

      tessera import --module examples.small_network:make --size 32x64 --pixels imagenet -o build/small.safetensors

      tessera import small.pt2 -o build/small.safetensors
    """
    from tessera.sw.models.importer import check_name

    check_name(out)
    options.check_output(out, "" if path is None else str(path))
    chosen = given.chosen()
    options.only_with(own.module is not None, "belongs to --module", {"--weights": own.weights, "--seed": own.seed})
    if own.module is None and path is None:
        raise ValueError("nothing to import: give the PATH of weights or of a .pt2 file, or --module MODULE:FUNCTION")
    if own.module is not None:
        options.only_with(False, "and --module are two things to import: leave one out", {"PATH": path})
    if path is None or (format is None and path.suffix == ".pt2"):
        options.only_with(False, "is for files of weights: leave it out", {"--format": format})
        _import_network(path, out, own, chosen)
    elif format is None:
        raise ValueError(f"say with --format what wrote the weights in {path}; `tessera import --help` lists them")
    else:
        _import_weights(path, format, out, chosen)


def _import_network(path: Path | None, out: Path, own: ModuleOptions, chosen: Options) -> None:
    """A network of one's own, from a function or a program's file."""
    from tessera.golden import checkpoint
    from tessera.sw.models.exported.from_torch import TaskSpec, checkpoint_of
    from tessera.sw.models.exported.programs import load_program, module_of

    pixels = _pixels(chosen)
    began = time.perf_counter()
    with Display() as display:
        display("read", 0.0, str(path or own.module))
        if path is None:
            assert own.module is not None
            module, example = _own_module(own.module, own, chosen.image_size)
        else:
            module, example = module_of(load_program(path), chosen.image_size)
        specs = [TaskSpec(name=name) for name in chosen.tasks or ()]
        display("export", 0.0, out.stem)
        made = checkpoint_of(module, example, specs, name=out.stem, pixels=pixels)
        display("write", 0.0, str(out))
        checkpoint.save(out, made)
    network = made.network
    rows = [
        ("pictures", f"{network.image_height}x{network.image_width}"),
        ("tasks", ", ".join(f"{task.name} ({task.kind})" for task in network.tasks)),
        ("operators", f"{len(network.operators):,}"),
        ("parameters", f"{network.facts()['parameters']:,}"),
        ("seconds", f"{time.perf_counter() - began:.1f}"),
    ]
    table(f"Imported from {escape(str(path or own.module))}", ["", made.source], rows, texts=2)
    tell(made.assumed)
    console.print(f"Checkpoint: {escape(str(out))}", soft_wrap=True)
    _tell_presets(made, out, None)


def _own_module(name: str, own: ModuleOptions, size: tuple[int, int] | None) -> tuple[nn.Module, Tensor]:
    """The module that a function makes, with its weights, and an example of a picture."""
    import torch

    from tessera.sw.models.exported.called import called, load_weights

    found = called(name, seed=own.seed or 0)
    if own.weights is not None:
        load_weights(found.module, own.weights)
    if size is not None:
        return found.module, torch.zeros(1, 3, *size)
    if found.example is None:
        raise ValueError(f"{name} gives no example picture: say its size with --image-size, such as --image-size 32x64")
    return found.module, found.example


def _pixels(chosen: Options) -> Pixels:
    """How the module's input comes from a picture; ValueError for options that a module of one's own has not."""
    from tessera.sw.models.exported.from_torch import Pixels
    from tessera.sw.models.options import NORMALISATIONS

    chosen.check()
    surplus = sorted(chosen.given - {"image_size", "tasks", "pixels", "mean", "std"})
    if surplus:
        raise ValueError(f"--{surplus[0].replace('_', '-')} is for files of weights; a module says so itself")
    mean, std = NORMALISATIONS[chosen.pixels or "raw"]
    mean, std = chosen.mean or mean, chosen.std or std or (1.0,)
    colours = [values * 3 if len(values) == 1 else values for values in (mean, std)]
    return Pixels(mean=_three(colours[0]), deviation=_three(colours[1]))


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]


def _import_weights(path: Path, format: str, out: Path, chosen: Options) -> None:
    """Weights of another project."""
    from tessera.golden import checkpoint
    from tessera.sw.models.importer import import_weights, to_checkpoint
    from tessera.sw.models.references import compare_references

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
        ("tasks", ", ".join(f"{task.name} ({task.kind})" for task in made.network.tasks)),
        ("tensors", f"{len(imported.tensors):,}"),
        ("parameters", f"{imported.parameters:,}"),
        ("seconds", f"{seconds:.1f}"),
    ]
    table(f"Imported from {escape(str(path))}", ["", imported.source], rows, texts=2)
    tell((*imported.notices, *_compared(imported, agreements)))
    console.print(f"Checkpoint: {escape(str(out))}", soft_wrap=True)
    _tell_presets(made, out, imported.picture)


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


def _tell_presets(made: Checkpoint, out: Path, came_with: Path | None) -> None:
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
    picture = f" --image {shlex.quote(str(came_with))}" if came_with else ""
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
