"""Safetensors files with their metadata in order: nothing else about them changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

from tessera.golden.tensor_files import ordered

TENSORS = {"b": np.arange(6, dtype=np.int16).reshape(2, 3), "a": np.float64([0.5]), "empty": np.zeros((0, 4), np.uint8)}


@pytest.mark.parametrize("metadata", [None, {}, {name: f'{name} é " \\ \n' for name in "zyxwvutsrq"}])
def test_tensors_and_metadata_stay(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    data = ordered(save(TENSORS, metadata=metadata))
    assert ordered(data) == data and {ordered(save(TENSORS, metadata=metadata)) for _ in range(8)} == {data}
    for name, value in load(data).items():
        assert value.dtype == TENSORS[name].dtype and np.array_equal(value, TENSORS[name])
    assert load(data).keys() == TENSORS.keys()
    (tmp_path / "file").write_bytes(data)
    with safe_open(tmp_path / "file", framework="np") as file:
        assert (file.metadata() or {}) == (metadata or {})
    start = 8 + int.from_bytes(data[:8], "little")
    assert start % 8 == 0


def test_metadata_come_in_the_order_of_their_names() -> None:
    data = ordered(save(TENSORS, metadata={name: "" for name in "zyxwvutsrq"}))
    places = [data.index(f'"{name}":""'.encode()) for name in sorted("zyxwvutsrq")]
    assert places == sorted(places)
