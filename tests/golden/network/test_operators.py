"""Operators: the shape of what each makes, and what they refuse, by name."""

from __future__ import annotations

from typing import Any

import pytest

from tessera.golden.network import operators
from tessera.golden.network.operators import (
    KINDS,
    Activate,
    ActivationFunction,
    Add,
    Attend,
    Constant,
    Convolution,
    Join,
    Linear,
    MixExperts,
    Multiply,
    Normalise,
    Operator,
    Parameter,
    Part,
    PictureInput,
    Reshape,
    Shape,
    UnsuitableError,
)

WEIGHTS: dict[str, Shape] = {
    "matrix": (6, 4),
    "bias": (6,),
    "stacked": (3, 6, 4),
    "filters": (8, 2, 3, 5),
    "gain": (4,),
    "token": (1, 1, 4),
    "rows": (1, 7, 4),
    "values": (4, 4, 4, 4),
    "scores": (2, 5, 7),
    "gate": (4, 3),
    "longer_gate": (6, 3),
    "embedding": (2, 2),
    "first": (3, 10, 4),
    "first_bias": (3, 10),
    "second": (3, 4, 10),
    "second_bias": (3, 4),
}


def of(name: str, item: int | None = None, *, transposed: bool = False) -> Parameter:
    return Parameter(tensor=name, item=item, transposed=transposed)


def experts(**changes: Any) -> MixExperts:
    fields: dict[str, Any] = {
        "gates": (of("gate"), of("gate")),
        "first_weight": of("first"),
        "first_bias": of("first_bias"),
        "second_weight": of("second"),
        "second_bias": of("second_bias"),
        "top_k": 2,
    }
    return MixExperts(part="experts", source="x", **(fields | changes))


def attend(**changes: Any) -> Attend:
    return Attend(**({"part": "a", "query": "q", "key": "k", "value": "v", "heads": 2, "scale": 1.0} | changes))


CASES: list[tuple[Operator, list[Shape], Shape]] = [
    (PictureInput(part="picture", height=8, width=16), [], (8, 16, 3)),
    (Constant(part="c", value=of("token")), [], (1, 4)),
    (Constant(part="c", value=of("rows")), [], (7, 4)),
    (Linear(part="l", source="x", weight=of("matrix"), bias=of("bias")), [(9, 4)], (9, 6)),
    (Linear(part="l", source="x", weight=of("matrix")), [(3, 3, 4)], (3, 3, 6)),
    (Linear(part="l", source="x", weight=of("stacked", 2)), [(9, 4)], (9, 6)),
    (Linear(part="l", source="x", weight=of("matrix", transposed=True)), [(9, 6)], (9, 4)),
    (Convolution(part="c", source="x", weight=of("filters")), [(9, 10, 2)], (7, 6, 8)),
    (Convolution(part="c", source="x", weight=of("filters"), groups=4), [(9, 10, 8)], (7, 6, 8)),
    (
        Convolution(part="c", source="x", weight=of("filters"), stride=(2, 3), padding=(1, 2, 1, 2)),
        [(9, 10, 2)],
        (5, 4, 8),
    ),
    (Normalise(part="n", source="x", weight=of("gain"), epsilon=1e-6), [(9, 4)], (9, 4)),
    (Activate(part="a", source="x", function=ActivationFunction.GELU), [(2, 3, 4)], (2, 3, 4)),
    (Add(part="a", left="x", right="y"), [(9, 4), (9, 4)], (9, 4)),
    (Multiply(part="m", left="x", right="y"), [(9, 4), (9, 4)], (9, 4)),
    (attend(), [(5, 4), (7, 4), (7, 6)], (5, 6)),
    (attend(bias=of("scores")), [(5, 4), (7, 4), (7, 6)], (5, 6)),
    (experts(), [(9, 4)], (9, 4)),
    (
        experts(gates=(of("longer_gate"),) * 2, embeddings=(of("embedding", 0), of("embedding", 1))),
        [(9, 4)],
        (9, 4),
    ),
    (Join(part="j", parts=("x", "y"), axis="rows"), [(1, 4), (9, 4)], (10, 4)),
    (Join(part="j", parts=("x", "y"), axis="channels"), [(9, 4), (9, 3)], (9, 7)),
    (Part(part="p", source="x", axis="rows", start=1, stop=4), [(9, 4)], (3, 4)),
    (Part(part="p", source="x", axis="channels", start=1, stop=4), [(9, 4)], (9, 3)),
    (Reshape(part="r", source="x", to=(9, 4)), [(3, 3, 4)], (9, 4)),
]


@pytest.mark.parametrize(("operator", "sources", "shape"), CASES, ids=lambda value: getattr(value, "tag", ""))
def test_shapes(operator: Operator, sources: list[Shape], shape: Shape) -> None:
    assert operator.shape(sources, WEIGHTS) == shape
    assert len(operator.sources) == len(sources)


REFUSED: list[tuple[Operator, list[Shape], str]] = [
    (
        Linear(part="l", source="x", weight=of("matrix")),
        [(9, 5)],
        r"l \(linear\): a row of its source .*\(5,\).*\(4,\)",
    ),
    (Linear(part="l", source="x", weight=of("matrix"), bias=of("gain")), [(9, 4)], r"its bias .*\(4,\).*\(6,\)"),
    (Linear(part="l", source="x", weight=of("none")), [(9, 4)], "no weights are called 'none'"),
    (Convolution(part="c", source="x", weight=of("filters")), [(90, 2)], "expected a map"),
    (Convolution(part="c", source="x", weight=of("filters")), [(9, 10, 3)], r"a position of its source .*\(3,\)"),
    (Convolution(part="c", source="x", weight=of("filters")), [(9, 4, 2)], "a kernel of .* does not fit"),
    (Convolution(part="c", source="x", weight=of("filters"), groups=3), [(9, 10, 6)], "in 3 groups does not fit"),
    (Constant(part="c", value=of("bias")), [], r"its value has the shape \(6,\); expected \(rows, channels\)"),
    (Constant(part="c", value=of("values")), [], r"its value has the shape \(4, 4, 4, 4\)"),
    (Normalise(part="n", source="x", weight=of("gain"), epsilon=0.0), [(9, 5)], r"its gain .*\(4,\).*\(5,\)"),
    (Add(part="a", left="x", right="y"), [(9, 4), (8, 4)], r"'y' has the shape \(8, 4\), expected \(9, 4\)"),
    (Multiply(part="m", left="x", right="y"), [(9, 4), (9, 5)], r"'y' has the shape"),
    (attend(), [(5, 4), (7, 6), (7, 6)], r"a key has the shape \(6,\)"),
    (attend(), [(5, 4), (7, 4), (6, 6)], "the number of values"),
    (attend(heads=3), [(5, 4), (7, 4), (7, 6)], "no whole number of 3 heads"),
    (attend(bias=of("scores")), [(4, 4), (7, 4), (7, 6)], "its bias has the shape"),
    (experts(top_k=4), [(9, 4)], r"top_k is 4, expected 1 to the number of experts \(3\)"),
    (experts(gates=(of("gate"), of("longer_gate"))), [(9, 4)], "gate 1 has the shape"),
    (experts(second_bias=of("first_bias")), [(9, 4)], "its second bias"),
    (Join(part="j", parts=("x", "y"), axis="rows"), [(1, 4), (9, 5)], "a row of a part"),
    (Join(part="j", parts=("x", "y"), axis="channels"), [(9, 4), (8, 4)], "a part, without its channels,"),
    (Part(part="p", source="x", axis="rows", start=4, stop=10), [(9, 4)], "rows 4 to 10 lie outside the 9 of 'x'"),
    (Part(part="p", source="x", axis="channels", start=2, stop=2), [(9, 4)], "channels 2 to 2 lie outside"),
    (Reshape(part="r", source="x", to=(8, 4)), [(3, 3, 4)], r"\(3, 3, 4\) cannot be arranged as \(8, 4\)"),
]


@pytest.mark.parametrize(("operator", "sources", "message"), REFUSED, ids=[case[2] for case in REFUSED])
def test_what_does_not_fit_is_refused(operator: Operator, sources: list[Shape], message: str) -> None:
    with pytest.raises(UnsuitableError, match=message):
        operator.shape(sources, WEIGHTS)


def test_names_and_parameters() -> None:
    made = Linear(place="layer03", part="fc", source="x", weight=of("matrix"), bias=of("bias"))
    assert made.name == "layer03.fc" and Linear(part="fc", source="x", weight=of("matrix")).name == "fc"
    assert made.parameters == (of("matrix"), of("bias"))
    assert len(experts().parameters) == 6, "a gate for each task, and four of the experts"
    assert experts().by_task and not made.by_task
    assert (experts().experts(WEIGHTS), experts().hidden(WEIGHTS)) == (3, 10)


def test_every_kind_has_a_tag_of_its_own() -> None:
    kinds = [
        kind
        for kind in vars(operators).values()
        if isinstance(kind, type) and issubclass(kind, Operator) and hasattr(kind, "tag")
    ]
    assert {kind.tag: kind for kind in kinds} == KINDS and len(kinds) == len(KINDS)
