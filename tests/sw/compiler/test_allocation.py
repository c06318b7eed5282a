"""Addresses of regions from their lives, by hand."""

from __future__ import annotations

from tessera.sw.compiler.allocation import Allocation, Buffer, alive, buffers, first_fit
from tessera.sw.compiler.operations import Region
from tessera.sw.compiler.order import Life


def buffer(name: str, words: int, **lives: Life) -> Buffer:
    """A region alive in task 0, or as ``task0``, ``task1`` say."""
    by_task = {int(task.removeprefix("task")): life for task, life in lives.items()}
    return Buffer(region=Region(name=name, space="scratchpad", words=words), lives=by_task)


def always(name: str, words: int, first: int, last: int) -> Buffer:
    return buffer(name, words, task0=(first, last))


def test_lives_that_share_a_time_meet() -> None:
    early = always("early", 1, 0, 3)
    assert first_fit([early, always("a", 1, 3, 5)]) == {"early": 0, "a": 1}
    assert first_fit([early, always("b", 1, 4, 5)]) == {"early": 0, "b": 0}
    assert first_fit([]) == {}


def test_regions_of_different_tasks_never_meet() -> None:
    first, second = buffer("a", 1, task0=(0, 9)), buffer("b", 1, task1=(0, 9))
    both = buffer("c", 1, task0=(20, 30), task1=(0, 1))
    assert first_fit([first, second]) == {"a": 0, "b": 0}
    assert first_fit([first, both]) == {"a": 0, "c": 0} and first_fit([second, both]) == {"b": 0, "c": 1}


def test_first_fit_sees_buffers_hidden_behind_larger_ones() -> None:
    wall, both = always("wall", 10, 0, 0), always("both", 3, 0, 1)
    low, high = always("low", 2, 1, 1), always("high", 2, 1, 1)
    assert first_fit([wall, low, high, both]) == {"wall": 0, "low": 0, "high": 2, "both": 10}


def test_gaps_are_filled_if_they_are_wide_enough() -> None:
    table = [
        always("a", 4, 0, 9),
        always("b", 3, 0, 1),
        always("c", 4, 0, 9),
        always("d", 3, 2, 9),
        always("e", 4, 2, 9),
    ]
    assert first_fit(table) == {"a": 0, "b": 4, "c": 7, "d": 4, "e": 11}


def test_what_is_alive_at_once_is_the_least_that_any_allocation_takes() -> None:
    table = [always("a", 5, 0, 4), always("b", 7, 4, 8), always("c", 9, 5, 8)]
    assert alive(table) == 16
    assert alive([buffer("a", 5, task0=(0, 4)), buffer("b", 7, task1=(0, 4))]) == 7
    assert alive([]) == 0


def test_the_better_of_both_orders_is_taken() -> None:
    """By time, the small one that comes first lies in the way; by size, the large one takes the bottom."""
    table = [always("small", 2, 0, 5), always("large", 10, 4, 9), always("late", 10, 6, 20), always("last", 3, 0, 0)]
    by_time = sorted(table, key=lambda one: (one.start, -one.words))
    places = first_fit(by_time)
    peak = max(places[one.region.name] + one.words for one in table)
    made = Allocation.of(table)
    assert made.peak <= peak and made.peak >= alive(table)
    assert made.bases.keys() == {"small", "large", "late", "last"}
    assert Allocation.of([]) == Allocation({}, 0)


def test_only_regions_that_are_used_become_buffers() -> None:
    regions = {name: Region(name=name, space="scratchpad", words=3) for name in ("used", "unused")}
    found = buffers(regions, [{"used": (2, 4), "elsewhere": (0, 1)}, {"used": (0, 9)}])
    assert [(one.region.name, one.lives, one.start) for one in found] == [("used", {0: (2, 4), 1: (0, 9)}, 0)]
