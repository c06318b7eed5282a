"""What operators compute: our own transformers bit for bit, and each operator against a plain reading of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tessera.golden.config import NANO, PICO, ModelConfig, TaskConfig
from tessera.golden.model import seeded
from tessera.golden.network.compute import FloatNetwork, apply_function, as_map, compute
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import (
    KINDS,
    ActivationFunction,
    Attend,
    Convolution,
    Join,
    Linear,
    Multiply,
    Normalise,
    NormKind,
    Operator,
    Parameter,
    Part,
    PictureInput,
    Reshape,
)

CLASSES = replace(
    PICO,
    name="classes",
    tasks=(*NANO.tasks, TaskConfig(name="classes", kind="classification", channels=5, cells=1)),
    final_norm=True,
)
CONDITIONED = replace(PICO, name="conditioned", router="task_conditioned", task_embedding=6)
UNNORMED = replace(CLASSES, name="unnormed", final_norm=False)


def pictures(config: ModelConfig, count: int = 2) -> Tensor:
    shape = (count, 3, config.image_height, config.image_width)
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("config", [NANO, PICO, CLASSES, CONDITIONED, UNNORMED], ids=lambda config: config.name)
def test_a_transformer_s_graph_computes_what_it_does_bit_for_bit(config: ModelConfig) -> None:
    model, images = seeded(config, 3).double(), pictures(config)
    network = model.as_network()
    tasks = range(len(config.tasks))
    with torch.no_grad():
        expected = model.forward_tasks(images, list(tasks))
        together = network.run(images, list(tasks))
        for task in tasks:
            assert together[task].dtype == torch.float64
            # A product of more rows may sum in another order: float64's last digits.
            shown = as_map(together[task], network.network.tasks[task])
            torch.testing.assert_close(shown, expected[task], rtol=0, atol=1e-12)
            alone: dict[str, Any] = {}
            theirs: dict[str, Any] = {}
            got = network.predict(images, config.tasks[task].name, capture=alone)
            shown = model(images, task, capture=theirs)
            # Products of one row a picture depend on where in memory it lies.
            tolerance = 1e-12 if config.tasks[task].kind == "classification" else 0.0
            torch.testing.assert_close(got, shown, rtol=0, atol=tolerance)
            for name, value in theirs.items():
                if name.split(".")[-1] in ("q", "k", "v", "norm1", "norm2", "residual", "residual_attention", "hidden"):
                    assert torch.equal(alone[name], value), name
                elif name.split(".")[-1] in ("expert_indices", "expert_weights", "gate_logits"):
                    layer, part = name.split(".")
                    assert torch.equal(alone[f"{layer}.experts.{part}"], value), name


def test_work_before_the_first_gate_is_shared() -> None:
    network, images, capture = seeded(PICO, 1).as_network(), pictures(PICO, 3), dict[str, Any]()
    with torch.no_grad():
        network.run(images, [0, 1], capture=capture)
    assert len(capture["layer01.norm2"]) == 3 and len(capture["layer01.experts"]) == 6
    assert len(capture["layer01.residual"]) == 6, "what depends on the task has the tasks along the batch"


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images have shape \(1, 3, 8, 8\), model 'pico' takes \(batch, 3, 32, 64\)"):
        seeded(PICO, 1).as_network().run(torch.zeros(1, 3, 8, 8), [0])
    with pytest.raises(ValueError, match="unknown task 'flow'"):
        seeded(PICO, 1).as_network().predict(pictures(PICO), "flow")


GENERATOR = np.random.default_rng(2)
SHAPES = {
    "w": (6, 4),
    "b": (6,),
    "stack": (2, 6, 4),
    "f": (8, 2, 3, 3),
    "fb": (8,),
    "g": (4,),
    "o": (4,),
    "scores": (2, 5, 7),
}
VALUES = {name: torch.from_numpy(GENERATOR.normal(size=shape)) for name, shape in SHAPES.items()}


def value(parameter: Parameter) -> Tensor:
    return FloatNetwork(None, VALUES).parameter(parameter)  # type: ignore[arg-type]


def made(operator: Operator, *sources: Tensor) -> np.ndarray:
    return compute(operator, list(sources), value)[0].numpy()


def some(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(size=(1, *shape)))


def test_linear_layers_read_parts_of_weights() -> None:
    x = some(5, 4)
    got = made(Linear(part="l", source="x", weight=Parameter(tensor="w"), bias=Parameter(tensor="b")), x)
    assert got == pytest.approx(x[0].numpy() @ VALUES["w"].numpy().T + VALUES["b"].numpy())
    got = made(Linear(part="l", source="x", weight=Parameter(tensor="stack", item=1)), x)
    assert got == pytest.approx(x[0].numpy() @ VALUES["stack"][1].numpy().T)
    x = some(5, 6)
    got = made(Linear(part="l", source="x", weight=Parameter(tensor="w", transposed=True)), x)
    assert got == pytest.approx(x[0].numpy() @ VALUES["w"].numpy())


def test_convolutions_with_stride_padding_and_groups() -> None:
    x = some(5, 6, 4)
    operator = Convolution(
        part="c", source="x", weight=Parameter(tensor="f"), bias=Parameter(tensor="fb"), stride=(2, 1),
        padding=(1, 0, 0, 2), groups=2,
    )  # fmt: skip
    got = made(operator, x)
    padded = np.pad(x[0].numpy(), ((1, 0), (0, 2), (0, 0)))
    weight, bias = VALUES["f"].numpy(), VALUES["fb"].numpy()
    assert got.shape == operator.shape([(5, 6, 4)], SHAPES) == (2, 6, 8)
    for row, column, channel in np.ndindex(*got.shape):
        group = slice(channel // 4 * 2, channel // 4 * 2 + 2)
        window = padded[2 * row : 2 * row + 3, column : column + 3, group]
        assert got[row, column, channel] == pytest.approx(
            (window.transpose(2, 0, 1) * weight[channel]).sum() + bias[channel]
        )


@pytest.mark.parametrize("kind", NormKind)
def test_norms(kind: NormKind) -> None:
    x = some(5, 4)
    norm = Normalise(
        part="n", source="x", weight=Parameter(tensor="g"), bias=Parameter(tensor="o"), epsilon=0.1, kind=kind
    )
    rows = x[0].numpy()
    centred = rows - rows.mean(axis=1, keepdims=True) if kind is NormKind.LAYER else rows
    normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 0.1)
    assert made(norm, x) == pytest.approx(normal * VALUES["g"].numpy() + VALUES["o"].numpy())


def test_attention_of_fewer_queries_than_keys_with_a_bias() -> None:
    q, k, v = some(5, 4), some(7, 4), some(7, 6)
    operator = Attend(part="a", query="q", key="k", value="v", heads=2, scale=0.3, bias=Parameter(tensor="scores"))
    got = made(operator, q, k, v)
    for head in range(2):
        scores = 0.3 * q[0, :, 2 * head : 2 * head + 2].numpy() @ k[0, :, 2 * head : 2 * head + 2].numpy().T
        share = np.exp(scores + VALUES["scores"][head].numpy())
        share /= share.sum(axis=1, keepdims=True)
        assert got[:, 3 * head : 3 * head + 3] == pytest.approx(share @ v[0, :, 3 * head : 3 * head + 3].numpy())


def test_parts_joins_products_and_arrangements() -> None:
    x, y = some(5, 4), some(5, 4) * 2
    assert (made(Part(part="p", source="x", axis="rows", start=1, stop=3), x) == x[0, 1:3].numpy()).all()
    assert (made(Part(part="p", source="x", axis="channels", start=1, stop=3), x) == x[0, :, 1:3].numpy()).all()
    assert (made(Join(part="j", parts=("x", "y"), axis="rows"), x, y) == np.concatenate([x[0], y[0]])).all()
    assert (made(Join(part="j", parts=("x", "y"), axis="channels"), x, y) == np.hstack([x[0], y[0]])).all()
    assert (made(Multiply(part="m", left="x", right="y"), x, y) == (x * y)[0].numpy()).all()
    grid = some(2, 3, 4)
    assert (made(Reshape(part="r", source="x", to=(6, 4)), grid) == grid[0].reshape(6, 4).numpy()).all()


@pytest.mark.parametrize(
    ("function", "at_one"),
    [
        (ActivationFunction.GELU, 0.8413447461),
        (ActivationFunction.GELU_TANH, 0.8411919906),
        (ActivationFunction.QUICK_GELU, 0.8457957659),
        (ActivationFunction.SILU, 0.7310585786),
        (ActivationFunction.HARDSWISH, 4 / 6),
        (ActivationFunction.RELU, 1.0),
    ],
)
def test_activation_functions(function: ActivationFunction, at_one: float) -> None:
    x = torch.tensor([1.0, -8.0, 0.0], dtype=torch.float64)
    assert apply_function(function, x).numpy() == pytest.approx([at_one, 0.0, 0.0], abs=3e-3)
    assert apply_function(function, x)[0].item() == pytest.approx(at_one, abs=1e-9)


def test_results_become_maps() -> None:
    task = Task(name="t", kind="segmentation", channels=2, cells=2, result="x", grid=(1, 3))
    result = torch.arange(24.0).reshape(1, 3, 8)
    shown = as_map(result, task)
    # Channel 1, cell row 1, cell column 0 of the middle patch.
    assert shown.shape == (1, 2, 2, 6) and shown[0, 1, 1, 2] == result[0, 1, (1 * 2 + 1) * 2 + 0]
    features = replace(task, kind="features")
    assert as_map(result, features) is result


def test_a_network_of_plain_operators_runs() -> None:
    """A picture straight into a product: no transformer, no constants."""
    operators = (
        PictureInput(part="picture", height=2, width=4),
        Reshape(part="rows", source="picture", to=(8, 3)),
        Linear(part="out", source="rows", weight=Parameter(tensor="w")),
    )
    task = Task(name="t", kind="features", channels=0, cells=0, result="out", grid=(2, 4))
    network = Network(name="plain", operators=operators, tasks=(task,), weights={"w": (5, 3)})
    weight = torch.from_numpy(np.random.default_rng(4).normal(size=(5, 3)))
    image = torch.full((1, 3, 2, 4), 128, dtype=torch.uint8)
    got = FloatNetwork(network, {"w": weight}).predict(image, "t")
    assert got[0].numpy() == pytest.approx(np.tile(0.5 * weight.sum(dim=1).numpy(), (8, 1)))


def test_every_kind_of_operator_is_computed() -> None:
    where_networks_run = {"picture", "constant", "mix_experts"}
    assert {tag for tag, kind in KINDS.items() if kind not in compute.registry} == where_networks_run
