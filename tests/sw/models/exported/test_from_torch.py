"""Modules of one's own: what is read computes what the module does, and what cannot be run is said whole."""

import pytest
import torch
from torch import Tensor, nn

import tessera
from tessera.golden.network.compute import FloatNetwork
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Convolution,
    MixExperts,
    Normalise,
    NormKind,
    Scale,
)
from tessera.sw.models.exported.exporting import ExportError
from tessera.sw.models.exported.from_torch import Pixels, TaskSpec, network_of
from tessera.sw.models.exported.problems import UnsupportedNetwork
from tests.helpers.own_networks import NETWORKS, Transformer, own_network

PICTURE = torch.zeros(1, 3, 32, 64)


def read(module: nn.Module, **options) -> FloatNetwork:
    return network_of(module.eval(), PICTURE, **{"pixels": Pixels(), **options})


@pytest.mark.parametrize("name", NETWORKS)
def test_a_module_is_read_as_it_computes(name: str):
    """network_of compares with the module itself and refuses another result."""
    made = read(own_network(name))
    assert made.network.tasks[0].kind == ("segmentation" if name == "decoder" else "classification")


def test_mean_and_deviation_belong_to_the_first_convolution():
    pixels = Pixels(mean=(0.4, 0.5, 0.6), deviation=(0.2, 0.3, 0.4))
    read(own_network("pool"), pixels=pixels)


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.GELU, ActivationFunction.GELU),
        (lambda: nn.GELU(approximate="tanh"), ActivationFunction.GELU_TANH),
        (nn.SiLU, ActivationFunction.SILU),
        (nn.Hardswish, ActivationFunction.HARDSWISH),
        (nn.ReLU, ActivationFunction.RELU),
        (nn.Sigmoid, ActivationFunction.SIGMOID),
        (nn.Hardsigmoid, ActivationFunction.HARD_SIGMOID),
    ],
    ids=["gelu", "gelu_tanh", "silu", "hardswish", "relu", "sigmoid", "hard_sigmoid"],
)
def test_functions_are_found(module, function: ActivationFunction):
    made = read(Transformer(function=module))
    assert [one.function for one in made.network.of_kind(Activate)] == [function]


def test_kinds_of_norms_are_found():
    made = read(own_network("rms_norm"))
    assert {norm.kind for norm in made.network.of_kind(Normalise)} == {NormKind.RMS}


class Tasks(nn.Module):
    """A map of classes and one of depth; weights that are not used."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.classes, self.depth = nn.Conv2d(3, 16, 8, 8), nn.Conv2d(16, 5, 1), nn.Conv2d(16, 1, 1)
        self.unused = nn.Linear(16, 16)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        x = self.patch(pixels)
        return {"classes": self.classes(x), "depth": self.depth(x), "again": self.classes(x)}


def test_tasks_are_called_after_the_results():
    """A map of one channel is a depth, one of several a segmentation; no name of an unused weight is kept."""
    made = read(Tasks())
    found = [(task.name, task.kind, task.grid, task.channels) for task in made.network.tasks]
    assert found == [
        ("classes", "segmentation", (4, 8), 5),
        ("depth", "depth", (4, 8), 1),
        ("again", "segmentation", (4, 8), 5),
    ]
    assert not any("unused" in name for name in made.network.weights)


def test_tasks_may_be_named():
    specs = [TaskSpec(name="a"), TaskSpec(name="b", kind="classification")]
    assert [task.name for task in read(TwoMixtures(), tasks=specs).network.tasks] == ["a", "b"]


def test_tasks_of_a_dictionary_are_told_by_its_keys():
    """In whatever order they are named."""
    kinds = {"again": "segmentation", "depth": "depth", "classes": None}
    specs = [TaskSpec(name=name, kind=kind) for name, kind in kinds.items()]
    found = [(task.name, task.channels) for task in read(Tasks(), tasks=specs).network.tasks]
    assert found == [("classes", 5), ("depth", 1), ("again", 5)]
    other = [*specs[:2], TaskSpec(name="kind")]
    with pytest.raises(ValueError, match="named again, depth, kind, but 'network' gives .* classes, depth, again"):
        read(Tasks(), tasks=other)


class TwoMixtures(nn.Module):
    """A mixture for each of two tasks, whose gates differ."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 16, 8, 8), nn.LayerNorm(16)
        self.experts = tessera.MixtureOfExperts(16, hidden=24, experts=4, tasks=2)
        self.head = nn.Linear(16, 3)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        x = x + 0.5 * torch.ones(1, 32, 16)
        made = [x + self.experts(self.norm(x), task) for task in range(2)]
        return self.head(made[0].mean(1)), self.head(made[1].mean(1))


def test_mixtures_that_differ_by_their_gates_are_one():
    made = read(TwoMixtures())
    (mixture,) = made.network.of_kind(MixExperts)
    assert len(mixture.gates) == 2


class Strange(nn.Module):
    """Several things that nothing of ours does."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.blocks, self.head = (
            nn.Conv2d(3, 16, 8, 8),
            nn.ModuleList([nn.PReLU(), nn.ELU()]),
            nn.Linear(16, 3),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x).cumsum(1)
        return self.head(x.mean(1))


def test_everything_unsupported_is_said_at_once():
    """Each kind has its place, its shape and what is nearest; what depends on it is not reported again."""
    with pytest.raises(UnsupportedNetwork) as caught:
        read(Strange(), name="strange")
    message = str(caught.value)
    assert "'strange'" in message
    assert "blocks.0" in message and "aten" in message and "(1, 32, 16)" in message
    assert len({problem.operator for problem in caught.value.problems}) >= 1


def test_a_module_in_training_is_refused():
    with pytest.raises(ValueError, match="training mode.*eval"):
        network_of(own_network("pool").train(), PICTURE, pixels=Pixels())


class Branch(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels if pixels.sum() > 0 else -pixels


def test_a_module_that_cannot_be_exported_says_why():
    with pytest.raises(ExportError, match="'branch' cannot be exported: .+"):
        read(Branch(), name="branch")


class Convolved(nn.Module):
    """One convolution of the picture, and perhaps one behind it."""

    def __init__(self, *options, behind: nn.Module | None = None, around: tuple[int, ...] = (0, 0, 0, 0)) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 16, *options), nn.Linear(16, 3)
        self.behind, self.around = nn.Identity() if behind is None else behind, around

    def forward(self, pixels: Tensor) -> Tensor:
        x = nn.functional.pad(self.patch(pixels), self.around)
        return self.head(self.behind(x).flatten(2).mean(2))


def test_a_convolution_that_the_machine_has_no_step_for_is_said():
    with pytest.raises(UnsupportedNetwork, match="a convolution of the picture with a kernel of 17 x 17"):
        read(Convolved(17, 1))
    with pytest.raises(UnsupportedNetwork, match="a kernel of 2 x 16; kernels and strides up to 15"):
        read(Convolved(2, 2, behind=nn.Conv2d(16, 16, (2, 16))))


def test_zeros_around_a_map_are_the_convolutions():
    """However they are written: beside the map, or as what keeps its size."""
    odd = read(Convolved(8, 8, behind=nn.Conv2d(16, 16, 3, padding=(1, 0)), around=(2, 0, 0, 1)))
    assert odd.network.of_kind(Convolution)[1].padding == (1, 2, 2, 0)
    same = read(Convolved(8, 8, behind=nn.Conv2d(16, 16, (5, 3), padding="same")))
    assert same.network.of_kind(Convolution)[1].padding == (2, 1, 2, 1)
    none = read(Convolved(8, 8, behind=nn.Conv2d(16, 16, 3, padding="valid")))
    assert none.network.of_kind(Convolution)[1].padding == (0, 0, 0, 0)


def test_a_padded_picture_whose_mean_is_taken_off_is_a_tensor_of_its_own():
    """Its zeros are the mean. Without a mean, or without padding, the convolution takes bytes."""
    pixels = Pixels(mean=(0.4, 0.5, 0.6), deviation=(0.2, 0.3, 0.4))
    assert len(read(Convolved(3, 2, 1), pixels=pixels).network.of_kind(Scale)) == 1
    assert not read(Convolved(3, 2, 0), pixels=pixels).network.of_kind(Scale)
    assert not read(Convolved(3, 2, 1), pixels=Pixels(deviation=(0.2, 0.3, 0.4))).network.of_kind(Scale)


def test_batch_norms_belong_to_the_convolutions_before_them():
    for name in ("stem", "inverted"):
        assert not read(own_network(name)).network.of_kind(Scale)


class Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(1, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.value + 1


def test_a_result_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="does not depend on the picture"):
        read(Nothing())


@pytest.mark.parametrize(
    ("example", "found"),
    [
        (torch.zeros(3, 32, 64), "float32 \\(3, 32, 64\\)"),
        (torch.zeros(2, 3, 32, 64), "float32 \\(2, 3, 32, 64\\)"),
        (torch.zeros(1, 1, 32, 64), "float32 \\(1, 1, 32, 64\\)"),
        (torch.zeros(1, 3, 32, 64, dtype=torch.uint8), "uint8 \\(1, 3, 32, 64\\)"),
    ],
    ids=["no_batch", "two", "grey", "bytes"],
)
def test_an_example_that_is_no_picture_is_refused(example: Tensor, found: str):
    with pytest.raises(ValueError, match=f"the example is {found}; expected one picture"):
        network_of(own_network("pool"), example, pixels=Pixels())


def test_weights_that_are_no_numbers_are_refused():
    module = own_network("pool")
    module.head.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="'head.weight' has values that are not finite"):
        read(module)


class Divided(Transformer):
    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) * torch.tensor(float("inf"))


def test_results_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        read(Divided())


def test_half_precision_is_refused():
    with pytest.raises(ValueError, match="'positions' is float16; .*call float"):
        read(own_network("pool").half())


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([TaskSpec(name="a"), TaskSpec(name="b")], "2 tasks are named, but 'network' has 1 results"),
        ([TaskSpec(name="a", kind="guess")], "task 'a' is 'guess'; choose one of: classification"),
        ([TaskSpec(name="a", kind="depth")], "task 'a' is 'depth', whose results have 4 axes; this one has 2"),
    ],
    ids=["too_many", "no_kind", "another_kind"],
)
def test_tasks_that_the_results_are_not(tasks: list[TaskSpec], message: str):
    with pytest.raises(ValueError, match=message):
        read(own_network("pool"), tasks=tasks)
