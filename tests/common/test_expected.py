"""A value of a wrong kind: what was given and what is expected, in one sentence."""

import numpy as np
import pytest

from tessera.common.expected import MAYBE, PATH, WrongKindError, described, expect, several, whole


def test_what_is_of_the_kind_passes(tmp_path):
    expect("out", tmp_path, PATH, "a path")
    expect("out", None, (*PATH, MAYBE), "a path, or None")
    assert several("widths", [8, 12], "bits") == (8, 12)
    number = whole("lanes", np.int64(8), 1)
    assert number == 8 and type(number) is int


@pytest.mark.parametrize("habit", [ValueError, TypeError])
def test_both_habits_catch_it(habit):
    with pytest.raises(habit, match="^out is 5, of the type int; expected a path$"):
        expect("out", 5, PATH, "a path")


@pytest.mark.parametrize("value", ["8", 8.0, True, None, [8], np.array([8, 9]), np.float32(8)], ids=repr)
def test_what_is_no_whole_number(value):
    with pytest.raises(WrongKindError, match="^lanes is .*; expected a whole number of at least 1$"):
        whole("lanes", value, 1)


def test_a_number_too_small():
    with pytest.raises(ValueError, match="^lanes is 0; expected a whole number of at least 1$"):
        whole("lanes", 0, 1)


@pytest.mark.parametrize("value", ["tiny", b"tiny", 8, None])
def test_one_is_not_several(value):
    with pytest.raises(WrongKindError, match="^presets is .*; expected a list of names$"):
        several("presets", value, "names")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        ("8", "the text '8'"),
        (8.0, "8.0, of the type float"),
        (np.zeros((30, 30)), "of the type ndarray"),
        (object(), "of the type object"),
    ],
    ids=["none", "text", "float", "array", "object"],
)
def test_a_value_in_words(value, words):
    assert described(value) == words
