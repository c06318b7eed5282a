"""Geometry of this project's own vision transformers, which can be trained; any network is a graph of operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

LAYER_NORM_EPSILON = 1e-6
"""What LayerNorm adds to the variance unless a model has another epsilon."""

Value = TypeVar("Value")
Router = Literal["multi_gate", "task_conditioned"]
HeadKind = Literal["segmentation", "depth", "classification", "features"]


def layer_name(layer: int) -> str:
    """Name of a layer, ``layer03``: the first part of its tensors' names, and its key in JSON."""
    return f"layer{layer:02d}"


def by_layer_name(values: Mapping[int, Value]) -> dict[str, Value]:
    """What is known of each layer, for JSON."""
    return {layer_name(layer): value for layer, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One task and its linear head.

    Parameters
    ----------
    name:
        Task name as the command line knows it.
    kind:
        ``segmentation`` (class logits a cell), ``depth`` (one value a cell), ``classification`` (class logits of the
        whole picture, from the class token) or ``features`` (no head: the residual stream after the last layer is
        the result).
    channels:
        Outputs a cell: the number of classes, or 1 for depth. 0 for ``features``.
    cells:
        Each patch is predicted as ``cells`` x ``cells`` cells. 1 for ``classification``, 0 for ``features``.

    Output channel ``(channel * cells + cell_row) * cells + cell_column`` of the head predicts that cell.
    """

    name: str
    kind: HeadKind
    channels: int
    cells: int

    @property
    def outputs(self) -> int:
        """Output channels of the head for each token that it reads."""
        return self.channels * self.cells * self.cells


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Geometry of a multi-task mixture-of-experts vision transformer.

    Parameters
    ----------
    name:
        Name used in reports and file names.
    image_height, image_width:
        Pixels; three colour channels, values k/256 in [0, 1). Multiples of ``patch``.
    patch:
        Edge of a square patch in pixels.
    dim, heads, layers, mlp_hidden:
        Residual width D, attention heads (``dim`` is a multiple), transformer blocks, hidden width of the dense MLP.
    expert_layers:
        Indices of the blocks whose MLP is a mixture of experts.
    experts, expert_hidden, top_k:
        Experts a block, hidden width of one, experts chosen for each token.
    router:
        ``multi_gate``: one gate matrix a task. ``task_conditioned``: one gate matrix over the token with a task
        embedding of ``task_embedding`` values appended to it.
    task_embedding:
        Length of the task embedding; 0 for ``multi_gate``.
    final_norm:
        A LayerNorm in front of the heads (Edge-MoE's backbone has none).
    norm_epsilon:
        What every LayerNorm adds to the variance.
    tasks:
        The tasks, in order; the index is what the accelerator's task register holds.

    Raises
    ------
    ValueError
        For an inconsistent geometry; the message gives the value, the rule and the way out.
    """

    name: str
    image_height: int
    image_width: int
    patch: int
    dim: int
    heads: int
    layers: int
    mlp_hidden: int
    expert_layers: tuple[int, ...]
    experts: int
    expert_hidden: int
    top_k: int
    tasks: tuple[TaskConfig, ...]
    router: Router = "multi_gate"
    task_embedding: int = 0
    final_norm: bool = True
    norm_epsilon: float = LAYER_NORM_EPSILON

    def __post_init__(self) -> None:
        for field in ("image_height", "image_width", "patch", "dim", "heads", "layers", "mlp_hidden"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}, expected at least 1")
        if self.image_height % self.patch or self.image_width % self.patch:
            raise ValueError(
                f"image {self.image_height}x{self.image_width} is not a whole number of {self.patch}x{self.patch} "
                "patches; choose image sizes that are multiples of the patch"
            )
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        bad = [layer for layer in self.expert_layers if not 0 <= layer < self.layers]
        if bad:
            raise ValueError(f"expert_layers {bad} lie outside the {self.layers} layers (0 to {self.layers - 1})")
        if self.expert_layers and not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k is {self.top_k}, expected 1 to the number of experts ({self.experts})")
        if not self.tasks:
            raise ValueError("a model needs at least one task")
        if (self.router == "task_conditioned") != (self.task_embedding > 0):
            raise ValueError("task_embedding is for the task_conditioned router, and must be at least 1 there")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image_height // self.patch, self.image_width // self.patch

    @property
    def patches(self) -> int:
        """Patch tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """Patch tokens and the class token, which is token 0."""
        return self.patches + 1

    def head_tokens(self, task: int) -> slice:
        """Tokens that a task's head reads: the class token for ``classification``, else all patches."""
        return slice(0, 1) if self.tasks[task].kind == "classification" else slice(1, self.tokens)

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.dim // self.heads

    @property
    def patch_inputs(self) -> int:
        """Inputs of the patch embedding: 3 x patch x patch."""
        return 3 * self.patch * self.patch

    def task_index(self, name: str) -> int:
        """Index of the task called ``name``; raises ValueError listing the known tasks."""
        names = [task.name for task in self.tasks]
        if name not in names:
            raise ValueError(f"unknown task '{name}'; this model has: {', '.join(names)}")
        return names.index(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-compatible form, the inverse of :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Build from the plain form, as stored in a checkpoint's metadata."""
        fields = dict(data)
        fields["tasks"] = tuple(TaskConfig(**task) for task in fields["tasks"])
        fields["expert_layers"] = tuple(fields["expert_layers"])
        return cls(**fields)


NANO = ModelConfig(
    name="nano",
    image_height=64,
    image_width=128,
    patch=8,
    dim=96,
    heads=3,
    layers=6,
    mlp_hidden=384,
    expert_layers=(1, 3, 5),
    experts=8,
    expert_hidden=192,
    top_k=2,
    tasks=(
        TaskConfig(name="segmentation", kind="segmentation", channels=8, cells=4),
        TaskConfig(name="depth", kind="depth", channels=1, cells=4),
    ),
)
"""The small model that ships trained: 129 tokens of 96 channels."""

M3VIT_BACKBONE = ModelConfig(
    name="m3vit-backbone",
    image_height=128,
    image_width=256,
    patch=16,
    dim=192,
    heads=3,
    layers=12,
    mlp_hidden=768,
    expert_layers=(1, 3, 5, 7, 9, 11),
    experts=16,
    expert_hidden=384,
    top_k=2,
    tasks=(
        TaskConfig(name="task0", kind="features", channels=0, cells=0),
        TaskConfig(name="task1", kind="features", channels=0, cells=0),
    ),
    final_norm=False,
)
"""The geometry of Edge-MoE's published backbone: 129 tokens of 192 channels, 782,719,488 MACs a frame."""

M3VIT_TINY = replace(
    M3VIT_BACKBONE,
    name="m3vit-tiny",
    tasks=(
        TaskConfig(name="segmentation", kind="segmentation", channels=8, cells=4),
        TaskConfig(name="depth", kind="depth", channels=1, cells=4),
    ),
    final_norm=True,
)
"""That backbone with a final norm and two heads for the procedural scenes; ships trained."""

PICO = replace(
    M3VIT_BACKBONE,
    name="pico",
    image_height=32,
    image_width=64,
    patch=8,
    dim=32,
    heads=2,
    layers=2,
    mlp_hidden=48,
    expert_layers=(1,),
    experts=8,
    expert_hidden=16,
)
"""A backbone for slow simulations: 33 tokens of 32 channels, one layer of each kind."""

DEIT_SMALL = ModelConfig(
    name="deit-small",
    image_height=224,
    image_width=224,
    patch=16,
    dim=384,
    heads=6,
    layers=12,
    mlp_hidden=1536,
    expert_layers=(),
    experts=0,
    expert_hidden=0,
    top_k=0,
    tasks=(TaskConfig(name="features", kind="features", channels=0, cells=0),),
    final_norm=False,
)
"""The dense geometry of DeiT-Small (Touvron et al., 2021) without its head: 197 tokens of 384 channels."""

MODELS = {model.name: model for model in (NANO, M3VIT_TINY, M3VIT_BACKBONE, PICO, DEIT_SMALL)}
