"""Every layout: places by hand, what they must hold, and values read back from it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tessera.program.layouts.base import Layout, WordLayout, occurrences
from tessera.program.layouts.routed import Accumulated, QueueEntries, QueuePositions
from tessera.program.layouts.rows import ApartRows, LastRows, ListedRows, Rows, RowsOf, TiledRows, Transposed, WideRows
from tessera.program.layouts.tiles import ExponentialTiles, GateLogits, QueryScaleTiles, ScoreTiles
from tessera.program.tensors import LAYOUTS, Tensor, layout_from_dict

QUEUES = [np.array([1, 3]), np.array([], np.int64), np.array([0, 1, 4])]
"""Tokens of three experts; the second has none, and token 1 goes to two."""

Case = tuple[WordLayout, tuple[int, ...], tuple[int, int, int], tuple[int, ...], int | None]
CASES: list[Case] = [
    # Layout, an element, its word, lane and occurrence, its golden index and token.
    (Rows(shape=(3, 10), lanes=4, stride=5, base=20), (2, 6), (31, 2, 0), (2, 6), 2),
    (
        Rows(shape=(2, 6), lanes=4, stride=9, base=1, block=3, first_row=7, first_channel=3),
        (1, 4),
        (11, 1, 0),
        (8, 7),
        8,
    ),
    (Rows(shape=(2, 3), lanes=4, stride=1, of=RowsOf.PATCHES, signed=False), (1, 2), (1, 2, 0), (1, 2), None),
    (Rows(shape=(4, 4), lanes=4, stride=1, of=RowsOf.OUTPUTS, padding=9), (3, 3), (3, 3, 0), (3, 3), None),
    (LastRows(shape=(2, 5), lanes=4, stride=2, base=3, first_row=1), (1, 4), (6, 0, 0), (2, 4), 2),
    (ListedRows(shape=(3, 5), lanes=4, stride=2, base=3, listed=(4, 0, 4)), (2, 4), (8, 0, 0), (4, 4), 4),
    (ApartRows(shape=(2, 5), lanes=4, stride=2, base=3, first_row=4, listed=(5, 8)), (1, 4), (12, 0, 0), (8, 4), 8),
    (TiledRows(shape=(2, 5), lanes=4, stride=2, base=3, elements=2), (1, 4), (6, 0, 0), (1, 4), 1),
    (WideRows(shape=(2, 5), lanes=4, stride=4, base=8), (1, 3), (13, 2, 0), (1, 3), 1),
    (Transposed(shape=(5, 6), lanes=4, stride=2, base=10, block=3, first_channel=6), (4, 5), (23, 0, 0), (4, 11), 4),
    (
        Transposed(shape=(10, 6), lanes=4, stride=6, base=10, block=3, window=5, window_stride=3),
        (9, 5),
        (50, 0, 0),
        (9, 5),
        9,
    ),
    (Transposed(shape=(6, 2), lanes=4, stride=1, block=2, window=3, window_stride=9), (5, 1), (10, 2, 0), (5, 1), 5),
    (GateLogits(shape=(3, 5), elements=2), (1, 4), (7, 0, 0), (1, 4), 1),
    (ScoreTiles(shape=(2, 5, 5), elements=2, room=8, first_head=3), (1, 2, 3), (3, 0, 2), (4, 2, 3), 2),
    (ExponentialTiles(shape=(2, 5, 5), elements=2, lanes=4, base=6, room=9), (0, 3, 4), (16, 1, 0), (0, 3, 4), 3),
    (QueryScaleTiles(shape=(2, 5), elements=2, base=2, first_head=1), (1, 4), (3, 0, 2), (2, 4), 4),
    (ScoreTiles(shape=(3, 2, 5, 7), elements=2, room=8, first_head=3), (2, 1, 4, 6), (14, 0, 8), (2, 4, 4, 6), 14),
    (
        ExponentialTiles(shape=(3, 1, 3, 5), elements=2, lanes=4, base=6, room=9),
        (1, 0, 2, 4),
        (16, 0, 1),
        (1, 0, 2, 4),
        5,
    ),
    (QueryScaleTiles(shape=(3, 2, 5), elements=2, base=2, first_head=1), (2, 0, 1), (2, 1, 6), (2, 1, 1), 11),
    (QueuePositions(shape=(5, 6), lanes=4, stride=2, base=4, padding=7), (3, 5), (7, 1, 1), (2, 1, 5), 1),
    (Accumulated(shape=(5, 6), lanes=4, stride=2), (3, 5), (3, 1, 1), (2, 1, 5), 1),
    (Accumulated(shape=(5, 6), lanes=4, stride=2, signed=False), (2, 0), (0, 0, 0), (2, 0, 0), 0),
]
BITS = 8
ids = [case[0].tag for case in CASES]


def queues_of(layout: WordLayout) -> list[np.ndarray]:
    return QUEUES if isinstance(layout, (QueuePositions, Accumulated)) else []


def values_of(layout: WordLayout) -> np.ndarray:
    """Random values of the layout's own shape, over the whole range."""
    rows = sum(map(len, QUEUES))
    shape = (rows, layout.shape[1]) if queues_of(layout) else layout.shape
    bits = BITS * layout.lanes_per_value
    low = -(1 << bits - 1) if layout.signed else 0
    return np.random.default_rng(1).integers(low, low + (1 << bits), shape)


@pytest.mark.parametrize(("layout", "element", "place", "index", "token"), CASES, ids=ids)
def test_an_element_is_where_it_is_by_hand(
    layout: WordLayout, element: tuple[int, ...], place: tuple[int, ...], index: tuple[int, ...], token: int | None
) -> None:
    queues = queues_of(layout)
    found = layout.locate(queues)
    assert (found.word[element], found.lane[element], found.occurrence[element]) == place
    number = int(np.ravel_multi_index(element, values_of(layout).shape))
    assert layout.index(number, queues) == index and layout.token(index, queues) == token
    assert len(layout.axes) == len(index)


@pytest.mark.parametrize("layout", [case[0] for case in CASES], ids=ids)
def test_no_two_elements_share_a_place_and_all_are_inside(layout: WordLayout) -> None:
    place = layout.locate(queues_of(layout))
    assert layout.contains(place.word).all() and (place.lane < layout.width).all()
    places = np.stack([place.occurrence, place.word, place.lane]).reshape(3, -1)
    assert len(np.unique(places, axis=1).T) == place.word.size
    assert not layout.contains(np.array([layout.base - 1, layout.base + layout.extent])).any()


@pytest.mark.parametrize("layout", [case[0] for case in CASES], ids=ids)
def test_values_come_back_from_the_words_that_hold_them(layout: WordLayout) -> None:
    values, queues = values_of(layout), queues_of(layout)
    expected = layout.expected_words(values, BITS, queues)
    assert expected.words.min() >= 0 and expected.words.max() < 1 << BITS
    assert (expected.element >= 0).sum() == values.size * layout.lanes_per_value
    assert (expected.words[expected.element < 0] == layout.padding).all()
    assert np.array_equal(layout.read_back(expected.words, BITS, queues), values)
    for at in np.argwhere(expected.element >= 0)[:: max(1, values.size // 20)]:
        word = expected.words[tuple(at[:-1])]
        assert layout.read(word, int(at[-1]), BITS) == values.reshape(-1)[expected.element[tuple(at)]]


@pytest.mark.parametrize("layout", [case[0] for case in CASES], ids=ids)
def test_a_lane_that_was_not_written_makes_its_value_nan(layout: WordLayout) -> None:
    queues = queues_of(layout)
    expected = layout.expected_words(values_of(layout), BITS, queues)
    at = tuple(np.argwhere(expected.element == 2)[-1])
    expected.words[at] = -1
    found = layout.read_back(expected.words, BITS, queues)
    assert np.flatnonzero(np.isnan(found)).tolist() == [2]


def test_rows_that_are_part_of_a_golden_tensor() -> None:
    layout = Rows(shape=(2, 3), lanes=4, stride=1, first_row=1, first_channel=2)
    golden = np.arange(30).reshape(5, 6)
    assert np.array_equal(layout.part(golden), golden[1:3, 2:5])
    scores = ScoreTiles(shape=(1, 2, 2), elements=2, room=4, first_head=2)
    golden = np.arange(12).reshape(3, 2, 2)
    assert np.array_equal(scores.part(golden), golden[2:])


def test_words_between_rows_belong_to_others() -> None:
    layout = Rows(shape=(2, 6), lanes=4, stride=5, base=10)
    assert layout.contains(np.arange(9, 18)).tolist() == [False, True, True, False, False, False, True, True, False]


@pytest.mark.parametrize("kind", [QueuePositions, Accumulated])
def test_without_queues_routed_rows_have_no_place(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"layout '{kind.tag}' depend on routing; give the experts' queues"):
        kind(shape=(5, 6), lanes=4, stride=2).locate()


def test_entries_of_queues_in_token_order() -> None:
    experts, weights = np.array([[2, 1], [0, 2], [1, 0]]), np.array([[9, 8], [7, 6], [5, 4]])
    queues = [np.array([1, 2]), np.array([0, 2]), np.array([0, 1])]
    layout = QueueEntries(shape=(3, 2), fields=("expert", "position", "token", "weight"))
    assert layout.expected_entries(experts, weights, queues).tolist() == [
        [2, 0, 0, 9],
        [1, 0, 0, 8],
        [0, 0, 1, 7],
        [2, 1, 1, 6],
        [1, 1, 2, 5],
        [0, 1, 2, 4],
    ]
    assert QueueEntries(shape=(3, 2), fields=("weight",)).expected_entries(experts, weights, queues)[:, 0].tolist() == [
        9, 8, 7, 6, 5, 4,
    ]  # fmt: skip


def test_occurrences_count_what_came_before() -> None:
    assert occurrences(np.array([4, 7, 4, 4, 1, 7])).tolist() == [0, 0, 1, 2, 0, 1]
    assert occurrences(np.array([], np.int64)).tolist() == []


@pytest.mark.parametrize(
    "layout",
    [*(case[0] for case in CASES), QueueEntries(shape=(3, 2), fields=("position", "token"))],
    ids=[*ids, QueueEntries.tag],
)
def test_a_layout_survives_json(layout: Layout) -> None:
    tensor = Tensor(name="layer03.x", space="scratchpad", layout=layout, routing="layer03.experts")
    loaded = Tensor.from_dict(json.loads(json.dumps(tensor.to_dict())))
    assert loaded == tensor and type(loaded.layout) is type(layout) and loaded.name == "layer03.x"
    assert type(layout_from_dict(layout.to_dict())) in LAYOUTS


def test_tags() -> None:
    assert len({layout.tag for layout in LAYOUTS}) == len(LAYOUTS) == len({*ids, QueueEntries.tag})
