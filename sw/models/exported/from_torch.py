"""A PyTorch module as a network: exported, read, checked against the module itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.export import ExportedProgram

from tessera.golden.checkpoint import Checkpoint
from tessera.golden.config import HeadKind
from tessera.golden.integer.plan import UnsupportedOperators, plan
from tessera.golden.network.compute import PIXEL_SCALE, FloatNetwork, as_map
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import Convolution, Scale
from tessera.sw.models.exported.builder import Builder
from tessera.sw.models.exported.exporting import exported_program, own_forward
from tessera.sw.models.exported.graphs import tidied, unused
from tessera.sw.models.exported.handlers import CHECKS, HANDLERS, scaled_channels
from tessera.sw.models.exported.merge import merged
from tessera.sw.models.exported.problems import Problem, UnsupportedNetwork
from tessera.sw.models.exported.reader import Reader, UnsupportedNode
from tessera.sw.models.exported.values import NoArrangement, ScaledView, View
from tessera.sw.models.options import check_task_names

TOLERANCE = 1e-5
"""Relative error beyond which our float network is not the module: float32 gives 1e-6."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What one of a module's results is.

    Parameters
    ----------
    name:
        Task name as the command line knows it.
    kind:
        As in :class:`tessera.golden.network.network.Task`; None to tell by the result's shape: (1, K) are classes of
        the whole picture, (1, K, H, W) a map of classes, of depth for K = 1, and (1, N, D) features.
    """

    name: str
    kind: HeadKind | None = None


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How a module's input comes from a picture: ``(byte / 255 - mean) / deviation`` for each colour."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def of(self, images: Tensor) -> Tensor:
        """The module's input from bytes (B, 3, H, W)."""
        mean, deviation = (torch.tensor(one)[:, None, None] for one in (self.mean, self.deviation))
        return (images.float() / 255 - mean) / deviation


def checkpoint_of(
    module: nn.Module, example: Tensor, tasks: Sequence[TaskSpec] = (), *, name: str = "network", pixels: Pixels
) -> Checkpoint:
    """Read a module.

    Parameters
    ----------
    module:
        In evaluation mode. It takes pictures (B, 3, H, W) and gives a tensor, several, or a dictionary of them.
    example:
        A picture (1, 3, H, W) as the module takes it.
    tasks:
        One for each result: by the keys of the dictionary that the module gives, or in the order of its results. By
        default they are called after the keys, or ``task0`` on.
    name:
        Name of the network.
    pixels:
        How the input comes from bytes.

    Raises
    ------
    ExportError
        If torch.export cannot trace it.
    UnsupportedNetwork
        If the machine has no operator for a part of it; all such parts are listed.
    ValueError
        If what was read computes something else than the module.
    """
    program = exported_program(module, example, name)
    problems = tidied(program)
    height, width = example.shape[-2:]
    made = _network(program, (int(height), int(width)), tasks, name, pixels, problems)
    _check(made, module, pixels)
    return Checkpoint(model=made, weights="imported", source="torch.export", assumed=_unused(program))


def network_of(*given: Any, **options: Any) -> FloatNetwork:
    """The network of :func:`checkpoint_of`."""
    return checkpoint_of(*given, **options).model


def _network(
    program: ExportedProgram,
    size: tuple[int, int],
    tasks: Sequence[TaskSpec],
    name: str,
    pixels: Pixels,
    problems: Sequence[Problem],
) -> FloatNetwork:
    """What a program computes of a picture of a size, as a network; ``problems`` are known before."""
    builder = Builder()
    reader = Reader(builder, HANDLERS, CHECKS)
    picture = builder.picture(*size)
    pixels_view = View(builder.view(picture, *size, 3).places.permute(2, 0, 1)[None])
    results = reader.read(program, [pixels_view])
    if reader.problems or problems:
        raise UnsupportedNetwork(name, [*problems, *reader.problems])
    specs = _specs(program, len(results), tasks, name)
    found = [_task(builder, spec, result) for spec, result in zip(specs, results, strict=True)]
    _fold_pixels(builder, pixels, name)
    operators, found = merged(_needed(builder, found), found, builder.weights)
    used = {parameter.tensor for operator in operators for parameter in operator.parameters}
    weights = {key: value for key, value in builder.weights.items() if key in used}
    for key, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"'{key}' has values that are not finite; the module cannot be quantised")
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    network = Network(name=name, operators=tuple(operators), tasks=tuple(found), weights=shapes)
    try:
        plan(network)
    except UnsupportedOperators as error:
        problems = [Problem(where, tag, network.shapes[where], why) for where, tag, why in error.problems]
        raise UnsupportedNetwork(name, problems) from None
    return FloatNetwork(network, {key: weights[key] for key in shapes})


def _unused(program: ExportedProgram) -> tuple[str, ...]:
    """A line with the parameters that no result depends on, if there are any."""
    names = unused(program)
    return (f"no result depends on {', '.join(names)}: left out",) if names else ()


def _specs(program: ExportedProgram, results: int, tasks: Sequence[TaskSpec], name: str) -> list[TaskSpec]:
    """What each result is: by a dictionary's keys or, where the module gives none, in order."""
    keys = _keys(program, results)
    if not tasks:
        tasks = [TaskSpec(name=key) for key in keys or (f"task{index}" for index in range(results))]
    elif keys is None and len(tasks) != results:
        raise ValueError(f"{len(tasks)} tasks are named, but '{name}' has {results} results")
    check_task_names(tuple(spec.name for spec in tasks))
    if keys is None:
        return list(tasks)
    known = {spec.name: spec for spec in tasks}
    if known.keys() != set(keys):
        raise ValueError(
            f"the tasks are named {', '.join(known)}, but '{name}' gives a dictionary with {', '.join(keys)}; name "
            "each of its keys"
        )
    return [known[key] for key in keys]


def _keys(program: ExportedProgram, results: int) -> list[str] | None:
    """Keys of the dictionary that a module gives, in the order of the results; None for anything else."""
    shaped = pytree.tree_unflatten(list(range(results)), program.call_spec.out_spec)
    if isinstance(shaped, Mapping) and all(isinstance(one, int) for one in shaped.values()):
        return [str(key) for key, _ in sorted(shaped.items(), key=lambda item: item[1])]
    return None


def _task(builder: Builder, spec: TaskSpec, result: Any) -> Task:
    """A task from its result's values."""
    try:
        if isinstance(result, ScaledView):
            factors = torch.full((result.view.places.numel(),), result.factor)
            result = scaled_channels(builder, result.view, factors, None)
        if not isinstance(result, View):
            raise ValueError(f"the result of task '{spec.name}' does not depend on the picture")
        _check_kind(spec, len(result.shape))
        return _task_of(builder, spec, result.shape, result.places)
    except (NoArrangement, UnsupportedNode) as error:
        raise ValueError(f"the result of task '{spec.name}', {tuple(result.shape)}: {error}") from None


def _task_of(builder: Builder, spec: TaskSpec, shape: tuple[int, ...], places: Tensor) -> Task:
    if len(shape) == 2:
        made = builder.matrix(places)
        return _made_task(spec, "classification", made.name, shape[1], 1, (1, 1))
    if len(shape) == 3:
        made = builder.matrix(places[0])
        edge = math.isqrt(made.rows)
        grid = (edge, edge) if edge * edge == made.rows else (1, made.rows)
        return _made_task(spec, "features", made.name, 0, 0, grid)
    if len(shape) == 4:
        kind: HeadKind = "segmentation" if shape[1] > 1 else "depth"
        made = builder.matrix(places[0].permute(1, 2, 0).reshape(-1, shape[1]))
        return _made_task(spec, kind, made.name, shape[1], 1, (shape[2], shape[3]))
    raise ValueError(f"the result of task '{spec.name}' has the shape {shape}; expected 2 to 4 axes")


_AXES: dict[HeadKind, int] = {"classification": 2, "features": 3, "segmentation": 4, "depth": 4}
"""Axes of a result of each kind."""


def _check_kind(spec: TaskSpec, axes: int) -> None:
    """ValueError for a kind that there is not, or that a result of so many axes is not."""
    if spec.kind is None:
        return
    if spec.kind not in _AXES:
        raise ValueError(f"task '{spec.name}' is '{spec.kind}'; choose one of: {', '.join(_AXES)}")
    if _AXES[spec.kind] != axes:
        raise ValueError(
            f"task '{spec.name}' is '{spec.kind}', whose results have {_AXES[spec.kind]} axes; this one has {axes}"
        )


def _made_task(spec: TaskSpec, usual: HeadKind, result: str, channels: int, cells: int, grid: tuple[int, int]) -> Task:
    kind = spec.kind or usual
    if result == "picture":
        raise ValueError(f"the result of task '{spec.name}' is the picture itself")
    return Task(name=spec.name, kind=kind, channels=channels, cells=cells, result=result, grid=grid)


def _needed(builder: Builder, tasks: Sequence[Task]) -> list[Any]:
    """Operators that a result depends on, in order."""
    needed = {task.result for task in tasks}
    for operator in reversed(builder.operators):
        if operator.name in needed:
            needed |= set(operator.sources)
    return [operator for operator in builder.operators if operator.name in needed]


def _fold_pixels(builder: Builder, pixels: Pixels, name: str) -> None:
    """Let convolutions of the picture take bytes / 256 instead of the module's input.

    Around the picture the module's input is 0, which is the mean and no byte of all colours: what is padded reads the
    input as a tensor of its own, unless the mean is 0.
    """
    mean, deviation = (torch.tensor(one, dtype=torch.float64) for one in (pixels.mean, pixels.deviation))
    readers = [one for one in builder.operators if "picture" in one.sources]
    convolutions = [one for one in readers if isinstance(one, Convolution) and one.groups == 1]
    if len(convolutions) < len(readers):
        why = "reads the picture itself; the nearest is a convolution of one group before it"
        others = [one for one in readers if one not in convolutions]
        raise UnsupportedNetwork(name, [Problem(one.name, one.tag, builder.shape(one.name), why) for one in others])
    apart = [one.name for one in convolutions if any(one.padding) and any(pixels.mean)]
    if apart:
        scale = Scale(
            part=builder.free("", "picture.normalised"),
            source="picture",
            weight=builder.weight("picture.weight", (1 / (255 * PIXEL_SCALE * deviation)).float()),
            bias=builder.weight("picture.bias", (-mean / deviation).float()),
        )
        builder.operators.insert(1, scale)
    for index, operator in enumerate(builder.operators):
        if operator.name in apart:
            builder.replace(index, source=scale.name)
        elif isinstance(operator, Convolution) and operator.source == "picture":
            weight = builder.weights[operator.weight.tensor].double() / deviation[None, :, None, None]
            bias = -(weight * mean[None, :, None, None]).sum(dim=(1, 2, 3))
            if operator.bias is not None:
                bias = bias + builder.weights[operator.bias.tensor].double()
            folded = builder.weight(f"{operator.name}.weight", (weight / (255 * PIXEL_SCALE)).float())
            offset = builder.weight(f"{operator.name}.bias", bias.float())
            builder.replace(index, weight=folded, bias=offset)


def _check(made: FloatNetwork, module: nn.Module, pixels: Pixels) -> None:
    """Compare with the module itself on a random picture."""
    generator = torch.Generator().manual_seed(0)
    size = (2, 3, made.network.image_height, made.network.image_width)
    images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    tasks = range(len(made.network.tasks))
    with torch.no_grad():
        with own_forward(f"'{made.network.name}' fails on a picture"):  # one at a time, as it was exported
            found = [pytree.tree_leaves(module(pixels.of(one))) for one in images.split(1)]
        expected = [torch.cat(parts).double() for parts in zip(*found, strict=True)]
        got = made.run(images, tasks)
    if not all(one.isfinite().all() for one in expected):
        raise ValueError("the module's own results of a random picture are not finite")
    for task, theirs, ours in zip(made.network.tasks, expected, got, strict=True):
        shaped = as_map(ours, task).double().reshape(theirs.shape)
        error = float((shaped - theirs).norm() / theirs.norm().clamp(min=1e-30))
        if not error <= TOLERANCE:
            raise ValueError(
                f"task '{task.name}' of the network differs from the module by {error:.2g} (relative L2), at most "
                f"{TOLERANCE:g} is expected: a part of it depends on the picture's values, or on "
                "earlier calls, in a way that export lost"
            )
