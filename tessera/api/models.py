"""Models: load them, quantise them, compile them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from tessera.api.progress import Shown, shown
from tessera.common.expected import MAYBE, PATH, WrongKindError, described, expect
from tessera.golden import checkpoint
from tessera.golden.checkpoint import Checkpoint
from tessera.golden.config import HeadKind
from tessera.golden.integer.parameters import QuantisedModel
from tessera.program.program import Program
from tessera.sw.commands.options import check_output
from tessera.sw.models import importer
from tessera.sw.models.exported.from_torch import Pixels, TaskSpec, checkpoint_of
from tessera.sw.models.exported.programs import module_of
from tessera.sw.models.options import Options
from tessera.sw.run import prepare
from tessera.sw.run.target import Target


def load(model: str | Path = "nano", *, routing: str | None = None, progress: Shown = False) -> Checkpoint:
    """Load a model by name, or a checkpoint by its path.

    Parameters
    ----------
    model:
        ``nano`` or ``m3vit-tiny`` (trained); ``m3vit-backbone``, ``deit-small`` or ``pico`` (seeded); or a path.
    routing:
        Loads that a seeded model's gates give: ``balanced``, ``skewed`` or ``captured``.
    progress:
        Whether to show progress, or what to call with it.

    Returns
    -------
    Checkpoint
        ``model`` is the float model, ``network`` its graph.

    Raises
    ------
    ValueError
        There is no such model, or the file is no checkpoint. The message says what to do.

    Examples
    --------
    >>> import tessera
    >>> tessera.load("pico").network.places
    ('layer00', 'layer01')
    """
    with shown(progress) as report:
        return prepare.load_model(model, routing, on_progress=report)[1]


def import_weights(
    path: str | Path, out: str | Path, *, format: str, progress: Shown = False, **options: Any
) -> Checkpoint:
    """Import weights of another project, and write them as a checkpoint that the other functions take.

    Parameters
    ----------
    path:
        File or folder with the weights.
    out:
        Checkpoint to write; its name ends in ``.safetensors``.
    format:
        What wrote them: ``timm-vit``, ``timm-deit``, ``torchvision-vit``, ``hf-vit``, ``m3vit`` or ``edge-moe``.
    progress:
        Whether to show progress, or what to call with it.
    options:
        What the weights do not say, by the names of :class:`tessera.sw.models.options.Options`, such as ``heads=3``.

    Returns
    -------
    Checkpoint
        ``assumed`` says what was assumed or left out, a line each.

    Raises
    ------
    ValueError
        An unknown format or option, a place that cannot be written, or weights that cannot be imported. The message
        lists all that is wrong with them; nothing is written.
    """
    expect("path", path, PATH, "the file or folder with the weights")
    expect("out", out, PATH, "the file to write, which ends in .safetensors")
    expect("format", format, str, f"one of: {', '.join(importer.FORMATS)}")
    path, out = Path(path), Path(out)
    known = [field.name for field in fields(Options)]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"an import has no option '{unknown[0]}'; choose one of: {', '.join(known)}")
    importer.check_name(out)
    check_output(out, str(path))
    with shown(progress) as report:
        made = importer.to_checkpoint(importer.import_weights(format, path, report, Options(**options)))
        checkpoint.save(out, made)
    return made


def from_torch(
    module: nn.Module | ExportedProgram,
    example: Tensor | None = None,
    *,
    out: str | Path,
    name: str | None = None,
    tasks: Mapping[str, HeadKind | None] | Sequence[str] | None = None,
    mean: float | Sequence[float] = (0.0, 0.0, 0.0),
    std: float | Sequence[float] = (1.0, 1.0, 1.0),
) -> Checkpoint:
    """Read a PyTorch module of your own, and write it as a checkpoint that the other functions take.

    The module is exported with torch.export and matched operator by operator; what it computes is compared with the
    module itself.

    Parameters
    ----------
    module:
        In evaluation mode. It takes pictures (B, 3, H, W) and gives a tensor, several, or a dictionary of them. Or a
        program that torch.export made of such a module.
    example:
        A picture (1, 3, H, W) as the module takes it; its values do not count. A program has one.
    out:
        Checkpoint to write; its name ends in ``.safetensors``.
    name:
        Name of the network; by default that of the file.
    tasks:
        Names of the results, each with its kind: ``segmentation``, ``depth``, ``classification`` or ``features``; or
        names alone. They are the keys of the dictionary that the module gives, or in the order of its results. By
        default the dictionary's keys, and kinds by the shapes.
    mean, std:
        The module's input is ``(byte / 255 - mean) / std``, with a number for each colour or one for all.

    Returns
    -------
    Checkpoint
        The network and its weights.

    Raises
    ------
    ValueError
        A module that cannot be exported, or that has operators which the machine has not: all of them are listed.
        Nothing is written.
    """
    expect("module", module, (nn.Module, ExportedProgram), "a PyTorch module, or a program of torch.export")
    if isinstance(module, ExportedProgram):
        expect("example", example, (Tensor, MAYBE), "None, or a tensor (1, 3, H, W)")
        module, example = module_of(module, None if example is None else (example.shape[-2], example.shape[-1]))
    if not isinstance(example, Tensor):
        raise WrongKindError(f"example is {described(example)}; expected a tensor (1, 3, H, W)")
    expect("out", out, PATH, "the file to write, which ends in .safetensors")
    out = Path(out)
    importer.check_name(out)
    check_output(out, "")
    specs = _specs(tasks or {})
    pixels = Pixels(mean=_colours("mean", mean), deviation=_colours("std", std))
    found = checkpoint_of(module, example, specs, name=name or out.stem, pixels=pixels)
    checkpoint.save(out, found)
    return found


def _specs(tasks: Mapping[str, HeadKind | None] | Sequence[str]) -> list[TaskSpec]:
    """Names of tasks, with or without their kinds; WrongKindError for anything else."""
    expect("tasks", tasks, (Mapping, list, tuple), "names with their kinds, such as {'classes': 'classification'}")
    kinds = tasks if isinstance(tasks, Mapping) else dict.fromkeys(tasks)
    for name in tasks:
        expect("the name of a task", name, str, "a text")
    if len(kinds) < len(tasks):
        raise ValueError(f"tasks names {', '.join(tasks)}: give each task a name of its own")
    return [TaskSpec(name=name, kind=kind) for name, kind in kinds.items()]


def _colours(name: str, values: float | Sequence[float]) -> tuple[float, float, float]:
    found = (values,) * 3 if isinstance(values, int | float) else tuple(values)
    if len(found) != 3 or not all(isinstance(value, int | float) and math.isfinite(value) for value in found):
        raise ValueError(f"{name} is {values!r}; expected a finite number, or three, one for each colour")
    if name == "std" and min(found) <= 0:
        raise ValueError(f"std is {values!r}; a deviation is larger than 0")
    return found[0], found[1], found[2]


def quantise(target: Target | str = "nano", *, progress: Shown = True) -> QuantisedModel:
    """Quantise a model for the number formats of a machine.

    Parameters
    ----------
    target:
        Model and machine, or a model's name for the preset ``edge``. Its ``calibration_images`` are the pictures from
        which the ranges of activations follow.
    progress:
        Whether to show progress, or what to call with it.

    Returns
    -------
    QuantisedModel
        Integers and their scales; equal on every computer.
    """
    with shown(progress) as report:
        return prepare.prepare(as_target(target), on_progress=report).quantised


def compile(target: Target | str = "nano", *, progress: Shown = True) -> Program:
    """Compile a model for a machine.

    Parameters
    ----------
    target:
        Model and machine, or a model's name for the preset ``edge``. The model may be a file of quantised weights.
    progress:
        Whether to show progress, or what to call with it.

    Returns
    -------
    Program
        ``save`` writes it to a file; ``digest`` tells two programs apart.

    Examples
    --------
    >>> import tessera
    >>> program = tessera.compile(tessera.Target(model="pico", preset="tiny"), progress=False)
    >>> len(program.commands)
    28
    """
    with shown(progress) as report:
        return prepare.compile_file(as_target(target), on_progress=report)


def as_target(target: Target | str | Path) -> Target:
    """A target as it is; a model's name or path on the preset ``edge``."""
    return target if isinstance(target, Target) else Target(model=target)
