"""A part of a job reports as a slice of the whole, through any number of levels."""

from __future__ import annotations

import pytest

from tessera.common import progress
from tessera.common.progress import Progress, silent, throttled, within

Steps = list[tuple[str, float, str]]


@pytest.fixture
def seen() -> Steps:
    return []


@pytest.fixture
def tell(seen: Steps) -> Progress:
    return lambda *step: seen.append(step)


def test_a_part_fills_its_slice_and_its_words_become_the_detail(seen: Steps, tell: Progress) -> None:
    part = within(tell, "build", 0.5, 0.75)
    part("map", 0.0, "")
    part("map", 0.5, "unit")
    part("", 1.0, "")
    assert seen == [("build", 0.5, "map"), ("build", 0.625, "map: unit"), ("build", 0.75, "")]


def test_parts_of_parts(seen: Steps, tell: Progress) -> None:
    inner = within(within(tell, "whole", 0.5), "half", stop=0.5)
    inner("step", 1.0, "")
    assert seen == [("whole", 0.75, "half: step")]


def test_words_for_the_whole_part_take_the_place_of_its_own(seen: Steps, tell: Progress) -> None:
    within(tell, "load", detail="making it")("layers", 0.5, "third")
    within(tell, "load", detail="")("layers", 1.0, "fourth")
    assert seen == [("load", 0.5, "making it"), ("load", 1.0, "")]


def test_a_part_of_what_nobody_follows_is_silent() -> None:
    assert within(silent, "stage") is silent
    silent("stage", 0.5, "")


def test_throttled_passes_on_the_first_and_the_last(
    seen: Steps, tell: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((100.0, 100.2, 100.3, 100.4, 100.4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    slow = throttled(tell, 0.25)
    for fraction in (0.1, 0.2, 0.3, 0.4, 1.0):
        slow("stage", fraction, "")
    assert [fraction for _, fraction, _ in seen] == [0.1, 0.3, 1.0]
