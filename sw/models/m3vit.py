"""Reader of M3ViT's PyTorch checkpoints (Liang et al., NeurIPS 2022).

Names are ours. Where the network differs from ours in form, it is folded: a router shared by all tasks becomes one
gate a task with equal weights; the network that makes a task's embedding out of its number is evaluated once for each
task; the normalisation of pixels goes into the patch embedding. Its heads are those of
:mod:`tessera.sw.models.m3vit_heads`; without them the result is the residual stream that they read.

The checkpoint does not say how many attention heads there are, how many experts a token goes to, nor (for images that
are not square) the size of the images: the usual numbers are taken unless told, and said in a notice.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.nn.functional as functional

from tessera.common.progress import Progress
from tessera.golden.config import LAYER_NORM_EPSILON, ModelConfig, TaskConfig
from tessera.golden.model import VisionTransformer
from tessera.sw.models import m3vit_heads as heads
from tessera.sw.models.folds import filled_biases, folded_layer_scale, take_bytes, three_colours
from tessera.sw.models.imported import Imported, ImportFormat, ImportProblems
from tessera.sw.models.networks import Tensors
from tessera.sw.models.options import COMMON_OPTIONS, Options, check_task_names
from tessera.sw.models.positions import Grid, fit_positions, read_grid, with_class_position
from tessera.sw.models.state_dict import Unsupported, axis, common, problems, read_state_dict
from tessera.sw.models.structures import (
    SIZES,
    UNSUPPORTED,
    at_size,
    hidden_width,
    layer_count,
    published_heads,
    shape_findings,
    stranger,
)

NAME = "m3vit"

HEADS = {192: 3, 384: 12, 768: 12, 1024: 16}
"""Attention heads by width, as in M3ViT's configurations."""
TOP_K = 4
"""Experts for each token in M3ViT's published commands."""

_TRAINING_ONLY = re.compile(r"\.gate\.(\d+\.)?(w_gate_aux|w_noise_aux|head\.)|^tam_model\d|num_batches_tracked$")
_GATE = r"blocks\.\d+\.mlp\.gate\."
_TASK_NET = "gate_task_represent"

_BLOCKS = (
    Unsupported(
        pattern=heads.TENSORS.pattern,
        what="a head other than four convolutions with batch norm and one behind them",
        instead="--backbone-only, whose result is the residual stream that the head reads",
    ),
    Unsupported(
        pattern=r"\.w_noise$",
        what="a noisy gate that weighs experts by a softmax over the chosen alone (--moe_gate_type noisy)",
        instead="a gate with a softmax over all experts (--moe_gate_type noisy_vmoe)",
    ),
    *UNSUPPORTED,
)


def read_m3vit(path: Path, options: Options, on_progress: Progress) -> Imported:
    """Read a checkpoint; see :func:`tessera.sw.models.importer.import_weights`."""
    read = read_state_dict(path, options.part, on_progress)
    found = read.tensors | read.outside
    if strange := stranger(found):
        raise ValueError(
            f"{path} holds {strange}; it begins with {', '.join(list(found)[:3])}: give M3ViT's checkpoint"
        )
    unused = re.compile(f"{_TRAINING_ONLY.pattern}|{heads.TRAINING_ONLY.pattern}")
    tensors = {name: tensor for name, tensor in found.items() if not unused.search(name)}
    named = list(dict.fromkeys(match["task"] for match in map(heads.TENSORS.match, tensors) if match and match["task"]))
    if options.backbone_only:
        tensors = {name: tensor for name, tensor in tensors.items() if not heads.TENSORS.match(name)}
    filled = filled_biases(tensors)
    folded, unfit = folded_layer_scale(tensors)
    notices = [*read.notices, *filled, *folded]
    grid = read_grid(tensors, options)
    with_class_position(tensors, grid)
    findings = [*unfit, *shape_findings(tensors), *grid.findings]
    notices += [*three_colours(tensors), *grid.notices]
    trained = _geometry(tensors, grid, options, named, notices)
    ends = heads.find_heads(tensors, tuple(task.name for task in trained.tasks))
    findings += heads.head_findings(trained, ends)
    expected = _expected(trained, tensors)
    for head in ends.values():
        expected |= head.expected(trained.dim)
    wrong = problems(tensors, expected, _BLOCKS, findings)
    if wrong:
        raise ImportProblems(
            f"{path} is no checkpoint of M3ViT that can be imported, read as {trained.tokens} tokens of {trained.dim}, "
            f"{trained.layers} layers, {trained.experts} experts",
            wrong,
            "Nothing was written. docs/models.md lists the names and shapes.",
        )
    config = at_size(trained, options.image_size)
    ours = _ours(tensors, trained)
    notices += fit_positions(ours, trained, config)
    notices += take_bytes(ours, options, "imagenet", "M3ViT")
    left_out = len(found) - len(tensors)
    if left_out:
        what = "of heads and of training" if options.backbone_only else "of training"
        notices.append(f"{left_out} tensors {what} were left out")
    network, weights = heads.with_heads(config, ours, ends) if ends else (None, ours)
    return Imported(config=config, tensors=weights, source=NAME, notices=tuple(notices), network=network)


def _geometry(tensors: Tensors, grid: Grid, options: Options, named: list[str], notices: list[str]) -> ModelConfig:
    """The geometry that most of the tensors agree on; what is assumed is added to ``notices``."""
    dim = common(axis(tensors, r"blocks\.\d+\.norm[12]\.weight", 0), 192)
    routed = {
        int(match[1]) for match in (re.match(r"blocks\.(\d+)\.mlp\.(experts|gate)\.", n) for n in tensors) if match
    }
    experts = common(axis(tensors, r"blocks\.\d+\.mlp\.experts\.htoh4\.weight", 0), 16)
    gates = {int(match[1]) for match in (re.match(rf"{_GATE}(\d+)\.w_gate$", name) for name in tensors) if match}
    embedding = max(0, common(axis(tensors, rf"{_GATE}w_gate", 0), dim) - dim)
    tasks = len(gates) or common(axis(tensors, rf"{_TASK_NET}\.fc1\.weight", 1), 0) or len(options.tasks or named) or 1
    names = options.tasks or (tuple(named) if len(named) == tasks else tuple(f"task{t}" for t in range(tasks)))
    if len(names) != tasks:
        raise ValueError(f"--tasks names {len(names)} tasks, the checkpoint has {tasks}: name as many")
    check_task_names(names)
    heads = published_heads(dim, options.heads, HEADS)
    top_k = options.top_k or min(TOP_K, experts)
    if options.heads is None:
        notices.append(f"{heads} attention heads, as M3ViT has at {dim} channels: --heads for another number")
    if options.top_k is None and routed:
        notices.append(
            f"each token goes to {top_k} experts, as in M3ViT's published commands: --top-k for another number"
        )
    epsilon = LAYER_NORM_EPSILON if options.epsilon is None else options.epsilon
    if options.epsilon is None:
        notices.append(f"LayerNorm's epsilon is {epsilon:g}, as in M3ViT: --epsilon for another")
    return ModelConfig(
        name=f"m3vit-{SIZES.get(dim, dim)}",
        image_height=grid.rows * grid.patch,
        image_width=grid.columns * grid.patch,
        patch=grid.patch,
        dim=dim,
        heads=heads,
        layers=layer_count(tensors),
        mlp_hidden=hidden_width(tensors, dim),
        expert_layers=tuple(sorted(routed)),
        experts=experts if routed else 0,
        expert_hidden=common(axis(tensors, r"blocks\.\d+\.mlp\.experts\.htoh4\.weight", 1), dim) if routed else 0,
        top_k=top_k if routed else 0,
        tasks=tuple(TaskConfig(name=name, kind="features", channels=0, cells=0) for name in names),
        router="task_conditioned" if embedding else "multi_gate",
        task_embedding=embedding,
        final_norm=False,
        norm_epsilon=epsilon,
    )


def _expected(config: ModelConfig, tensors: Tensors) -> dict[str, tuple[int, ...]]:
    """Shapes by name, as M3ViT has them."""
    with torch.device("meta"):  # for shapes alone
        shapes = {name: tuple(value.shape) for name, value in VisionTransformer(config).state_dict().items()}
    if shapes.pop("task_embedding", None):
        size, tasks = config.task_embedding, len(config.tasks)
        shapes |= {f"{_TASK_NET}.fc1.weight": (size, tasks), f"{_TASK_NET}.fc2.weight": (size, size)}
        shapes |= {f"{_TASK_NET}.{part}": (size,) for part in ("fc1.bias", "fc2.bias", "norm.weight", "norm.bias")}
    elif any(re.fullmatch(rf"{_GATE}w_gate", name) for name in tensors):
        for layer in config.expert_layers:
            for task in range(len(config.tasks)):
                shapes.pop(f"blocks.{layer}.mlp.gate.{task}.w_gate")
            shapes[f"blocks.{layer}.mlp.gate.w_gate"] = (config.dim, config.experts)
    return shapes


def _ours(tensors: Tensors, config: ModelConfig) -> Tensors:
    """The tensors under our names."""
    ours = {name: tensor for name, tensor in tensors.items() if not name.startswith(_TASK_NET)}
    if config.router == "task_conditioned":
        ours["task_embedding"] = _task_embedding(tensors)
        return ours
    for layer in config.expert_layers:
        shared = ours.pop(f"blocks.{layer}.mlp.gate.w_gate", None)
        if shared is not None:
            ours |= {f"blocks.{layer}.mlp.gate.{task}.w_gate": shared.clone() for task in range(len(config.tasks))}
    return ours


def _task_embedding(tensors: Tensors) -> torch.Tensor:
    """What M3ViT's network makes of each task's number, (tasks, n): two layers with GELU on a one-hot, then a norm."""
    net = f"{_TASK_NET}."
    part = {name.removeprefix(net): value.double() for name, value in tensors.items() if name.startswith(net)}
    hidden = functional.gelu(part["fc1.weight"].T + part["fc1.bias"])
    output = functional.linear(hidden, part["fc2.weight"], part["fc2.bias"])
    size = output.shape[-1:]
    return functional.layer_norm(output, size, part["norm.weight"], part["norm.bias"], LAYER_NORM_EPSILON).float()


FORMAT = ImportFormat(
    name=NAME,
    what="PyTorch checkpoint of M3ViT: .pth, .safetensors, or the folder of an expert-parallel run",
    read=read_m3vit,
    options=COMMON_OPTIONS | {"top_k"},
)
