"""Steps: what of a network the machine does at once, which rows and tasks, and what has no step, by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tessera.golden.config import M3VIT_BACKBONE, NANO, TaskConfig
from tessera.golden.integer.plan import UnsupportedOperators, plan
from tessera.golden.integer.steps import (
    AttentionStep,
    ExpertsStep,
    NormStep,
    PatchStep,
    ProductStep,
    StreamStep,
)
from tessera.golden.network.network import Network, Task
from tessera.golden.network.operators import (
    Activate,
    ActivationFunction,
    Add,
    Attend,
    AveragePool,
    Convolution,
    Enlarge,
    Linear,
    Normalise,
    Operator,
    Parameter,
    PictureInput,
    Reshape,
)
from tests.helpers.networks import network_of

DENSE = ["norm1", "q", "k", "v", "attention", "residual_attention", "norm2", "hidden", "residual"]
EXPERTS = ["norm1", "q", "k", "v", "attention", "residual_attention", "norm2", "residual"]


def test_the_steps_of_nano() -> None:
    names = [step.name for step in plan(network_of(NANO)).steps]
    expected = ["pixels", "embed.init", "embed"]
    for layer in range(6):
        expected += [f"layer{layer:02d}.{part}" for part in (EXPERTS if layer % 2 else DENSE)]
    assert names == [*expected, "norm_patches", "head.segmentation", "head.depth"]


def test_kinds_rows_and_channels() -> None:
    steps = plan(network_of(NANO)).by_name
    assert isinstance(steps["pixels"], PatchStep) and steps["pixels"].grid == (8, 16)
    assert (steps["pixels"].rows, steps["pixels"].channels) == (128, 3 * 8 * 8)
    stream, embed = steps["embed.init"], steps["embed"]
    assert isinstance(stream, StreamStep) and isinstance(embed, ProductStep)
    assert [(one.value.tensor, one.first, one.rows) for one in stream.constants] == [
        ("cls_token", 0, 1),
        ("pos_embed", 0, 129),
    ]
    (absorbed,) = stream.absorbed
    assert (absorbed.product, absorbed.first, absorbed.rows) == ("patch_map", 1, 128)
    assert embed.onto is not None and embed.onto.rows == slice(1, 129) and embed.matrix.bias is None
    assert (embed.rows, embed.channels) == (129, 96), "the whole stream's"
    value = steps["layer00.v"]
    assert isinstance(value, ProductStep) and (value.matrix.start, value.matrix.stop) == (192, 288)
    attention = steps["layer00.attention"]
    assert isinstance(attention, AttentionStep) and attention.heads == 3
    assert [rows.tensor for rows in attention.reads] == ["layer00.q", "layer00.k", "layer00.v"]
    hidden, second = steps["layer00.hidden"], steps["layer00.residual"]
    assert isinstance(hidden, ProductStep) and hidden.function is ActivationFunction.GELU and not hidden.residual
    assert isinstance(second, ProductStep) and second.onto is not None and second.product == "layer00.mlp"
    assert second.onto.tensor == "layer00.residual_attention" and len(second.onto) == 129
    head = steps["head.depth"]
    assert isinstance(head, ProductStep) and head.residual and head.onto is None


def test_norms_are_of_the_rows_that_are_read() -> None:
    steps = plan(network_of(NANO)).by_name
    norm = steps["norm_patches"]
    assert isinstance(norm, NormStep) and norm.source.rows == slice(1, 129) and norm.rows == 128
    assert {name for name, step in steps.items() if isinstance(step, NormStep) and step.wide} == {
        f"layer{layer:02d}.norm2" for layer in (1, 3, 5)
    }
    classes = replace(NANO, tasks=(TaskConfig(name="c", kind="classification", channels=5, cells=1),))
    norm = plan(network_of(classes)).by_name["norm_class"]
    assert isinstance(norm, NormStep) and norm.source.rows == slice(0, 1)


def test_experts_are_named_after_what_they_make_and_their_tensors_after_themselves() -> None:
    step = plan(network_of(NANO)).by_name["layer01.residual"]
    assert isinstance(step, ExpertsStep) and step.product == "layer01.experts"
    assert step.inner("queues") == "layer01.experts.queues"
    assert (step.experts, step.hidden, step.top_k, len(step.gates)) == (8, 192, 2, 2)


def test_tasks_of_steps() -> None:
    steps = plan(network_of(NANO)).by_name
    assert steps["head.depth"].tasks == (1,) and steps["norm_patches"].tasks is None
    assert steps["head.depth"].runs(1) and not steps["head.depth"].runs(0)
    mixed = replace(NANO, tasks=(*NANO.tasks, TaskConfig(name="f", kind="features", channels=0, cells=0)))
    made = plan(network_of(mixed))
    assert made.by_name["norm_patches"].tasks == (0, 1) and made.by_name["layer05.residual"].tasks is None
    assert [rows.tensor for rows in made.results] == ["head.segmentation", "head.depth", "layer05.residual"]


def test_results_without_heads_are_the_stream() -> None:
    made = plan(network_of(M3VIT_BACKBONE))
    assert [rows.tensor for rows in made.results] == ["layer11.residual"] * 2 and len(made.results[0]) == 129
    assert list(made.last_streams) == [f"layer{layer:02d}" for layer in range(12)]
    assert {step.name for step in made.last_streams.values()} == {f"layer{layer:02d}.residual" for layer in range(12)}


def test_readers_are_in_order() -> None:
    readers = plan(network_of(NANO)).readers
    assert [step.name for step in readers["layer00.norm1"]] == [f"layer00.{part}" for part in "qkv"]
    assert [step.name for step in readers["embed"]] == ["layer00.norm1", "layer00.residual_attention"]
    assert readers["head.depth"] == ()


# Networks of a few operators ------------------------------------------------------------------------------------------

WEIGHTS = {"patches": (6, 3, 4, 4), "w": (6, 6), "g": (6,), "k": (6, 6, 3, 3)}
STEM: tuple[Operator, ...] = (
    PictureInput(part="picture", height=8, width=16),
    Convolution(part="map", source="picture", weight=Parameter(tensor="patches"), stride=(4, 4)),
    Reshape(part="tokens", source="map", to=(8, 6)),
)


def network(*operators: Operator, result: str) -> Network:
    task = Task(name="t", kind="features", channels=0, cells=0, result=result, grid=(2, 4))
    return Network(name="n", operators=(*STEM, *operators), tasks=(task,), weights=WEIGHTS)


def linear(part: str, source: str) -> Linear:
    return Linear(part=part, source=source, weight=Parameter(tensor="w"))


def names(made: Network) -> list[str]:
    return [step.name for step in plan(made).steps]


def test_a_product_is_what_it_is_added_to_or_goes_through() -> None:
    gelu = Activate(part="gelu", source="a", function=ActivationFunction.GELU)
    assert names(network(linear("a", "tokens"), gelu, linear("b", "gelu"), result="b")) == [
        "pixels",
        "tokens",
        "gelu",
        "b",
    ]
    added = Add(part="sum", left="tokens", right="b")
    norm = Normalise(part="norm", source="tokens", weight=Parameter(tensor="g"), epsilon=1e-6)
    made = names(network(norm, linear("b", "norm"), added, result="sum"))
    assert made == ["pixels", "tokens", "norm", "sum"]


def test_what_no_task_needs_has_no_step() -> None:
    made = names(network(linear("a", "tokens"), linear("b", "tokens"), result="b"))
    assert "a" not in made and made[-1] == "b"


def test_every_operator_without_a_step_is_named_at_once() -> None:
    pooled = AveragePool(part="pooled", source="map", kernel=(3, 3), stride=(1, 1), padding=(1, 1), count_padding=False)
    larger = Enlarge(part="larger", source="map")  # which has one
    blur = Convolution(part="blur", source="larger", weight=Parameter(tensor="k"), stride=(16, 16), padding=(9,) * 4)
    flat = Reshape(part="flat", source="blur", to=(4, 6))
    with pytest.raises(UnsupportedOperators) as error:
        plan(network(pooled, larger, blur, flat, linear("b", "flat"), result="b"))
    found = {name: (tag, why) for name, tag, why in error.value.problems}
    assert found["pooled"][0] == "average_pool" and "border" in found["pooled"][1]
    assert "larger" not in found
    assert found["blur"][0] == "convolution" and "strides up to 15 and padding up to 7 run" in found["blur"][1]
    assert "pooled (average_pool)" in str(error.value)


def convolution(part: str, source: str, padding: int = 1) -> Convolution:
    return Convolution(part=part, source=source, weight=Parameter(tensor="k"), padding=(padding,) * 4)


def norm(part: str, source: str, *, offset: bool) -> Normalise:
    bias = Parameter(tensor="g") if offset else None
    return Normalise(part=part, source=source, weight=Parameter(tensor="g"), bias=bias, epsilon=1e-6)


@pytest.mark.parametrize(("padding", "offset", "copied"), [(1, True, True), (1, False, False), (0, True, False)])
def test_what_is_left_out_is_put_back_before_zeros_beside_it(padding: int, offset: bool, copied: bool) -> None:
    """A norm's offset goes into the weights behind it; but beyond the map there is none."""
    kernel = {**WEIGHTS, "k": (6, 6, 1, 1) if not padding else (6, 6, 3, 3)}
    blur = replace(convolution("blur", "norm", padding), stride=(1, 1) if padding else (2, 1))
    task = Task(name="t", kind="features", channels=0, cells=0, result="blur", grid=(2, 4))
    made = Network(name="n", operators=(*STEM, norm("norm", "map", offset=offset), blur), tasks=(task,), weights=kernel)
    assert ("norm.map" in names(made)) == copied


def test_a_map_and_its_tokens_are_one_tensor() -> None:
    """A stream, and a norm, that are read under two names are made once."""
    normed = norm("norm", "tokens", offset=False)
    again = Reshape(part="again", source="norm", to=(2, 4, 6))
    flat = Reshape(part="flat", source="blur", to=(8, 6))
    added = Add(part="sum", left="b", right="flat")
    found = names(network(normed, again, convolution("blur", "again"), flat, linear("b", "norm"), added, result="sum"))
    assert found.count("norm") == 1 and len(found) == len(set(found))


def test_what_attention_and_a_convolution_read_is_there_twice() -> None:
    """Attention lays heads, and V, in an order of its own."""
    value = linear("v", "tokens")
    attend = Attend(part="attend", query="tokens", key="tokens", value="v", heads=1, scale=1.0)
    lined = Reshape(part="lined", source="v", to=(2, 4, 6))
    flat = Reshape(part="flat", source="blur", to=(8, 6))
    added = Add(part="sum", left="attend", right="flat")
    steps = plan(network(value, attend, lined, convolution("blur", "lined"), flat, added, result="sum")).by_name
    attention, blur = steps["attend"], steps["sum"]
    assert isinstance(attention, AttentionStep) and attention.value.tensor == "attend.value"
    assert [step.name for step in steps.values() if isinstance(step, ProductStep) and step.taps is not None]
    assert isinstance(blur, ProductStep) and "v" in steps
