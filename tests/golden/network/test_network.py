"""Networks: what their operators make, files, and what does not fit."""

import json
from dataclasses import replace

import pytest
import torch

from tessera.golden.config import NANO
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import (
    KINDS,
    Add,
    AveragePool,
    Convolution,
    Enlarge,
    Gather,
    Join,
    Linear,
    Multiply,
    Normalise,
    NormKind,
    Parameter,
    Part,
    PictureInput,
    Reshape,
    Scale,
    Transpose,
    UnsuitableError,
)
from tests.helpers.networks import network_of

MAP = (4, 6, 8)
WEIGHTS = {"square": (8, 8), "wide": (12, 8), "gain": (8,), "filters": (12, 8, 3, 3), "each": (8, 1, 3, 3)}


def parameter(name: str) -> Parameter:
    return Parameter(tensor=name)


OPERATORS = {
    "linear": (Linear(part="x", source="a", weight=parameter("wide")), (4, 6, 12)),
    "linear_transposed": (Linear(part="x", source="a", weight=Parameter(tensor="square", transposed=True)), MAP),
    "convolution": (Convolution(part="x", source="a", weight=parameter("filters"), stride=(2, 2)), (1, 2, 12)),
    "depthwise": (
        Convolution(part="x", source="a", weight=parameter("each"), padding=(1, 1, 1, 1), groups=8),
        MAP,
    ),
    "normalise": (Normalise(part="x", source="a", weight=parameter("gain"), epsilon=1e-6, kind=NormKind.RMS), MAP),
    "scale": (Scale(part="x", source="a", weight=parameter("gain")), MAP),
    "add": (Add(part="x", left="a", right="b"), MAP),
    "multiply": (Multiply(part="x", left="a", right="b"), MAP),
    "join_rows": (Join(part="x", parts=("a", "b"), axis="rows"), (8, 6, 8)),
    "join_channels": (Join(part="x", parts=("a", "b"), axis="channels"), (4, 6, 16)),
    "rows": (Part(part="x", source="a", axis="rows", start=1, stop=3), (2, 6, 8)),
    "channels": (Part(part="x", source="a", axis="channels", start=1, stop=3), (4, 6, 2)),
    "gather": (Gather(part="x", source="a", rows=(5, 5, 0)), (3, 8)),
    "transpose": (Transpose(part="x", source="a"), (8, 24)),
    "average_pool": (AveragePool(part="x", source="a", kernel=(3, 3), stride=(1, 1), padding=(1, 1)), MAP),
    "enlarge": (Enlarge(part="x", source="a"), (8, 12, 8)),
    "reshape": (Reshape(part="x", source="a", to=(12, 16)), (12, 16)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_the_shape_that_an_operator_makes(name: str):
    operator, expected = OPERATORS[name]
    assert operator.shape([MAP] * len(operator.sources), WEIGHTS) == expected


UNSUITABLE = {
    "another_number_of_inputs": (Linear(part="x", source="a", weight=parameter("wide")), [(4, 6, 7)]),
    "no_matrix": (Linear(part="x", source="a", weight=parameter("filters")), [MAP]),
    "no_filters": (Convolution(part="x", source="a", weight=parameter("wide")), [MAP]),
    "no_such_weights": (Scale(part="x", source="a", weight=parameter("none")), [MAP]),
    "no_map": (Enlarge(part="x", source="a"), [(24, 8)]),
    "a_kernel_that_is_too_large": (Convolution(part="x", source="a", weight=parameter("filters")), [(2, 2, 8)]),
    "unequal_sums": (Add(part="x", left="a", right="b"), [MAP, (4, 6, 9)]),
    "rows_outside": (Part(part="x", source="a", axis="rows", start=3, stop=5), [MAP]),
    "no_rows": (Part(part="x", source="a", axis="rows", start=3, stop=3), [MAP]),
    "a_row_behind_the_last": (Gather(part="x", source="a", rows=(0, 24)), [MAP]),
    "another_number_of_values": (Reshape(part="x", source="a", to=(5, 5)), [MAP]),
    "unequal_rows": (Join(part="x", parts=("a", "b"), axis="channels"), [MAP, (4, 5, 8)]),
}


@pytest.mark.parametrize("name", UNSUITABLE)
def test_what_does_not_fit_is_refused_by_name(name: str):
    operator, sources = UNSUITABLE[name]
    with pytest.raises(UnsuitableError, match=rf"x \({operator.tag}\)"):
        operator.shape(sources, WEIGHTS)


def test_every_kind_of_operator_is_known_by_its_tag():
    assert all(kind.tag == tag for tag, kind in KINDS.items())
    assert len(KINDS) == 19


def test_a_network_comes_back_from_a_file():
    network = network_of(NANO)
    assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "format 9.*reads 1"),
        ({"operators": [{"operator": "fourier", "place": "", "part": "x"}]}, "unknown operator 'fourier'"),
    ],
    ids=["another_version", "another_operator"],
)
def test_a_file_that_cannot_be_read_says_why(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Network.from_dict({**network_of(NANO).to_dict(), **change})


PICTURE = PictureInput(part="picture", height=8, width=8)
TASK = Task(name="t", kind="features", channels=0, cells=0, result="x", grid=(1, 1))
WHOLE = Reshape(part="x", source="picture", to=(64, 3))


@pytest.mark.parametrize(
    ("operators", "tasks", "message"),
    [
        ([PICTURE, WHOLE], [], "no task"),
        ([WHOLE], [TASK], "0 pictures"),
        ([PICTURE, replace(PICTURE, part="other"), WHOLE], [TASK], "2 pictures"),
        ([PICTURE, WHOLE], [replace(TASK, result="y")], "'y', which no operator makes"),
        ([WHOLE, PICTURE], [TASK], "reads picture, which no operator before it makes"),
        ([PICTURE, WHOLE, WHOLE], [TASK], "two operators are called x"),
    ],
    ids=["no_task", "no_picture", "two_pictures", "no_result", "order", "names"],
)
def test_a_graph_that_is_none_is_refused(operators: list, tasks: list, message: str):
    with pytest.raises(ValueError, match=message):
        _ = Network(name="n", operators=tuple(operators), tasks=tuple(tasks)).shapes


def test_maps_are_computed_as_pytorch_has_them():
    generator = torch.Generator().manual_seed(0)
    filters = torch.randn(6, 3, 3, 3, generator=generator)
    operators = (
        PICTURE,
        Convolution(part="c", source="picture", weight=parameter("f"), padding=(1, 1, 0, 0), stride=(2, 2)),
        AveragePool(part="p", source="c", kernel=(3, 3), stride=(1, 1), padding=(1, 1), count_padding=False),
        Enlarge(part="x", source="p"),
    )
    network = Network(name="n", operators=operators, tasks=(TASK,), weights={"f": tuple(filters.shape)})
    images = torch.randint(0, 256, (2, 3, 8, 8), generator=generator, dtype=torch.uint8)
    (got,) = FloatNetwork(network, {"f": filters}).run(images, [0])
    padded = torch.nn.functional.pad(images / 256, (1, 0, 1, 0))
    expected = torch.nn.functional.avg_pool2d(
        torch.nn.functional.conv2d(padded, filters, stride=2), 3, 1, 1, count_include_pad=False
    )
    expected = torch.nn.functional.interpolate(expected, scale_factor=2, mode="bilinear", align_corners=False)
    # float32 rounds each of some 30 terms by 2**-24 of values of about 1.
    assert torch.allclose(got, expected.permute(0, 2, 3, 1).reshape(got.shape), atol=1e-5)
