"""Packing arrays into port bits: exact for every regular layout, and strict about what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.sim.bench.packing import pack_beats, unpack_beats


def leaf(path="", offset=0, dims=(), strides=(), width=8, signed=False):
    return {"path": path, "offset": offset, "dims": dims, "strides": strides, "width": width, "signed": signed}


def test_bits_land_where_the_layout_says():
    leaves = [leaf("lanes", 0, (2,), (4,), 4, True), leaf("last", 8, width=1)]
    assert pack_beats(leaves, 9, {"lanes": np.array([[-1, 2]]), "last": np.array([1])}) == [0b1_0010_1111]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.booleans(), st.integers(1, 5), st.integers(1, 4), st.integers(0, 5), st.data())
def test_unpack_undoes_pack(width, signed, rows, columns, beats, data):
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    leaves = [leaf("a.b", 3, (rows, columns), (columns * width, width), width, signed), leaf("c", 0, width=3)]
    numbers = st.lists(st.integers(low, high), min_size=beats * rows * columns, max_size=beats * rows * columns)
    values = {
        "a.b": np.array(data.draw(numbers), dtype=np.int64).reshape(beats, rows, columns),
        "c": np.arange(beats),
    }
    port_width = 3 + rows * columns * width
    back = unpack_beats(leaves, port_width, pack_beats(leaves, port_width, values))
    assert all(np.array_equal(back[name], values[name]) for name in values)


@pytest.mark.parametrize("signed, value", [(True, 128), (True, -129), (False, 256), (False, -1)])
def test_value_that_does_not_fit_is_refused(signed, value):
    with pytest.raises(ValueError, match="exceed"):
        pack_beats([leaf(signed=signed)], 8, np.array([value]))


def test_wrong_shape_and_wrong_fields_are_refused():
    with pytest.raises(ValueError, match=r"got shape \(2, 3\), need \(2, 4\)"):
        pack_beats([leaf(dims=(4,), strides=(8,))], 32, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="the port has"):
        pack_beats([leaf("x")], 8, {"y": np.zeros(1)})
